from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from centcert.admin.pfx import write_pfx
from centcert.credential import decode
from centcert.errors import SettingsError, WrongPassword
from centcert.testing import Authority, KeyType

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("key_type", ["ec-p256", "ec-p384", "rsa-2048", "ed25519"])
@pytest.mark.parametrize("password", [b"a", "Schlüssel 鍵 🔑".encode(), b"x" * 200, None])
def test_what_is_written_is_read_as_it_was(key_type: KeyType, password: bytes | None):
    issued = Authority().issue("www.contoso.example", key_type=key_type)
    credential = decode(issued.pem(), key="x", passwords=())
    written = write_pfx(credential, password)
    read = decode(written, key="x", passwords=() if password is None else [password])
    assert (read.fingerprint, read.issuers) == (credential.fingerprint, credential.issuers)
    if password is not None:
        with pytest.raises(WrongPassword):
            decode(written, key="x", passwords=())


@pytest.mark.parametrize("password", ["Schlüssel 鍵", ""])
def test_openssl_reads_it(tmp_path: Path, password: str):
    credential = decode(Authority().issue("a.example").pem(), key="x", passwords=())
    (tmp_path / "a.pfx").write_bytes(write_pfx(credential, password.encode() or None))
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    read = subprocess.run(
        ["openssl", "pkcs12", "-in", "a.pfx", "-passin", "file:password", "-nodes"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout
    pem = read[read.index(b"-----BEGIN") :]
    assert decode(pem, key="x", passwords=()).fingerprint == credential.fingerprint


@pytest.mark.parametrize("password", [b"", b"\xff", b"a\0b"])
def test_no_password_that_programs_read_differently(password: bytes):
    credential = decode(Authority().issue("a.example").pem(), key="x", passwords=())
    with pytest.raises(SettingsError, match="is text in UTF-8, and not empty"):
        write_pfx(credential, password)
