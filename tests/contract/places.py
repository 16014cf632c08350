"""Where the contract tests put files: a store, and the hand that writes into it.

To bring another store under the contract, write its ``Place`` and add it to ``PLACES``.
"""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from centcert.stores import Account, FolderStore, MemoryStore, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import pytest

    from centcert.demo.samba import PrivateSamba
    from centcert.stores import Store


class Place(Protocol):
    """A store under test, empty and open, and the ways to change what it holds."""

    @property
    def store(self) -> Store: ...

    def put(self, key: str, data: bytes) -> None:
        """Make or replace a file, at once and whole."""

    def overwrite(self, key: str, data: bytes) -> None:
        """Write over a file in place, as a careless copy does."""

    def remove(self, key: str) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def make_folder(self, name: str) -> None:
        """Make a sub-folder, where the store has such things."""


class MemoryPlace:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self._files: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self._files[key] = data
        self.store.put(key, data)

    overwrite = put

    def remove(self, key: str) -> None:
        del self._files[key]
        self.store.remove(key)

    def rename(self, old: str, new: str) -> None:
        data = self._files[old]
        self.remove(old)
        self.put(new, data)

    def make_folder(self, name: str) -> None:
        pass


class FolderPlace:
    """Writes into a local folder, whichever way the store reads it."""

    def __init__(self, store: Store, folder: Path, elsewhere: Path) -> None:
        self.store = store
        self._folder = folder
        self._new = elsewhere / "new"

    def put(self, key: str, data: bytes) -> None:
        self._new.write_bytes(data)
        self._new.replace(self._folder / key)

    def overwrite(self, key: str, data: bytes) -> None:
        (self._folder / key).write_bytes(data)

    def remove(self, key: str) -> None:
        (self._folder / key).unlink()

    def rename(self, old: str, new: str) -> None:
        os.rename(self._folder / old, self._folder / new)  # noqa: PTH104  as in Place

    def make_folder(self, name: str) -> None:
        (self._folder / name).mkdir()


@asynccontextmanager
async def memory(_request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with MemoryStore() as store:
        yield MemoryPlace(store)


@asynccontextmanager
async def folder(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    scratch: Path = request.getfixturevalue("tmp_path")
    path = scratch / "store"
    path.mkdir()
    async with FolderStore(path) as store:
        yield FolderPlace(store, path, scratch)


@asynccontextmanager
async def smb(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    samba: PrivateSamba = request.getfixturevalue("samba")
    path = samba.folder / secrets.token_hex(4)
    path.mkdir(mode=0o755)
    account = Account(samba.username, samba.password.encode)
    url = f"smb://{samba.host}:{samba.port}/{samba.share}/{path.name}"
    async with open_store(url, account=account) as store:
        yield FolderPlace(store, path, samba.root)


PLACES: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]] = {
    "memory": memory,
    "folder": folder,
    "smb": smb,
}
