"""What earlier readings of a store found, in the user's cache folder. Never key material.

A line holds for one version of a file, one set of passwords and one release of Centcert.
Whatever is wrong with the cache, it is as if there were none.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from centcert import __version__
from centcert.admin.inventory.reading import Reading, Unreadable
from centcert.admin.whole_file import write_whole
from centcert.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from centcert.admin.inventory.reading import Inspected

MAX_BYTES: Final = 128 * 1024 * 1024
"""As many as 200,000 files take, at 600 bytes each; a larger cache is cut off, and so ignored."""

MAX_FILES: Final = 200_000
"""Lines that are written; files beyond are read anew each time."""


class Conditions(msgspec.Struct, frozen=True):
    """What a cache holds under.

    Attributes:
        release: the version of Centcert: another one may judge otherwise.
        store: its URL.
        passwords: by each password file its path, inode, size and time of change
            (nanoseconds): never a password, nor what could be compared with one.
    """

    release: str
    store: str
    passwords: tuple[tuple[str, int, int, int], ...]

    @classmethod
    def of(cls, store_url: str, password_files: Sequence[Path]) -> Conditions:
        """Look at the password files as they are now.

        Raises:
            OSError: one of them is not there.
        """
        marks = []
        for file in password_files:
            found = file.stat()
            marks.append((str(file), found.st_ino, found.st_size, found.st_mtime_ns))
        return cls(__version__, store_url, tuple(marks))


class _Content(msgspec.Struct, frozen=True):
    """The cache's file: under which conditions which version of which key was what."""

    conditions: Conditions
    readings: dict[str, tuple[str, Reading]]


class Cache:
    """The readings of one store.

    Args:
        folder: where caches are; ``cache_folder`` says it.
        conditions: under which its lines hold.
    """

    def __init__(self, folder: Path, conditions: Conditions) -> None:
        # A name of fixed length, which holds nothing that a file system minds.
        mark = hashlib.sha256(conditions.store.encode()).hexdigest()[:32]
        self._path = folder / f"inventory-{mark}"
        self._conditions = conditions
        self._readings: dict[str, tuple[str, Reading]] = {}

    def load(self) -> None:
        """Read the cache's file, if it is this user's own and whole."""
        with suppress(OSError, msgspec.DecodeError):  # ValidationError too
            content = msgspec.msgpack.decode(_read_own(self._path), type=_Content)
            if content.conditions == self._conditions:
                self._readings = content.readings

    def find(self, key: str, version: str) -> Reading | None:
        """Return what this version of a file was found to be."""
        known_version, reading = self._readings.get(key, ("", None))
        return reading if known_version == version else None

    def replace(self, inspected: Iterable[Inspected]) -> None:
        """Hold what lasts of ``inspected`` and nothing else."""
        self._readings = {
            one.file.key: (one.file.version, one.reading)
            for one, _ in zip(inspected, range(MAX_FILES), strict=False)
            if not isinstance(one.reading, Unreadable) or one.reading.lasts
        }

    def save(self) -> None:
        """Write the cache's file, whole and for this user alone, if that is possible."""
        data = msgspec.msgpack.encode(_Content(self._conditions, self._readings))
        with suppress(OSError, SettingsError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, data, mode=0o600)


def cache_folder() -> Path:
    """Return where caches are: systemd's choice, or the user's own cache folder."""
    if folder := os.environ.get("CACHE_DIRECTORY"):  # systemd.exec(5)
        return Path(folder.partition(":")[0])
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  Path.home() raises where an account has none
    return Path(own) / "centcert"


def _read_own(path: Path) -> bytes:
    """Read a file that nobody else may have written.

    Raises:
        OSError: there is none, or it is another user's, a link or open to others.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  of a descriptor
        found = os.fstat(descriptor)
        strange = found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode)
        if strange or found.st_mode & 0o077:
            raise PermissionError
        return file.read(MAX_BYTES)
