"""One piece of work for each key, however many wait for it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from centcert.errors import Closing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Work under way, by key.

    The work runs in a task of its own in ``tasks``: a waiter that is cancelled leaves
    it, and the other waiters, alone. Its result or its error goes to all of them.
    """

    def __init__(self, tasks: asyncio.TaskGroup | None = None) -> None:
        self._tasks = tasks  # none is needed by ``lead``
        self._under_way: dict[K, asyncio.Future[V]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def keys(self) -> tuple[K, ...]:
        """Return what is under way now."""
        return tuple(self._under_way)

    def __contains__(self, key: K) -> bool:
        return key in self._under_way

    async def join(self, key: K, work: Callable[[K], Awaitable[V]]) -> V:
        """Wait for the work on ``key``, starting it if nobody has."""
        return await asyncio.shield(self.start(key, work))

    async def lead(self, key: K, work: Callable[[K], Awaitable[V]]) -> V:
        """As ``join``, but the first to come does the work itself, without a task.

        For callers that nobody cancels while others may wait: a cancelled one takes them with
        it, and they are told ``Closing``.
        """
        landing = self._under_way.get(key)
        if landing is not None:
            return await asyncio.shield(landing)
        landing = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            await _fly(work, key, landing)
        except asyncio.CancelledError:
            _fail(landing, Closing())
            raise
        finally:
            self._land(key, landing)
        return landing.result()

    def start(self, key: K, work: Callable[[K], Awaitable[V]]) -> asyncio.Future[V]:
        """Start the work on ``key`` unless it is under way; nobody need wait for it.

        Raises:
            Closing: ``tasks`` has ended.
        """
        landing = self._under_way.get(key)
        if landing is None:
            landing = asyncio.get_running_loop().create_future()
            assert self._tasks is not None  # noqa: S101  who has none does not start work
            flying = _fly(work, key, landing)
            try:
                flight = self._tasks.create_task(flying)
            except RuntimeError:
                flying.close()
                raise Closing from None
            self._under_way[key] = landing
            flight.add_done_callback(partial(self._end, key, landing))
        return landing

    def detach(self, key: K) -> None:
        """Let nobody else join the work on ``key``: what it will bring may be out of date."""
        self._under_way.pop(key, None)

    def _end(self, key: K, landing: asyncio.Future[V], flight: asyncio.Task[None]) -> None:
        if flight.cancelled() and not landing.done():  # perhaps before its first step
            _fail(landing, Closing())
        self._land(key, landing)

    def _land(self, key: K, landing: asyncio.Future[V]) -> None:
        if self._under_way.get(key) is landing:
            del self._under_way[key]


async def _fly(work: Callable[[K], Awaitable[V]], key: K, landing: asyncio.Future[V]) -> None:
    try:
        landing.set_result(await work(key))
    except Exception as error:  # noqa: BLE001  it belongs to the waiters, whatever it is
        _fail(landing, error)


def _fail(landing: asyncio.Future[V], error: BaseException) -> None:
    landing.set_exception(error)
    landing.exception()  # read once: an error that nobody waits for is no news to asyncio
