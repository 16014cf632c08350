"""Keeps the last-good copies in step with memory, behind the handshakes.

Serving never waits for the disk: what is to be kept or dropped is noted here, the last
word for each name counts, and one task writes it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from centcert.provider.lookup import Loaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.names import HostName
    from centcert.provider.cache import Cache
    from centcert.provider.clock import Clock
    from centcert.provider.lastgood import LastGood

PREFETCH_S: Final = 6 * 3600.0
"""Names used within so long before a restart are loaded ahead of demand."""

PREFETCHES_PER_S: Final = 100
"""One at a time, and no more than so many a second: first visits must not wait behind them."""

NOTE_USE_S: Final = 60.0
"""How often it is noted which names are in use."""

SLICE: Final = 500
"""Names noted before the event loop gets its turn."""


class Keeping:
    """What is kept of one provider; ``work``, ``note_use`` and ``prefetch`` run in its tasks."""

    def __init__(self, last_good: LastGood, cache: Cache, clock: Clock) -> None:
        self._last_good = last_good
        self._cache = cache
        self._clock = clock
        self._pending: dict[HostName, Loaded | None] = {}  # None: to be dropped
        self._noted = asyncio.Event()

    def has(self, name: HostName) -> bool:
        """Say whether there is a copy for ``name``, without I/O."""
        if name in self._pending:
            return self._pending[name] is not None
        return self._last_good.has(name)

    async def recall(self, name: HostName) -> Loaded | None:
        """Return the copy for ``name``, if there is one that can be read."""
        if name in self._pending:
            return self._pending[name]
        kept = await self._last_good.recall(name)
        return None if kept is None else Loaded(kept.key, kept.version, kept.credential)

    def keep(self, name: HostName, answer: Loaded) -> None:
        """Note what ``name`` is answered with now."""
        self._pending[name] = answer
        self._noted.set()

    def drop(self, name: HostName) -> None:
        """Note that ``name`` was withdrawn."""
        self._pending[name] = None
        self._noted.set()

    async def work(self) -> None:
        """Write what is noted until cancelled."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._pending:
                name, answer = next(iter(self._pending.items()))
                if answer is None:
                    await self._last_good.forget(name)
                else:
                    await self._last_good.keep(name, answer.key, answer.version, answer.credential)
                if self._pending.get(name) is answer:  # else there is a later word
                    del self._pending[name]

    async def note_use(self) -> None:
        """Note which names are in use, for the prefetch after a restart, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_USE_S)
            now = self._clock.wall()
            for number, (name, entry) in enumerate(self._cache.entries(), 1):
                if entry.used:
                    entry.used = False
                    self._last_good.used(name, now)
                if number % SLICE == 0:
                    await asyncio.sleep(0)

    async def prefetch(self, load: Callable[[HostName], Awaitable[object]]) -> None:
        """Load the names that were in use before the restart, the latest first."""
        since = self._clock.wall() - PREFETCH_S
        for name in await self._last_good.recently_used(since):
            if self._cache.is_nearly_full:
                break
            if self._cache.peek(name) is None:
                await load(name)
                await asyncio.sleep(1 / PREFETCHES_PER_S)
