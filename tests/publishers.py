"""A publisher into memory, and one that fails or dies at a step of choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from centcert.errors import StoreUnavailable
from centcert.stores import Publisher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.stores import MemoryStore

T = TypeVar("T")


class MemoryPublisher(Publisher):
    def __init__(self, store: MemoryStore) -> None:
        self.url = store.url
        self.store = store

    async def make(self, key: str, data: bytes) -> bool:
        if await self.store.fetch(key) is not None:
            return False
        self.store.put(key, data)
        return True

    async def move(self, key: str, new_key: str) -> None:
        blob = await self.store.fetch(key)
        if blob is None:
            raise StoreUnavailable(self.url, f"{key} was taken away.")
        self.store.remove(key)
        self.store.put(new_key, blob.data)

    async def delete(self, key: str) -> bool:
        if await self.store.fetch(key) is None:
            return False
        self.store.remove(key)
        return True


class SteppedPublisher(Publisher):
    """Another publisher; ``before`` and ``after`` are called with each step's number, from 1 on."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        before: Callable[[int], None] = lambda _: None,
        after: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.url = publisher.url
        self.steps = 0
        self._publisher = publisher
        self._before = before
        self._after = after

    async def make(self, key: str, data: bytes) -> bool:
        return await self._step(lambda: self._publisher.make(key, data))

    async def move(self, key: str, new_key: str) -> None:
        await self._step(lambda: self._publisher.move(key, new_key))

    async def delete(self, key: str) -> bool:
        return await self._step(lambda: self._publisher.delete(key))

    async def close(self) -> None:
        await self._publisher.close()

    async def _step(self, step: Callable[[], Awaitable[T]]) -> T:
        self.steps += 1
        number = self.steps
        self._before(number)
        result = await step()
        self._after(number)
        return result
