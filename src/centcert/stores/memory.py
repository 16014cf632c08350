"""A store in memory: for tests, and for programs that have their certificates elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final

from centcert.credential import MAX_BLOB_BYTES
from centcert.errors import StoreUnavailable
from centcert.stores.base import (
    BATCH,
    Blob,
    Change,
    Store,
    StoredFile,
    is_bare,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

MAX_UNREAD: Final = 1024
"""Changed keys that a slow watcher may leave unread before it is told to look at everything."""


class MemoryStore(Store):
    """A dictionary with the contract of a store. Everything on one event loop's thread."""

    def __init__(self, name: str = "memory") -> None:
        self.url = f"memory:{name}"
        self._files: dict[str, tuple[bytes, StoredFile]] = {}
        self._versions = itertools.count(1)
        self._watches: set[_Watch] = set()
        self._closed = False

    def put(self, key: str, data: bytes) -> None:
        """Hold ``data`` behind ``key`` from now on. The same bytes again are no change.

        Raises:
            ValueError: ``key`` is no bare file name.
        """
        if not is_bare(key):
            raise ValueError(f"{key!r} is no bare file name.")
        held = self._files.get(key)
        if held is not None and held[0] == data:
            return
        version = str(next(self._versions))
        self._files[key] = data, StoredFile(key, version, len(data), time.time())
        self._tell(key)

    def remove(self, key: str) -> None:
        """Hold nothing behind ``key`` from now on.

        Raises:
            KeyError: there was nothing.
        """
        del self._files[key]
        self._tell(key)

    async def fetch(self, key: str) -> Blob | None:
        """See ``Store.fetch``."""
        self._check_open()
        held = self._files.get(key)
        if held is None:
            return None
        data, file = held
        if file.size > MAX_BLOB_BYTES:
            raise too_large(key, file.size)
        return Blob(key, data, file.version)

    async def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """See ``Store.scan``. What is put and removed meanwhile is not seen."""
        self._check_open()
        files = tuple(file for _, file in self._files.values())
        for start in range(0, len(files), BATCH):
            self._check_open()
            yield files[start : start + BATCH]

    async def watch(self) -> AsyncGenerator[Change, None]:
        """See ``Store.watch``."""
        watch = _Watch()
        self._watches.add(watch)
        try:
            while True:
                self._check_open()
                for key in watch.take():
                    yield Change(key)
                await watch.noted.wait()
        finally:
            self._watches.discard(watch)

    async def close(self) -> None:
        """See ``Store.close``."""
        self._closed = True
        for watch in self._watches:
            watch.noted.set()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(self.url, f"The store {self.url} was closed.")

    def _tell(self, key: str) -> None:
        for watch in self._watches:
            watch.note(key)


class _Watch:
    """What one watcher has not been told yet; ``None`` stands for everything."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()
        self._unread: dict[str | None, None] = {None: None}

    def note(self, key: str) -> None:
        """Add a key; a watcher that lags behind is told to look at everything."""
        if len(self._unread) >= MAX_UNREAD:
            self._unread = {None: None}
        self._unread[key] = None
        self.noted.set()

    def take(self) -> tuple[str | None, ...]:
        """Return what is unread, oldest first, and forget it."""
        unread, self._unread = tuple(self._unread), {}
        self.noted.clear()
        return unread
