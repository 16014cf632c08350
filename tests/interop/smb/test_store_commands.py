"""``centcert enable``, ``set``, ``get`` and ``clear`` with the store on a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.cli.store_commands import Changed
from tests.commands import centcert

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba

WRONG = "not the password"


class Setup:
    """A settings file that names a share, and the commands that change it."""

    def __init__(self, home: Path, samba: PrivateSamba) -> None:
        self.home = home
        self.file = home / "centcert.toml"
        self.password = home / "secrets" / "password"
        self.samba = samba
        self.share = f"smb://{samba.host}:{samba.port}/{samba.share}"
        for name in ("www.contoso.example.pfx", "_.contoso.example.pfx", "notes.txt"):
            (samba.folder / name).touch()

    def __call__(
        self, *arguments: str | Path, typed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        more = () if arguments[0] == "get" else ("--control", self.home / "none")
        said = centcert(*arguments, "--config", self.file, *more, typed=typed)
        for password in (self.samba.password, WRONG):
            assert password not in said.stdout + said.stderr
        return said

    def enabled(self) -> Setup:
        self.password.parent.mkdir(mode=0o700)
        self.password.touch(mode=0o600)
        self.password.write_text(f"{self.samba.password}\n", encoding="utf-8")
        self.file.write_text(
            f'[store]\nurl = "{self.share}"\nusername = "{self.samba.username}"\n'
            f'password_file = "{self.password}"\n',
            encoding="utf-8",
        )
        return self

    @property
    def files(self) -> tuple[str, str]:
        return self.file.read_text(encoding="utf-8"), self.password.read_text(encoding="utf-8")


@pytest.fixture
def setup(samba: PrivateSamba, tmp_path: Path) -> Setup:
    return Setup(tmp_path, samba)


def test_a_share_is_enabled_with_a_typed_password(setup: Setup):
    where = ("--store", setup.share, "--username", setup.samba.username, "--password")
    said = setup("enable", *where, typed=f"{setup.samba.password}\n")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == (
        f"store     {setup.share}\n"
        "enabled   yes\n"
        f"account   {setup.samba.username}\n"
        f"password  {setup.password}\n"
        f"settings  {setup.file}\n"
        "found     3 files, 2 named as certificates\n"
        f"server    {setup.samba.host}:{setup.samba.port}, SMB 3.1.1, AES-128-GCM\n"
        "node      none runs with these settings\n"
    )
    before = setup.files
    assert before[0].endswith(
        f'[store]\nurl = "{setup.share}"\nusername = "{setup.samba.username}"\n'
        f'password_file = "{setup.password}"\n'
    )
    assert before[1] == f"{setup.samba.password}\n"
    assert setup.password.stat().st_mode & 0o777 == 0o600


def test_the_credential_alone_is_changed(setup: Setup):
    setup.enabled()
    settings, _ = setup.files
    old = setup.samba.password
    setup.samba.change_password("a new one")
    try:
        said = setup("set", "--password", typed="a new one\n")
        assert (said.returncode, said.stderr) == (0, "")
        assert setup.files == (settings, "a new one\n")
    finally:
        setup.samba.change_password(old)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--password", "--keytab", "/none"),
            "FILE: store: A share needs an account: username, and",
        ),
        (("--password",), "HOST refuses the account USER: "),
        (("--store", "smb://HOST/nothing"), "HOST has no share of files called nothing: check the"),
        (("--store", "smb://HOST/certs/none"), "The share certs on HOST shows the account USER no"),
        (("--username", "somebody"), "HOST refuses the account somebody: "),
    ],
)
def test_what_does_not_work_is_not_saved(setup: Setup, arguments: tuple[str, ...], sentence: str):
    before = setup.enabled().files
    host = f"{setup.samba.host}:{setup.samba.port}"
    said = setup("set", *(one.replace("HOST", host) for one in arguments), typed=f"{WRONG}\n")
    wanted = sentence.replace("HOST", host).replace("USER", setup.samba.username)
    wanted = wanted.replace("FILE", str(setup.file))
    assert (said.returncode, said.stdout) == (2 if "FILE" in sentence else 1, "")
    assert said.stderr.startswith(f"centcert: {wanted}"), said.stderr
    assert said.stderr.count("\n") == 1
    assert setup.files == before


def test_a_keytab_takes_the_place_of_a_password(setup: Setup):
    keytab = setup.enabled().home / "keytab"
    keytab.touch(mode=0o600)
    said = setup("set", "--keytab", keytab, "--no-check", "--json")
    (secret,) = msgspec.json.decode(said.stdout, type=Changed).setup.secrets
    assert (secret.setting, secret.source, secret.problem) == ("keytab", str(keytab), None)
    assert "password_file" not in setup.file.read_text(encoding="utf-8")


def test_a_password_file_that_others_may_read_is_refused(setup: Setup):
    setup.enabled().password.chmod(0o644)
    said = setup("enable")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        f"centcert: {setup.password} is open to others than its owner: chmod 600 {setup.password}\n"
    )


def test_the_credential_is_cleared_and_the_secret_with_it(setup: Setup):
    setup.enabled()
    said = setup("clear", "--credential", "--json")
    changed = msgspec.json.decode(said.stdout, type=Changed)
    assert changed.removed == (str(setup.password),)
    assert (changed.setup.url, changed.setup.username, changed.setup.secrets) == (
        setup.share,
        None,
        (),
    )
    assert not setup.password.parent.exists()
    said = setup("get")
    assert (said.returncode, said.stderr) == (1, "")
    assert said.stdout == (
        f"store     {setup.share}\n"
        "enabled   yes\n"
        f"settings  {setup.file}\n"
        f"problem   {setup.file}: store: A share needs an account: username, and either"
        " password_file or keytab.\n"
    )
