"""Files as administrators have them: made by OpenSSL's commands and library and by keytool."""

from __future__ import annotations

import ctypes
import ctypes.util
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from centcert.credential import Credential, decode
from centcert.errors import BlobDamaged, WrongPassword
from centcert.pkcs12_rsa import open_rsa
from centcert.testing import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.testing import Issued

EXPORT = "openssl pkcs12 -export -inkey key.pem -in leaf.pem -certfile chain.pem -name site"
PASSWORD = "correct horse"
NAME = "www.contoso.example"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue(NAME, key_type="rsa-2048")


@pytest.fixture(scope="module")
def material(
    authority: Authority, issued: Issued, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with key.pem, leaf.pem, chain.pem (also the root and a stranger), all.pem."""
    folder = tmp_path_factory.mktemp("material")
    key = issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    stranger = Authority().root
    chain = [authority.root, stranger, *issued.chain]
    (folder / "key.pem").write_bytes(key)
    (folder / "leaf.pem").write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    return folder


def run(command: str, *more: str, folder: Path) -> None:
    """Run ``command``, split at its blanks, with ``more`` arguments as they are."""
    words = [*command.split(), *more]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout


def read(data: bytes, *passwords: str) -> Credential:
    encoded = [password.encode() for password in passwords]
    return decode(data, key="www.contoso.example.pfx", passwords=encoded)


def assert_opened_alike(data: bytes, password: str, *, short: bool) -> None:
    """See that the short way to an RSA key finds what the library finds, or leaves it to it."""
    encoded = password.encode() or None
    opened, loaded = open_rsa(data, encoded), pkcs12.load_pkcs12(data, encoded)
    assert (opened is not None) is short
    if opened is not None:
        private_key, certificates = opened
        assert isinstance(loaded.key, rsa.RSAPrivateKey)
        assert private_key.private_numbers() == loaded.key.private_numbers()
        entries = [*([loaded.cert] if loaded.cert else []), *loaded.additional_certs]
        assert {one.certificate for one in entries} == set(certificates)
        assert len(entries) == len(certificates)


def assert_whole(credential: Credential, issued: Issued) -> None:
    assert credential.certificate == issued.certificate
    assert credential.issuers == issued.chain
    assert credential.patterns == (NAME,)


# --- openssl pkcs12 -------------------------------------------------------------------

AES_256_SHA_256 = "-keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256 -iter 2000"
TRIPLE_DES_SHA_1 = "-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -iter 2000"
CHOICES = {
    "OpenSSL 3": "",
    "OpenSSL 1.1": "-legacy",  # RC2-40 for certificates, 3DES for the key
    "Windows AES256-SHA256": f"{AES_256_SHA_256} -LMK -CSP Microsoft",
    "Windows TripleDES-SHA1": f"{TRIPLE_DES_SHA_1} -LMK -CSP Microsoft",
    "AES-128, SHA-512": "-keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512",
    "MD5": "-macalg md5",
    "SHA3-256": "-macalg sha3-256",
    "two-key 3DES": "-keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-2DES",
    "RC2-128": "-legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128",
    "RC4-128": "-legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC4-128",
    "RC4-40": "-legacy -keypbe PBE-SHA1-RC4-40 -certpbe PBE-SHA1-RC4-40",
    "DES": "-legacy -keypbe PBE-MD5-DES -certpbe PBE-MD5-DES",
    "Camellia": "-keypbe camellia-256-cbc -certpbe camellia-128-cbc",
    "ARIA": "-keypbe aria-256-cbc -certpbe aria-128-cbc",
    "key alone encrypted": "-keypbe AES-256-CBC -certpbe NONE",
    "not encrypted, with MAC": "-keypbe NONE -certpbe NONE",
    "no MAC": "-nomac",
    "one round": "-iter 1 -nomaciter",
}


LEFT_TO_THE_LIBRARY = {
    *("MD5", "SHA3-256", "no MAC"),
    *("two-key 3DES", "RC2-128", "RC4-40", "Camellia", "ARIA"),
}


@pytest.mark.parametrize("maker", CHOICES)
def test_what_openssl_pkcs12_writes(maker: str, material: Path, issued: Issued) -> None:
    command = f"{EXPORT} -out made.pfx {CHOICES[maker]}"
    run(command, "-passout", f"pass:{PASSWORD}", folder=material)
    data = (material / "made.pfx").read_bytes()
    assert_opened_alike(data, PASSWORD, short=maker not in LEFT_TO_THE_LIBRARY)
    assert_whole(read(data, "an older one", PASSWORD), issued)
    with pytest.raises(WrongPassword):
        read(data, "wrong")
    with pytest.raises(BlobDamaged):
        read(data[:-7], PASSWORD)


def test_a_password_outside_ascii(material: Path, issued: Issued) -> None:
    password = "Grüße €"
    run(f"{EXPORT} -out u.pfx", "-passout", f"pass:{password}", folder=material)
    data = (material / "u.pfx").read_bytes()
    assert_opened_alike(data, password, short=True)
    assert_whole(read(data, password), issued)


@pytest.mark.parametrize("choice", ["", "-legacy", "-nomac"])
def test_an_empty_password(choice: str, material: Path, issued: Issued) -> None:
    run(f"{EXPORT} -out e.pfx -passout pass: {choice}", folder=material)
    data = (material / "e.pfx").read_bytes()
    assert_opened_alike(data, "", short=not choice)
    assert_whole(read(data), issued)
    assert_whole(read(data, PASSWORD), issued)


def test_no_password_as_windows_writes_it(issued: Issued) -> None:
    """Windows derives the MAC from no string, OpenSSL from an empty one; the keys differ."""
    data = issued.pfx()
    with_null = null_password_mac(data)
    assert len(with_null) == len(data)
    assert_opened_alike(with_null, "", short=True)
    assert_whole(read(with_null), issued)
    assert_whole(read(with_null, PASSWORD), issued)


def null_password_mac(pfx: bytes) -> bytes:
    """Give a file whose contents are not encrypted the MAC of a NULL password."""
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
    for name in ("d2i_PKCS12", "EVP_sha256"):
        getattr(crypto, name).restype = ctypes.c_void_p
    start = ctypes.c_char_p(pfx)
    pkcs12 = ctypes.c_void_p(crypto.d2i_PKCS12(None, ctypes.byref(start), len(pfx)))
    assert crypto.PKCS12_verify_mac(pkcs12, b"", 0) == 1
    digest = ctypes.c_void_p(crypto.EVP_sha256())
    assert crypto.PKCS12_set_mac(pkcs12, None, 0, None, 8, 2_048, digest) == 1
    assert crypto.PKCS12_verify_mac(pkcs12, b"", 0) == 0
    assert crypto.PKCS12_verify_mac(pkcs12, None, 0) == 1
    buffer = ctypes.create_string_buffer(len(pfx) + 64)
    end = ctypes.cast(buffer, ctypes.c_void_p)
    size = crypto.i2d_PKCS12(pkcs12, ctypes.byref(end))
    crypto.PKCS12_free(pkcs12)
    return buffer.raw[:size]


# --- PEM ------------------------------------------------------------------------------


@pytest.mark.parametrize("newkey", ["ec -pkeyopt ec_paramgen_curve:P-384", "rsa:2048", "ed25519"])
@pytest.mark.parametrize("protect", ["-noenc", "-passout pass:secret"])
def test_what_openssl_req_writes(newkey: str, protect: str, tmp_path: Path) -> None:
    run(
        f"openssl req -x509 -keyout key.pem -out leaf.pem -subj /CN=x -newkey {newkey} {protect}"
        f" -addext subjectAltName=DNS:{NAME},IP:127.0.0.1",
        folder=tmp_path,
    )
    for parts in (("key.pem", "leaf.pem"), ("leaf.pem", "key.pem")):
        credential = read(b"".join((tmp_path / part).read_bytes() for part in parts), "secret")
        assert credential.patterns == (NAME,)
        assert credential.issuers == ()


@pytest.mark.parametrize(
    "convert",
    ["pkcs12 -in made.pfx -nodes", "pkcs12 -in made.pfx -passout pass:correct-horse"],
    ids=["clear", "encrypted"],
)
def test_what_openssl_pkcs12_unpacks(convert: str, material: Path, issued: Issued) -> None:
    run(f"{EXPORT} -out made.pfx", "-passout", f"pass:{PASSWORD}", folder=material)
    run(f"openssl {convert} -out all.pem", "-passin", f"pass:{PASSWORD}", folder=material)
    assert_whole(read((material / "all.pem").read_bytes(), "correct-horse"), issued)


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_what_openssl_ecparam_writes(curve: str, tmp_path: Path) -> None:
    run(f"openssl ecparam -name {curve} -genkey -out key.pem", folder=tmp_path)
    run("openssl req -x509 -key key.pem -subj /CN=x -out leaf.pem", folder=tmp_path)
    key = (tmp_path / "key.pem").read_bytes()
    assert key.startswith(b"-----BEGIN EC PARAMETERS-----")
    read(key + (tmp_path / "leaf.pem").read_bytes())


# --- keytool --------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True], ids=["today", "before Java 8u301"])
def test_what_keytool_writes(*, legacy: bool, material: Path, issued: Issued) -> None:
    """An imported key entry with its chain, beside a trusted certificate."""
    old = ("-J-Dkeystore.pkcs12.legacy",) if legacy else ()
    run(f"{EXPORT} -out made.pfx", "-passout", f"pass:{PASSWORD}", folder=material)
    made = f"keytool-{legacy}.p12"
    run(
        f"keytool -importkeystore -noprompt -srckeystore made.pfx -destkeystore {made}",
        *("-srcstorepass", PASSWORD, "-deststoretype", "PKCS12", "-deststorepass", PASSWORD, *old),
        folder=material,
    )
    (material / "stranger.pem").write_bytes(Authority().root_pem)
    run(
        f"keytool -importcert -noprompt -alias stranger -file stranger.pem -keystore {made}",
        *("-storepass", PASSWORD, *old),
        folder=material,
    )
    data = (material / made).read_bytes()
    assert_opened_alike(data, PASSWORD, short=True)
    assert_whole(read(data, "wrong", PASSWORD), issued)
    with pytest.raises(WrongPassword):
        read(data, "wrong")


def test_what_keytool_generates(tmp_path: Path) -> None:
    run(
        "keytool -genkeypair -alias site -keyalg EC -groupname secp256r1 -dname CN=x"
        f" -ext san=dns:{NAME} -ext eku=serverAuth -storetype PKCS12 -keystore made.p12",
        *("-storepass", PASSWORD),
        folder=tmp_path,
    )
    credential = read((tmp_path / "made.p12").read_bytes(), PASSWORD)
    assert credential.patterns == (NAME,)
    assert credential.issuers == ()
