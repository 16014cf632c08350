"""Commands that change one settings file at once: no change is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from centcert.admin import settings_lock as module
from centcert.admin.settings_draft import SettingsDraft
from centcert.admin.settings_lock import _lock_now, _unlock, sole_change
from centcert.admin.store_setup import StoreChange, change_store, clear_store, disable_store
from centcert.errors import SettingsError

# Counts up in the file as often as it is told to.
COUNTS = """
import asyncio, pathlib, sys
from centcert.admin.settings_lock import sole_change

async def main():
    path = pathlib.Path(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        async with sole_change(path):
            count = int(path.read_text())
            await asyncio.sleep(0)
            path.write_text(str(count + 1))

asyncio.run(main())
"""

# Has the lock, says so, and goes on until it is killed.
HOLDS = """
import asyncio, pathlib, sys
from centcert.admin.settings_lock import sole_change

async def main():
    async with sole_change(pathlib.Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "centcert.toml"
    path.parent.mkdir()
    path.write_text(f'[store]\nurl = "{tmp_path}"\n', encoding="utf-8")
    return path


def settings(path: Path) -> object:
    return tomllib.loads(path.read_text(encoding="utf-8"))["store"]


def test_processes_take_turns(path: Path):
    path.write_text("0")
    counting = [subprocess.Popen([sys.executable, "-c", COUNTS, path, "20"]) for _ in range(4)]
    assert [process.wait() for process in counting] == [0] * 4
    assert path.read_text() == "80"
    assert list(path.parent.iterdir()) == [path]


async def test_each_change_waits_for_the_one_before(path: Path):
    """It reads the file when it is its turn, not before."""
    store = str(path.parent)
    async with sole_change(path):
        draft = SettingsDraft(path)
        changes = [
            asyncio.create_task(disable_store(path)),
            asyncio.create_task(clear_store(path, ("key_password_files",))),
            asyncio.create_task(
                change_store(path, StoreChange({"url": store}), enable=False, trial=False)
            ),
        ]
        await asyncio.sleep(0.1)
        assert not any(change.done() for change in changes)
        draft.change({"refresh": "7 s", "key_password_files": ["/none"]})
        draft.save()
    await asyncio.gather(*changes)
    assert settings(path) == {"url": store, "refresh": "7 s", "enabled": False}


async def test_a_link_and_what_it_leads_to_are_one_file(path: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(path)
    async with sole_change(link):
        change = asyncio.create_task(disable_store(path))
        await asyncio.sleep(0.1)
        assert not change.done()
    await change


async def test_the_lock_of_a_killed_command_falls_with_it(path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        change = asyncio.create_task(disable_store(path))
        await asyncio.sleep(0.1)
        assert not change.done()
        holder.send_signal(signal.SIGKILL)
        await change
    assert list(path.parent.iterdir()) == [path]


async def test_a_command_that_does_not_end_is_not_waited_for_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    before = path.read_bytes()
    async with sole_change(path):
        with pytest.raises(SettingsError) as refused:
            await disable_store(path)
    assert str(refused.value) == (
        f"{path} has been in the hands of another command for 0.1 s: nothing was changed; run this"
        " one again when that has ended."
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("successor", [False, True])
def test_a_lock_that_was_given_away_between_its_opening_and_its_locking_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, successor: bool
):
    lock, flock = tmp_path / "lock", fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        lock.unlink()
        if successor:
            lock.touch()
        flock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", late)
        assert _lock_now(lock) is None
    descriptor = _lock_now(lock)
    assert descriptor is not None
    _unlock(lock, descriptor)


async def test_what_cannot_be_locked_is_named(path: Path):
    lock = path.parent / ".centcert.toml.lock"
    lock.symlink_to("elsewhere")
    with pytest.raises(SettingsError) as refused:
        await disable_store(path)
    assert str(refused.value) == (
        f"{path} cannot be written: Too many levels of symbolic links for .centcert.toml.lock"
        " beside it: nothing was changed."
    )
    assert not (path.parent / "elsewhere").exists()


async def test_no_descriptor_and_no_file_stays(path: Path, monkeypatch: pytest.MonkeyPatch):
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    async with sole_change(path):
        assert (path.parent / ".centcert.toml.lock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(SettingsError):
            await disable_store(path)
    with pytest.raises(KeyError):
        async with sole_change(path):
            raise KeyError
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert list(path.parent.iterdir()) == [path]
