"""What the commands that write into a store ask at a terminal, and what they never show there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from centcert.credential import decode
from centcert.demo.samba import PrivateSamba
from centcert.testing import Authority
from tests.served import CENTCERT

if TYPE_CHECKING:
    from collections.abc import Iterator

WWW = "www.contoso.example"


@pytest.fixture
def samba() -> Iterator[PrivateSamba]:
    root = Path(tempfile.mkdtemp(prefix="smb"))
    try:
        with PrivateSamba(root) as samba:
            yield samba
    finally:
        shutil.rmtree(root)


class Terminal:
    """A command at a terminal, and everything it showed there."""

    def __init__(self, home: Path, *arguments: str, columns: int = 200) -> None:
        self._child = pexpect.spawn(
            CENTCERT[0],
            [*CENTCERT[1:], *arguments],
            cwd=str(home),
            env={**os.environ, "CENTCERT_CONFIG": "", "COLUMNS": str(columns)},
            dimensions=(40, columns),
            encoding="utf-8",
            timeout=30,
        )
        self.shown = ""

    def answer(self, question: str, answer: str) -> None:
        self._child.expect_exact(question)
        self.shown += str(self._child.before)
        if not question.endswith("[y/N]: "):
            assert self._child.waitnoecho()  # type: ignore[func-returns-value]  # the stub is wrong
        self._child.sendline(answer)

    def end(self) -> int:
        self._child.expect(pexpect.EOF)
        self.shown += str(self._child.before)
        self._child.close()
        assert self._child.exitstatus is not None
        return self._child.exitstatus


def test_passwords_are_asked_for_and_not_shown(samba: PrivateSamba, tmp_path: Path):
    issued = Authority().issue(WWW)
    (tmp_path / "site.pfx").write_bytes(issued.pfx(b"secret one"))
    url = f"smb://127.0.0.1:{samba.port}/{samba.publish_share}"
    options = ("--store", url, "--username", samba.username)

    publish = Terminal(tmp_path, "publish", "site.pfx", *options)
    publish.answer(f"Password of {samba.username}: ", samba.password)
    publish.answer("Password of site.pfx: ", "mistyped")
    publish.answer("Password of site.pfx: ", "secret one")
    assert publish.end() == 0
    assert "Published into smb://" in publish.shown
    for secret in (samba.password, "mistyped", "secret one"):
        assert secret not in publish.shown

    export = Terminal(tmp_path, "export", WWW, *options)
    export.answer(f"Password of {samba.username}: ", samba.password)
    export.answer(f"New password of {WWW}.pfx: ", "secret two")
    export.answer("Repeat for confirmation: ", "secret two")
    assert export.end() == 0
    assert "secret two" not in export.shown
    exported = (tmp_path / f"{WWW}.pfx").read_bytes()
    read = decode(exported, key="x", passwords=[b"secret two"])
    assert read.certificate == issued.certificate


@pytest.mark.parametrize("secret", ["password_file", "keytab"])
def test_the_account_of_the_settings_lends_its_secret_to_no_other(
    samba: PrivateSamba, tmp_path: Path, secret: str
):
    (tmp_path / "site.pem").write_bytes(Authority().issue(WWW).pem())
    url = f"smb://127.0.0.1:{samba.port}/{samba.publish_share}"
    (tmp_path / "centcert.toml").write_text(
        f'[store]\nurl = "{url}"\nusername = "reader"\n{secret} = "none"\n'
    )
    publish = Terminal(
        tmp_path, "publish", "site.pem", "--config", "centcert.toml", "--username", samba.username
    )
    publish.answer(f"Password of {samba.username}: ", samba.password)
    assert publish.end() == 0
    assert (samba.folder / f"{WWW}.pfx").exists()


def test_removal_is_confirmed(tmp_path: Path):
    (tmp_path / "site.pem").write_bytes(Authority().issue(WWW).pem())
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / f"{WWW}.pfx"
    publish = Terminal(tmp_path, "publish", "site.pem", "--store", "store")
    assert publish.end() == 0
    question = f"Remove {WWW} from store? [y/N]: "
    for answer, code in (("n", 1), ("", 1), ("y", 0)):
        remove = Terminal(tmp_path, "remove", WWW, "--store", "store")
        remove.answer(question, answer)
        assert remove.end() == code
        assert ("Nothing was removed." in remove.shown) is (code != 0)
        assert file.exists() is (code != 0)


def test_what_was_looked_at_fits_the_terminal(tmp_path: Path):
    names = [f"{number}.contoso.example" for number in range(9)]
    (tmp_path / "site.pem").write_bytes(Authority().issue(*names).pem())
    (tmp_path / "store").mkdir()
    publish = Terminal(tmp_path, "publish", "site.pem", "--store", "store", columns=60)
    assert publish.end() == 0
    about = publish.shown.partition("Published into")[0].splitlines()
    assert max(map(len, about)) <= 60
    assert [name for name in names if name not in " ".join(about)] == []
