"""A local or mounted directory as a store."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from centcert.errors import FileBusy, StoreBusy, StoreUnavailable
from centcert.stores.base import Blob, Change, Store, StoredFile, is_bare
from centcert.stores.inotify import Event, Inotify, Mask
from centcert.stores.posix import Directory, Identity, Unsettled
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
"""How long a file may take; a mount whose server is gone can hang for minutes."""

ARM_TIMEOUT_S: Final = 60.0
"""How long it may take to begin a watch: every entry of the folder is looked at."""

MAX_THREADS: Final = 8
"""Reads at once, and at most so many threads that hang in a dead mount."""

RETRIES_S: Final = (0.05, 0.15, 0.4)
"""The pauses before a file that is being written is read again."""

RECHECK_S: Final = 5.0
"""How often the watched folder is compared with the path: a mount over it, or a swapped link in
the path, is no event of the folder."""


class FolderStore(Store):
    """The regular files of one folder, and the links within it.

    Changes are seen as they happen. A folder on a network mount cannot be watched: it
    would tell only of those that this machine makes.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = TIMEOUT_S) -> None:
        """Name the folder; it need not be there yet.

        Args:
            path: relative to the working directory of this moment.
            timeout_s: after so many seconds a read is given up.
        """
        self.url = os.path.abspath(path)  # noqa: PTH100  a link in the path may be swapped
        self._timeout_s = timeout_s
        self._directory = Directory(self.url)
        self._threads = Threads("folder-store", most=MAX_THREADS)
        self._asleep: set[asyncio.Future[None]] = set()  # one for each watch that waits

    async def fetch(self, key: str) -> Blob | None:
        """See ``Store.fetch``. A file changed in the last 40 ms is read again a moment later."""
        if not is_bare(key):
            return None
        for pause_s in RETRIES_S:
            try:
                return await self._call(partial(self._directory.read, key))
            except Unsettled:
                await asyncio.sleep(pause_s)
        try:
            return await self._call(partial(self._directory.read, key))
        except Unsettled as error:
            raise FileBusy(
                self.url, f"{key} in {self.url} is still being written; it is read once it is done."
            ) from error

    async def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """See ``Store.scan``. Each batch is read while it is waited for, in a thread."""
        scan = self._directory.scan()
        empty: Sequence[StoredFile] = ()
        try:
            while batch := await self._call(lambda: next(scan, empty)):
                yield batch
        finally:
            with suppress(ValueError):  # a thread is in it still, and the last to drop it
                scan.close()

    async def watch(self) -> AsyncGenerator[Change, None]:
        """See ``Store.watch``. A link is reported with the file that it leads to."""
        while True:
            with self._notifications() as inotify:
                identity, links = await self._arm(inotify)
                yield Change(None)
                while (keys := await self._changed(inotify, identity, links)) is not None:
                    for key in keys:
                        yield Change(key)

    async def close(self) -> None:
        """See ``Store.close``. A thread that hangs is left behind."""
        self._threads.close()
        for sleeper in self._asleep:
            _wake(sleeper)

    async def _call(self, call: Callable[[], T], *, timeout_s: float | None = None) -> T:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            return await self._threads.run(call, deadline=deadline)
        except Late as error:
            sentence = f"{self.url} did not answer within {timeout_s:g} seconds."
            raise StoreUnavailable(self.url, sentence) from error
        except Full as error:
            sentence = f"{self.url} does not answer, and enough calls wait for it already."
            raise StoreBusy(self.url, sentence) from error
        except Closed as error:
            raise StoreUnavailable(self.url, f"The store {self.url} was closed.") from error

    def _notifications(self) -> Inotify:
        try:
            return Inotify()
        except OSError as error:
            sentence = f"{self.url} cannot be watched now: {error.strerror}."
            raise StoreBusy(self.url, sentence) from error

    async def _arm(self, inotify: Inotify) -> tuple[Identity, dict[str, str]]:
        try:
            return await self._call(partial(self._directory.arm, inotify), timeout_s=ARM_TIMEOUT_S)
        except Unsettled as error:
            raise StoreBusy(self.url, f"{self.url} was replaced as its watch began.") from error

    async def _changed(
        self, inotify: Inotify, identity: Identity, links: dict[str, str]
    ) -> set[str | None] | None:
        """Wait for changes and return their keys; ``None`` if the watch must begin anew.

        Keeps ``links`` (name to target) as they are.
        """
        events = await self._events(inotify)
        if any(event.mask & Mask.WATCH_LOST for event in events):
            return None
        if not events:
            return set() if await self._call(self._directory.identity) == identity else None
        if any(not event.name for event in events):
            return {None}  # the rights of the folder itself
        about_folders = any(event.mask & Mask.ISDIR for event in events)
        files = set(_keys(event.name for event in events if not event.mask & Mask.ISDIR))
        found, leads_to_folder = await self._call(partial(self._directory.look_at, files))
        for key in files:
            links.pop(key, None)
        links.update(found)
        if leads_to_folder or (about_folders and any("/" in target for target in links.values())):
            return {None}  # Kubernetes swaps all files of a folder by its link ..data
        return {*_with_links(files, links)}

    async def _events(self, inotify: Inotify) -> builtins.list[Event]:
        """Wait for changes; none after ``RECHECK_S``, or when the store is closed."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        self._asleep.add(readable)
        # Only while waiting: the loop calls a reader as long as there is something to read.
        loop.add_reader(inotify.fileno(), _wake, readable)
        try:
            await asyncio.wait((readable,), timeout=RECHECK_S)
        finally:
            loop.remove_reader(inotify.fileno())
            self._asleep.discard(readable)
        return inotify.read()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _keys(names: Iterable[bytes]) -> Iterator[str]:
    for name in names:
        with suppress(UnicodeDecodeError):  # no key is spelled so
            yield name.decode()


def _with_links(keys: Iterable[str], links: Mapping[str, str]) -> set[str]:
    """Return ``keys`` and the names of all links that lead to one of them."""
    reached = set(keys)
    while more := {name for name, target in links.items() if target in reached} - reached:
        reached |= more
    return reached
