"""Linux's notifications of changes in a folder: inotify(7), three calls of the C library.

No package is used for this: those there are hide what a store must report, that events
were lost (``IN_Q_OVERFLOW``) or that the folder itself has gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType


class Mask(IntFlag):
    """What happened; the values of ``sys/inotify.h``."""

    ATTRIB = 0x0000_0004
    CLOSE_WRITE = 0x0000_0008
    MOVED_FROM = 0x0000_0040
    MOVED_TO = 0x0000_0080
    CREATE = 0x0000_0100
    DELETE = 0x0000_0200
    DELETE_SELF = 0x0000_0400
    MOVE_SELF = 0x0000_0800
    UNMOUNT = 0x0000_2000
    Q_OVERFLOW = 0x0000_4000
    IGNORED = 0x0000_8000
    ISDIR = 0x4000_0000

    ASKED = (
        # Not MODIFY: a writer's close says that it is done, its single writes do not.
        # ATTRIB: a file or folder whose rights were repaired must be tried again.
        ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
    )
    WATCH_LOST = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED | Q_OVERFLOW


@dataclass(frozen=True, slots=True)
class Event:
    """One change.

    Attributes:
        mask: what happened.
        name: the entry of the folder, empty for the folder itself.
    """

    mask: Mask
    name: bytes


_HEADER: Final = struct.Struct("=iIII")  # wd, mask, cookie, len
_READ_BYTES: Final = 64 * 1024
_ONLYDIR: Final = 0x0100_0000
_LIMITS: Final = {
    errno.EMFILE: "raise fs.inotify.max_user_instances, or the limit of open files",
    errno.ENOSPC: "raise fs.inotify.max_user_watches",
}


def parse(data: bytes) -> list[Event]:
    """Read what one read(2) gave: whole events, each name padded with NUL."""
    events = []
    offset = 0
    while offset < len(data):
        _, mask, _, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        events.append(Event(Mask(mask), data[offset : offset + length].rstrip(b"\0")))
        offset += length
    return events


class Inotify:
    """A queue of changes of one folder. The kernel bounds it and says when it ran over.

    Raises:
        OSError: ``EMFILE`` or ``ENOSPC``, and says which limit of the system to raise.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._lock = threading.Lock()
        self._in_use = False
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something changed."""
        return self._fd

    def watch(self, folder: str) -> None:
        """Begin to watch a folder. Blocks as long as its file system does.

        Raises:
            OSError: as inotify_add_watch(2) says; ``EBADF`` once this is closed.
        """
        self._begin()
        try:
            path = ctypes.c_char_p(os.fsencode(folder))
            self._checked(self._libc.inotify_add_watch(self._fd, path, Mask.ASKED | _ONLYDIR))
        finally:
            self._end()

    def read(self) -> list[Event]:
        """Return the oldest changes not yet read, perhaps not all; never blocks."""
        try:
            return parse(os.read(self._fd, _READ_BYTES))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the descriptor back: now, or when a hanging ``watch`` returns."""
        with self._lock:
            if not self._closed and not self._in_use:
                os.close(self._fd)
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._in_use = True

    def _end(self) -> None:
        with self._lock:
            self._in_use = False
            if self._closed:
                os.close(self._fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, _LIMITS.get(number) or os.strerror(number))
        return result
