"""The notifications of Linux, as bytes and as a descriptor."""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centcert.stores.inotify import Event, Inotify, Mask, parse

if TYPE_CHECKING:
    from pathlib import Path

names = st.binary(max_size=255).filter(lambda name: b"\0" not in name)
events = st.builds(Event, st.integers(0, 0xFFFF_FFFF).map(Mask), names)


def wire(event: Event, padding: int) -> bytes:
    """Write an event as inotify(7) lays it out; the padding is of any length there."""
    name = event.name + b"\0" * padding
    return struct.pack("=iIII", 1, event.mask, 0, len(name)) + name


@given(st.lists(st.tuples(events, st.integers(0, 20))))
def test_any_events_are_read_as_written(written: list[tuple[Event, int]]):
    data = b"".join(wire(event, padding) for event, padding in written)
    assert parse(data) == [event for event, _ in written]


def test_the_values_are_those_of_the_kernel(tmp_path: Path):
    with Inotify() as inotify:
        inotify.watch(str(tmp_path))
        (tmp_path / "a").write_bytes(b"x")
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b").unlink()
        (tmp_path / "folder").mkdir()
        tmp_path.rename(tmp_path.with_name("moved"))
        assert select.select([inotify.fileno()], [], [], 20)[0]
        assert inotify.read() == [
            Event(Mask.CREATE, b"a"),
            Event(Mask.CLOSE_WRITE, b"a"),
            Event(Mask.MOVED_FROM, b"a"),
            Event(Mask.MOVED_TO, b"b"),
            Event(Mask.DELETE, b"b"),
            Event(Mask.CREATE | Mask.ISDIR, b"folder"),
            Event(Mask.MOVE_SELF, b""),
        ]
        assert inotify.read() == []


def test_only_folders_are_watched(tmp_path: Path):
    (tmp_path / "file").touch()
    with Inotify() as inotify:
        with pytest.raises(NotADirectoryError):
            inotify.watch(str(tmp_path / "file"))
        with pytest.raises(FileNotFoundError):
            inotify.watch(str(tmp_path / "absent"))


def test_a_closed_one_watches_nothing(tmp_path: Path):
    inotify = Inotify()
    inotify.close()
    inotify.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        inotify.watch(str(tmp_path))


def test_the_descriptor_outlives_a_hanging_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A closed descriptor's number is given to another file, which must not be watched."""
    inotify = Inotify()
    begun, go_on = threading.Event(), threading.Event()

    class HangingLibrary:
        def inotify_add_watch(self, *_args: object) -> int:
            begun.set()
            go_on.wait(20)
            return 1

    monkeypatch.setattr(inotify, "_libc", HangingLibrary())
    caller = threading.Thread(target=inotify.watch, args=(str(tmp_path),))
    caller.start()
    assert begun.wait(20)
    inotify.close()
    os.fstat(inotify.fileno())
    go_on.set()
    caller.join()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(inotify.fileno())


def test_a_limit_of_the_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Inotify() as inotify:
        monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOSPC)
        with pytest.raises(OSError, match=r"raise fs\.inotify\.max_user_watches"):
            inotify.watch(str(tmp_path / "absent"))
