"""The files of the last-good copies. Every call blocks: only a thread makes them.

A sheet is a credential and the names that it answered. A wildcard's names fill several sheets,
each with the credential again, so that a new name costs a small write. Sheets that are written
together lie in one file, a pack: a file costs the disk far more than what is in it. No pack
depends on another. Beside them lies an index, in pieces: what each pack holds, so that a start
need not open all of them. It is believed only for a pack that is as it was then, so that it may
be old, damaged or missing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from centcert.credential import Parts  # noqa: TC001  msgspec reads the annotation
from centcert.errors import SettingsError
from centcert.provider.seal import Damaged, Foreign, Seals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

MAX_NAMES_A_SHEET: Final = 128
"""Names of 25 bytes then take as much room as the credential beside them."""

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""No file of ours is nearly as large: a pack at most 1 MB, a piece of the index 2 MB."""

UNREADABLE: Final = {errno.ENOENT, errno.EIO, errno.EACCES, errno.EPERM}
"""The fault is the file's own; after any other it may be read later."""

_PACK: Final = re.compile(r"[0-9a-f]{32}")
_INDEX: Final = re.compile(r"index-[0-9]{1,6}")
_UNFINISHED: Final = ".unfinished"
_STAMP: Final = struct.Struct(">QQQ")


class Sheet(msgspec.Struct, frozen=True, array_like=True):
    """What a pack holds of one credential, sealed.

    Attributes:
        serial: later sheets have higher ones; of two that list a name, the later is right.
        version: of the store's file.
        names: those that the credential answered.
        parts: the credential.
    """

    serial: int
    version: str
    names: tuple[str, ...]
    parts: Parts

    def __repr__(self) -> str:
        return f"Sheet({self.parts.key!r}, {len(self.names)} names)"


class IndexedSheet(msgspec.Struct, frozen=True, array_like=True):
    """What the index says of one sheet; ``used``: seconds since the epoch for each name."""

    sheet_id: str
    serial: int
    names: tuple[str, ...]
    used: tuple[int, ...]


class Indexed(msgspec.Struct, frozen=True, array_like=True):
    """What the index says of one pack."""

    file_name: str
    stamp: bytes
    sheets: tuple[IndexedSheet, ...]


class Held(NamedTuple):
    """What is known of a sheet on the disk; as in ``Sheet``."""

    serial: int
    names: tuple[str, ...]


@dataclass(slots=True)
class Pack:
    """What is known of a pack on the disk.

    Attributes:
        stamp: its time of modification, size and inode: another pack has another one.
        sheets: what it holds, by their ids.
    """

    stamp: bytes
    sheets: dict[str, Held]

    @property
    def size(self) -> int:
        """The room it takes on the disk, in bytes: whole blocks of 4 KiB."""
        size: int = _STAMP.unpack(self.stamp)[1]
        return -(-size // 4096) * 4096


@dataclass(slots=True)
class Found:
    """What lies in the folder; ``used`` is by name, ``foreign`` holds sizes by file name."""

    packs: dict[str, Pack] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    unread: OSError | None = None


class Copies:
    """The folder, open until nobody refers to it: a thread may hang in a call for long.

    Raises:
        SettingsError: it is open to others, or belongs to somebody else.
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path, seals: Seals) -> None:
        self._seals = seals
        self._pieces = 0
        _make_folder(path)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._folder)
        info = os.fstat(self._folder)
        if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid != os.geteuid():
            raise SettingsError(
                f"{path}, the folder of the last-good copies, must belong to this account and be"
                f" open to nobody else: chown it and chmod 700 {path}"
            )

    def lock(self) -> bool:
        """Try to become the one process that writes; say whether it is so."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            return False
        return True

    def unlock(self) -> None:
        """Let another process write."""
        fcntl.flock(self._folder, fcntl.LOCK_UN)

    def load(self, *, clean: bool) -> Found:
        """Find every pack and what it holds.

        Args:
            clean: remove what is damaged, and what a crash left unfinished.
        """
        found = Found()
        file_names = os.listdir(self._folder)  # noqa: PTH208  of a descriptor
        pieces = [name for name in file_names if _INDEX.fullmatch(name)]
        index = self._read_index(pieces, found)
        self._pieces = len(pieces)
        for file_name in file_names:
            if _PACK.fullmatch(file_name):
                self._load_one(file_name, index.get(file_name), found)
        leftovers = [name for name in file_names if name.endswith(_UNFINISHED)]
        for file_name in (*leftovers, *found.damaged) if clean else ():
            try:
                self.remove(file_name)
            except OSError as error:
                found.unread = error
        return found

    def read(self, file_name: str, sheet_id: str) -> Sheet:
        """Return a sheet of a pack.

        Raises:
            Foreign: the pack is another store's or another key's.
            Damaged: it is none, or does not hold the sheet.
            OSError: it cannot be read; ``FileNotFoundError``: it is gone.
        """
        data, _ = self._read(file_name)
        sheet = _decode(data, dict[str, msgspec.Raw]).get(sheet_id)
        if sheet is None:
            raise Damaged
        return _decode(sheet, Sheet)

    def read_whole(self, file_name: str) -> dict[str, Sheet]:
        """Return the sheets of a pack, by their ids; raises as ``read``."""
        data, _ = self._read(file_name)
        return _decode(data, dict[str, Sheet])

    def write(self, file_name: str, sheets: Mapping[str, Sheet]) -> Pack:
        """Put a pack on the disk, whole or not at all, for good when this returns."""
        stamp = self._write(file_name, msgspec.msgpack.encode(sheets))
        return Pack(stamp, _held(sheets))

    def remove(self, file_name: str) -> None:
        """Remove a file for good, if it is there."""
        try:
            os.unlink(file_name, dir_fd=self._folder)
        except FileNotFoundError:
            return
        os.fsync(self._folder)

    def write_piece(self, number: int, piece: Sequence[Indexed]) -> None:
        """Write one piece of the index."""
        self._write(f"index-{number}", msgspec.msgpack.encode(piece))
        self._pieces = max(self._pieces, number + 1)

    def end_index(self, pieces: int) -> None:
        """Remove the pieces from number ``pieces`` on, of an index that was longer."""
        for number in range(pieces, self._pieces):
            self.remove(f"index-{number}")
        self._pieces = pieces

    def _load_one(self, file_name: str, indexed: Indexed | None, found: Found) -> None:
        try:
            info = os.stat(file_name, dir_fd=self._folder, follow_symlinks=False)
            if indexed is not None and indexed.stamp == _stamp(info):
                held = {one.sheet_id: Held(one.serial, one.names) for one in indexed.sheets}
                found.packs[file_name] = Pack(indexed.stamp, held)
                return
            data, info = self._read(file_name)
            found.packs[file_name] = Pack(_stamp(info), _held(_decode(data, dict[str, Sheet])))
        except Foreign:
            found.foreign[file_name] = info.st_size
        except Damaged:
            found.damaged.append(file_name)
        except FileNotFoundError:  # another process, the writing one, has removed it
            pass
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            found.unread = error

    def _read_index(self, pieces: Iterable[str], found: Found) -> dict[str, Indexed]:
        index: dict[str, Indexed] = {}
        for piece in pieces:
            try:
                data, _ = self._read(piece)
                for indexed in _decode(data, list[Indexed]):
                    index[indexed.file_name] = indexed
                    for sheet in indexed.sheets:
                        found.used.update(zip(sheet.names, sheet.used, strict=False))
            except (Foreign, FileNotFoundError):
                continue
            except Damaged:
                found.damaged.append(piece)
            except OSError as error:
                found.unread = error
        return index

    def _read(self, file_name: str) -> tuple[bytes, os.stat_result]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(file_name, flags, dir_fd=self._folder)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link is not of our making
                raise Damaged from None
            raise
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_FILE_BYTES:
                raise Damaged
            data = b""
            while piece := os.read(file, info.st_size + 1 - len(data)):
                data += piece
        finally:
            os.close(file)
        return self._seals.open(file_name, data), info

    def _write(self, file_name: str, data: bytes) -> bytes:
        """Write a file and return its stamp."""
        unfinished = file_name + _UNFINISHED
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(unfinished, flags, 0o600, dir_fd=self._folder)
            try:
                left = memoryview(self._seals.seal(file_name, data))
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
                stamp = _stamp(os.fstat(file))
            finally:
                os.close(file)
            os.rename(unfinished, file_name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError:
            with suppress(OSError):  # the disk may be full because of it
                os.unlink(unfinished, dir_fd=self._folder)
            raise
        return stamp


def _make_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def _held(sheets: Mapping[str, Sheet]) -> dict[str, Held]:
    return {key: Held(sheet.serial, sheet.names) for key, sheet in sheets.items()}


def _decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:  # sealed by us, but not a thing of this kind
        raise Damaged from None


def _stamp(info: os.stat_result) -> bytes:
    return _STAMP.pack(info.st_mtime_ns, info.st_size, info.st_ino)
