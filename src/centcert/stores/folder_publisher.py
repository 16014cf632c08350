"""Writing into a local or mounted directory."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from centcert.errors import StoreBusy, StoreDenied, StoreUnavailable
from centcert.stores.publishing import Publisher, check_bare
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from centcert.errors import StoreError

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
"""How long a step may take, a slow disk's fsync included; a dead mount hangs for minutes."""

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_BAD_NAME: Final = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class FolderPublisher(Publisher):
    """The files of one folder.

    Who may read the folder may read a new file, and its owner alone may write it: 0644 in a
    folder of mode 0755, 0640 in one of 0750. It belongs to whom the folder belongs to, as far
    as this process may give it away: root publishes what the node's own user can read.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = TIMEOUT_S) -> None:
        """Name the folder, which has to be there.

        Args:
            path: relative to the working directory of this moment.
            timeout_s: after so many seconds a step is given up.
        """
        self.url = os.path.abspath(path)  # noqa: PTH100  as FolderStore has it
        self._timeout_s = timeout_s
        self._threads = Threads("folder-publisher", most=1)

    async def make(self, key: str, data: bytes) -> bool:
        """See ``Publisher.make``."""
        check_bare(key)
        return await self._call(partial(self._make, key, data), key)

    async def move(self, key: str, new_key: str) -> None:
        """See ``Publisher.move``."""
        check_bare(key, new_key)
        await self._call(partial(self._move, key, new_key), new_key)

    async def delete(self, key: str) -> bool:
        """See ``Publisher.delete``."""
        check_bare(key)
        return await self._call(partial(self._delete, key), key)

    async def close(self) -> None:
        """See ``Publisher.close``. A thread that hangs is left behind."""
        self._threads.close()

    async def _call(self, call: Callable[[], T], key: str) -> T:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await self._threads.run(call, deadline=deadline)
        except OSError as error:
            raise self._error(error, key) from error
        except (Late, Full) as error:
            sentence = f"{self.url} did not answer within {self._timeout_s:g} seconds."
            raise StoreUnavailable(self.url, sentence) from error
        except Closed as error:
            raise StoreUnavailable(self.url, f"The store {self.url} was closed.") from error

    def _make(self, key: str, data: bytes) -> bool:
        with self._folder() as folder:
            home = os.fstat(folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                file = os.open(key.encode(), flags, 0o600, dir_fd=folder)
            except FileExistsError:
                return False
            try:
                with open(file, "wb") as stream:  # noqa: PTH123  a descriptor
                    _hand_over(file, home)
                    stream.write(data)
                    stream.flush()
                    os.fsync(file)
                os.fsync(folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(key.encode(), dir_fd=folder)
                raise
            return True

    def _move(self, key: str, new_key: str) -> None:
        with self._folder() as folder:
            os.rename(key.encode(), new_key.encode(), src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def _delete(self, key: str) -> bool:
        with self._folder() as folder:
            try:
                os.unlink(key.encode(), dir_fd=folder)
            except FileNotFoundError:
                return False
            os.fsync(folder)
            return True

    @contextmanager
    def _folder(self) -> Iterator[int]:
        folder = os.open(self.url, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

    def _error(self, error: OSError, key: str) -> StoreError:
        if error.errno in _DENIED:
            return StoreDenied(
                self.url,
                f"{key} may not be written into {self.url} by this account ({error.strerror}): run"
                " the command as one that may.",
            )
        if error.errno in _NO_ROOM:
            return StoreBusy(
                self.url, f"{self.url} has no room left for {key}: {error.strerror}; make some."
            )
        if error.errno in _BAD_NAME:
            sentence = f"{self.url} cannot hold a file called {key}: {error.strerror}."
        elif error.errno == errno.ENOENT:
            sentence = f"{self.url} is not there, or {key} was taken away: {error.strerror}."
        elif error.errno == errno.ENOTDIR:
            sentence = f"{self.url} is no folder: name the folder that holds the certificates."
        else:
            sentence = f"{key} cannot be written into {self.url}: {error.strerror}."
        return StoreUnavailable(self.url, sentence)


def _hand_over(file: int, folder: os.stat_result) -> None:
    """Give a new file the folder's owner and readers; see ``FolderPublisher``."""
    # The group first: a group that may read must not be this process's own. Neither need be
    # allowed, as on a mount where everything belongs to one account.
    with suppress(OSError):
        os.fchown(file, folder.st_uid if os.geteuid() == 0 else -1, folder.st_gid)
    with suppress(OSError):
        os.fchmod(file, 0o600 | _readers(folder, os.fstat(file)))


def _readers(folder: os.stat_result, file: os.stat_result) -> int:
    if folder.st_mode & stat.S_IROTH:
        return stat.S_IRGRP | stat.S_IROTH
    return folder.st_mode & stat.S_IRGRP if file.st_gid == folder.st_gid else 0
