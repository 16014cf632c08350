"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from centcert.admin.whole_file import write_whole
from centcert.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = b"old" * 1000, b"new" * 2000
OTHER = 12_345


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_rights_stay(path: Path, mode: int):
    path.chmod(mode)
    write_whole(path, NEW)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (NEW, mode)
    assert list(path.parent.iterdir()) == [path]


def test_rights_that_are_asked_for_win(path: Path):
    path.chmod(0o644)
    write_whole(path, NEW, mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(path: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to("../file")
    write_whole(link, NEW)
    assert link.is_symlink()
    assert path.read_bytes() == NEW


@pytest.mark.skipif(os.getuid() != 0, reason="only root writes the files of others")
def test_the_owner_stays(path: Path):
    os.chown(path, OTHER, OTHER)
    write_whole(path, NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (OTHER, OTHER)


DIES = """
import os, pathlib, sys
from centcert.admin import whole_file
step, before = sys.argv[2], sys.argv[3] == "before"
module = whole_file.tempfile if step == "mkstemp" else os
real = getattr(module, step)
def deadly(*args, **options):
    if not before:
        real(*args, **options)
    os.kill(os.getpid(), 9)
setattr(module, step, deadly)
whole_file.write_whole(pathlib.Path(sys.argv[1]), b"new" * 2000)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["mkstemp", "fchmod", "fsync", "replace", "close"])
def test_killed_at_any_step_it_leaves_one_of_the_two_whole(path: Path, step: str, when: str):
    ended = subprocess.run([sys.executable, "-c", DIES, path, step, when], check=False, timeout=20)
    assert ended.returncode == -signal.SIGKILL
    is_renamed = step == "close" or (step, when) == ("replace", "after")
    assert path.read_bytes() == (NEW if is_renamed else OLD)


FULL = """
import pathlib, resource, sys
from centcert.admin.whole_file import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_whole(pathlib.Path(sys.argv[1]), b"new" * 2000)
except Exception as error:
    print(error, end="")
"""


def test_a_full_disk_changes_nothing(path: Path):
    said = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True, timeout=20
    )
    assert said.stdout == f"{path} cannot be written: File too large: nothing was changed."
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_is_named(path: Path):
    with pytest.raises(SettingsError) as refused:
        write_whole(path / "a" / "b", NEW)
    assert str(refused.value) == (
        f"{path}/a/b cannot be written: Not a directory: nothing was changed."
    )
