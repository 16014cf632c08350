"""The system calls of the folder store. They block: only its threads make them.

Every step starts from one open folder and goes on from descriptor to descriptor, so
nothing that happens to the names meanwhile can lead it astray.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from centcert.credential import MAX_BLOB_BYTES
from centcert.errors import (
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    StoreUnwatchable,
)
from centcert.stores.base import BATCH, Blob, StoredFile, too_large
from centcert.stores.mounts import LOCAL, file_system, mount_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from centcert.stores.inotify import Inotify

Identity: TypeAlias = tuple[int, int]
"""Device and inode: what tells a folder from another one at the same path."""

_SETTLED_NS: Final = 40_000_000
"""File systems stamp changes with a clock of 1 to 10 ms a tick: two writes in one tick leave one
stamp. A file is read only when its last change is older than that, so that the next change
leaves another version; the rest is for writers that pause between two pieces."""

_PAUSE_S: Final = 0.001
"""A walk through a large folder sleeps so long after every few entries. Else it would hold a core
for some milliseconds at a time, and the interpreter's lock for most of them: a system call that
does not block gives it back before the event loop, which waits for both, has been woken."""

_STATS: Final = 50
"""Entries looked at between two pauses: each costs 6 us, so three quarters of the time are left."""

_GLANCES: Final = 500
"""Likewise entries of which nothing is asked: 0.6 us each. The watch begins after all of them."""

_ABSENT: Final = {
    errno.ENOENT,
    errno.ENOTDIR,  # a link through something that is no folder
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,  # a character that FAT or a Windows server does not allow
    errno.EILSEQ,
}
_DENIED: Final = {errno.EACCES, errno.EPERM}
_IN_USE: Final = {
    errno.EAGAIN,  # a lease, open(2)
    errno.EBUSY,  # a sharing violation on a Windows server
    errno.ETXTBSY,
    errno.ESTALE,  # on NFS: replaced between look-up and open
}
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC}


class Unsettled(Exception):
    """The file is being written or replaced at this moment."""


class Directory:
    """The folder of a store, found anew by its path in each call.

    Every method raises ``StoreError`` and nothing else, but ``read`` also
    ``BlobTooLarge`` and ``Unsettled``.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_mount = False  # sticky: an unmounted folder is empty, its files are not absent
        self._checked: Identity | None = None

    def read(self, key: str) -> Blob | None:
        """Return the blob behind a bare key, or ``None``; see ``Store.fetch``."""
        with self._open() as folder, self._find(folder, key) as found:
            if found is None:
                return None
            now_ns = time.time_ns()
            with self._faults_of(key):
                return _read_settled(found, key, now_ns)

    def scan(self) -> Generator[list[StoredFile], None, None]:
        """Yield every regular file, and every link to one within the folder, in batches.

        The folder is held open until the last one, or until this is closed or dropped.
        """
        files: list[StoredFile] = []
        with self._open(os.O_RDONLY) as folder, self._faults(), os.scandir(folder) as entries:
            for entry in _unhurried(entries, _STATS):
                key = _key(entry)
                info = None if key is None else self._stat(folder, entry, key)
                if key is not None and info is not None:
                    version, modified = _version(info), info.st_mtime_ns / 1e9
                    files.append(StoredFile(key, version, info.st_size, modified))
                if len(files) == BATCH:
                    yield files
                    files = []
        if files:
            yield files

    def identity(self) -> Identity:
        """Return which folder is at the path now."""
        with self._open() as folder:
            info = os.fstat(folder)
            return info.st_dev, info.st_ino

    def arm(self, inotify: Inotify) -> tuple[Identity, dict[str, str]]:
        """Begin to watch the folder; return its identity and where its links point.

        Raises:
            StoreUnwatchable: other machines can change it.
            Unsettled: the folder was replaced meanwhile.
        """
        identity = self.identity()
        self._check_watchable()
        with self._open(os.O_RDONLY), self._faults():
            inotify.watch(self._path)
        with self._open(os.O_RDONLY) as folder, self._faults(), os.scandir(folder) as entries:
            glances = _unhurried(entries, _GLANCES)
            keys = [_key(entry) for entry in glances if entry.is_symlink()]
            links = _links(folder, [key for key in keys if key is not None])
        if self.identity() != identity:
            raise Unsettled
        return identity, links

    def _check_watchable(self) -> None:
        with self._open() as folder, self._faults():
            kind = _file_system(folder)
        if kind not in LOCAL:
            where = "a file system of an unknown kind" if kind is None else f"a {kind} file system"
            raise StoreUnwatchable(
                self._path,
                f"{self._path} is on {where}, which does not tell what other machines change:"
                " their changes are seen within refresh; lower it, or name a share itself, as"
                " smb://server/share.",
            )

    def look_at(self, keys: Iterable[str]) -> tuple[dict[str, str], bool]:
        """Return those of ``keys`` that are links now, and whether one leads to a folder."""
        with self._open() as folder, self._faults():
            links = _links(folder, keys)
            return links, any(_is_folder(folder, key) for key in links)

    @contextmanager
    def _open(self, access: int = os.O_PATH) -> Iterator[int]:
        try:
            folder = os.open(self._path, access | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if access == os.O_RDONLY and error.errno in _DENIED:
                raise StoreDenied(self._path, self._unlisted()) from error
            self._fail(error)
        try:
            self._check_mount(folder)
            yield folder
        finally:
            os.close(folder)

    def _unlisted(self) -> str:
        return (
            f"{self._path} may not be listed by this account: grant it the right to read the"
            " folder. Until then changes are not seen, and made-up names can crowd out the first"
            " visits of real ones."
        )

    def _check_mount(self, folder: int) -> None:
        with self._faults():
            here = os.fstat(folder)
            identity = here.st_dev, here.st_ino
            if identity == self._checked:
                return
            above = os.stat("..", dir_fd=folder)
        if here.st_dev != above.st_dev:
            self._is_mount = True
        elif self._is_mount:
            raise StoreUnavailable(
                self._path, f"Nothing is mounted at {self._path} any more: mount the store again."
            )
        self._checked = identity

    @contextmanager
    def _find(self, folder: int, key: str) -> Iterator[int | None]:
        """Give a descriptor that names the regular file ``key`` but has not opened it.

        ``O_PATH``: a FIFO does not block and a device notices nothing.
        """
        # A file of the folder's own is inside; only where a link leads must be found out.
        found, mode = self._open_path(folder, key, os.O_NOFOLLOW)
        is_link = found is not None and stat.S_ISLNK(mode)
        if found is not None and is_link:
            os.close(found)
            found, mode = self._open_path(folder, key)
        if found is None:
            if os.fstat(folder).st_nlink == 0:  # all names are absent from a removed folder
                self._fail(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
            yield None
            return
        try:
            if stat.S_ISREG(mode):
                if is_link:
                    self._check_inside(folder, found, key)
                yield found
            else:
                yield None
        finally:
            os.close(found)

    def _open_path(self, folder: int, key: str, flags: int = 0) -> tuple[int | None, int]:
        """Return a descriptor and what kind of file it names; ``None``: there is none."""
        with self._faults_of(key):
            try:
                found = os.open(key.encode(), flags | os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                return None, 0
            try:
                return found, os.fstat(found).st_mode
            except OSError:  # of a network mount
                os.close(found)
                raise

    def _check_inside(self, folder: int, found: int, key: str) -> None:
        with self._faults():
            home, place = _real_path(folder), _real_path(found)
            if place.startswith(home.rstrip("/") + "/"):
                return
            # The file or the folder may just have been moved away, which is no offence.
            if home != _real_path(folder) or _target(folder, key) is None:
                raise Unsettled
        raise StoreDenied(
            self._path,
            f"{key} in {self._path} is a symbolic link that leads out of the store's folder:"
            " copy the file there instead.",
        )

    def _stat(self, folder: int, entry: os.DirEntry[str], key: str) -> os.stat_result | None:
        """Return what is known of a regular file that ``read`` would read, else ``None``."""
        try:
            if not entry.is_symlink():
                info = entry.stat(follow_symlinks=False)
                return info if stat.S_ISREG(info.st_mode) else None
            with self._find(folder, key) as found:
                return None if found is None else os.fstat(found)
        except (FileNotFoundError, StoreDenied, Unsettled):  # removed meanwhile, or not ours
            return None

    @contextmanager
    def _faults_of(self, key: str) -> Iterator[None]:
        """Turn an ``OSError`` about a file into the store's errors."""
        try:
            yield
        except OSError as error:
            if error.errno in _IN_USE:
                raise Unsettled from error
            if error.errno in _DENIED:
                raise StoreDenied(
                    self._path,
                    f"{key} in {self._path} may not be read by this account: grant it the right"
                    " to read the file and to enter the folder.",
                ) from error
            self._fail(error, key)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn an ``OSError`` about the folder into the store's errors."""
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError, key: str | None = None) -> NoReturn:
        path = self._path if key is None else f"{self._path}/{key}"
        kind: type[StoreError] = StoreUnavailable
        if error.errno in _DENIED:
            kind = StoreDenied
            sentence = f"{path} may not be read by this account: grant it the right to."
        elif error.errno == errno.ENOENT:
            sentence = f"There is no folder {path}: make it, or mount the store there."
        elif error.errno == errno.ENOTDIR:
            sentence = f"{path} is no folder: name the folder that holds the certificates."
        elif error.errno in _NO_ROOM:
            kind = StoreBusy
            sentence = f"{path} cannot be read or watched now: {error.strerror}."
        else:
            sentence = f"{path} cannot be read: {error.strerror}."
        raise kind(self._path, sentence) from error


def _read_settled(found: int, key: str, now_ns: int) -> Blob:
    # The magic link opens what the descriptor names, whatever its name leads to by now.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file = os.open(f"/proc/self/fd/{found}", flags)
    try:
        before = os.fstat(file)
        if before.st_size > MAX_BLOB_BYTES:
            raise too_large(key, before.st_size)
        data = _read_up_to(file, before.st_size)  # one that grows has another version then
        version = _version(before)
        if len(data) != before.st_size or version != _version(os.fstat(file)):
            raise Unsettled
        if 0 <= now_ns - before.st_ctime_ns < _SETTLED_NS:
            raise Unsettled
        return Blob(key, data, version)
    finally:
        os.close(file)


def _read_up_to(file: int, most: int) -> bytes:
    data = b""
    while len(data) < most:
        piece = os.read(file, most - len(data))
        if not piece:
            break
        data += piece
    return data


def _version(info: os.stat_result) -> str:
    """Name the state of a file.

    The inode changes when another file is renamed into place; the time of the last
    change of status, which no program can set, when one is rewritten or copied with
    its time of modification preserved.
    """
    return f"{info.st_mtime_ns:x}-{info.st_ctime_ns:x}-{info.st_size:x}-{info.st_ino:x}"


def _file_system(folder: int) -> str | None:
    number = mount_id(Path(f"/proc/self/fdinfo/{folder}").read_text())
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    return file_system(mounts, number)


def _real_path(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  in each fetch
    except FileNotFoundError:
        raise OSError(errno.ENOSYS, "/proc is not mounted") from None


def _unhurried(entries: Iterable[os.DirEntry[str]], piece: int) -> Iterator[os.DirEntry[str]]:
    for number, entry in enumerate(entries, 1):
        yield entry
        if number % piece == 0:
            time.sleep(_PAUSE_S)


def _key(entry: os.DirEntry[str]) -> str | None:
    """Return an entry's name, in UTF-8 whatever the locale; ``None`` if it is not."""
    if entry.name.isascii():
        return entry.name
    try:
        return os.fsencode(entry.name).decode()
    except UnicodeDecodeError:
        return None


def _links(folder: int, keys: Iterable[str]) -> dict[str, str]:
    targets = ((key, _target(folder, key)) for key in keys)
    return {key: target for key, target in targets if target is not None}


def _target(folder: int, key: str) -> str | None:
    """Return a symbolic link's text; ``None`` if it is none, or is gone."""
    try:
        return os.readlink(key.encode(), dir_fd=folder).decode(errors="replace")
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _is_folder(folder: int, key: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(key.encode(), dir_fd=folder).st_mode)
    except OSError:
        return False
