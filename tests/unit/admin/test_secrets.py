from __future__ import annotations

import os
from pathlib import Path

import pytest

from centcert.admin.secrets import MAX_SECRET_BYTES, read_secret, secret_file, write_secret
from centcert.errors import SettingsError

OTHER_GROUP = 12_345
OTHER_USER = 12_346


def secret(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"hunter2", b"hunter2"),
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b"hunter2\n\n", b"hunter2\n"),
        (b" h 2 ", b" h 2 "),
        (b"", b""),
        (b"x" * MAX_SECRET_BYTES, b"x" * MAX_SECRET_BYTES),
    ],
)
def test_a_secret_is_the_file_without_one_line_end(tmp_path: Path, content: bytes, password: bytes):
    assert read_secret(secret(tmp_path, content)) == password


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o601, 0o620])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int):
    path = secret(tmp_path, b"hunter2", mode)
    with pytest.raises(SettingsError) as refused:
        read_secret(path)
    assert str(refused.value) == f"{path} is open to others than its owner: chmod 600 {path}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another group")
def test_only_roots_group_may_read_as_systemd_sets_it(tmp_path: Path):
    """systemd's credentials show the mask of their access list as a right of root's group."""
    path = secret(tmp_path, b"hunter2", 0o440)
    os.chown(path, -1, 0)
    assert read_secret(path) == b"hunter2"
    os.chown(path, -1, OTHER_GROUP)
    with pytest.raises(SettingsError):
        read_secret(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards: root took a password that another user can read and change at will."""
    path = secret(tmp_path, b"hunter2")
    os.chown(path, OTHER_USER, -1)
    with pytest.raises(SettingsError) as refused:
        read_secret(path)
    assert str(refused.value) == (
        f"{path} belongs to another user, who can read and change it: chown it to the account that"
        " Centcert runs as, or to root."
    )
    monkeypatch.setattr("os.geteuid", lambda: OTHER_USER)
    assert read_secret(path) == b"hunter2", "it is its own"
    os.chown(path, 0, -1)
    assert read_secret(path) == b"hunter2", "what root may read anyway, root may own"


def test_a_file_that_is_too_long_is_no_password_file(tmp_path: Path):
    path = secret(tmp_path, b"s3cret" * 1000)
    with pytest.raises(SettingsError, match="longer than 4096 bytes") as refused:
        read_secret(path)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    for path, reason in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(SettingsError) as refused:
            read_secret(path)
        assert str(refused.value) == f"{path} cannot be read: {reason}."


@pytest.mark.parametrize("secret", [b"hunter2", b" h 2 ", "Grün ".encode(), b"x" * 4095])
def test_what_is_written_is_read(tmp_path: Path, secret: bytes):
    path = tmp_path / "secrets" / "password"
    write_secret(path, secret)
    assert read_secret(path) == secret
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_open_to_others_is_not_any_more(tmp_path: Path):
    path = secret(tmp_path, b"old", 0o644)
    write_secret(path, b"new")
    assert read_secret(path) == b"new"


@pytest.mark.parametrize("bad", [b"", b"a\nb", b"a\r", b"x" * 4096])
def test_what_no_file_can_hold_is_refused(tmp_path: Path, bad: bytes):
    with pytest.raises(SettingsError):
        write_secret(tmp_path / "password", bad)
    assert not (tmp_path / "password").exists()


def test_a_credential_of_systemd_is_where_systemd_has_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/centcert.service")
    assert secret_file("credential:a.b") == Path("/run/credentials/centcert.service/a.b")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert secret_file("credential:a.b") == Path("/etc/credstore/a.b")
    assert secret_file("/etc/credential:a") == Path("/etc/credential:a")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "ä", "a b"])
def test_what_cannot_be_a_credential_is_refused(name: str):
    with pytest.raises(SettingsError, match="names no credential of systemd"):
        secret_file(f"credential:{name}")
