from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from centcert.admin.secrets import MAX_SECRET_BYTES, read_secret
from centcert.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

OTHER_GROUP = 12_345


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
