"""Loads, after a restart, what was in use before it: ahead of demand, at a bounded rate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.names import HostName
    from centcert.provider.cache import Cache
    from centcert.provider.lastgood import LastGood

PREFETCH_S: Final = 6 * 3600.0
"""Names used within so long before a restart are loaded ahead of demand."""

PREFETCHES_PER_S: Final = 100
"""One at a time, and no more than so many a second: first visits must not wait behind them."""

NOTE_USE_S: Final = 60.0
"""How often it is noted which names are in use."""

SLICE: Final = 500
"""Names noted before the event loop gets its turn."""


async def prefetch(
    last_good: LastGood, cache: Cache, now: float, load: Callable[[HostName], Awaitable[object]]
) -> None:
    """Load the names that were in use shortly before ``now``, the latest first.

    Args:
        last_good: knows them.
        cache: what is in it already is not loaded, and it is not filled to the brim.
        now: seconds since the epoch.
        load: loads a name; must not raise.
    """
    for name in last_good.recently_used(now - PREFETCH_S):
        if cache.is_nearly_full:
            break
        if cache.peek(name) is None:
            await load(name)
            await asyncio.sleep(1 / PREFETCHES_PER_S)


async def note_use(last_good: LastGood, cache: Cache) -> None:
    """Note which names of the cache are in use, again and again until cancelled."""
    while True:
        await asyncio.sleep(NOTE_USE_S)
        for number, (name, entry) in enumerate(cache.entries(), 1):
            if entry.used:
                entry.used = False
                last_good.used(name)
            if number % SLICE == 0:
                await asyncio.sleep(0)
