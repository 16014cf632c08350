"""Loads, after a restart, what was in use before it: ahead of demand, at a bounded rate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from centcert.errors import FileBusy, StoreAuthenticationFailed, StoreDenied, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.errors import CentcertError
    from centcert.names import HostName
    from centcert.provider.cache import Cache
    from centcert.provider.lastgood import LastGood

PREFETCH_S: Final = 6 * 3600.0
"""Names used within so long before a restart are loaded ahead of demand."""

PREFETCHES_PER_S: Final = 100
"""One at a time, and no more than so many a second: first visits must not wait behind them."""

NOTE_USE_S: Final = 60.0
"""How often it is noted which names are in use."""

AWAY_S: Final = (1.0, 30.0)
"""The first and the longest pause while the store is away."""

SLICE: Final = 500
"""Names noted before the event loop gets its turn."""


async def prefetch(
    last_good: LastGood,
    cache: Cache,
    now: float,
    load: Callable[[HostName], Awaitable[CentcertError | None]],
) -> None:
    """Load the names that were in use shortly before ``now``, the latest first.

    While the store is away one of them is tried, after longer and longer pauses.

    Args:
        last_good: knows them.
        cache: what is in it already is not loaded, and it is not filled to the brim.
        now: seconds since the epoch.
        load: loads a name, and returns why that failed; must not raise.
    """
    for name in last_good.recently_used(now - PREFETCH_S):
        if cache.is_nearly_full:
            break
        pause_s, longest_s = AWAY_S
        while cache.peek(name) is None:
            away = _is_away(await load(name))
            await asyncio.sleep(pause_s if away else 1 / PREFETCHES_PER_S)
            if not away:
                break
            pause_s = min(2 * pause_s, longest_s)


def _is_away(error: CentcertError | None) -> bool:
    """Say whether other names would fare no better."""
    if isinstance(error, StoreDenied):
        return isinstance(error, StoreAuthenticationFailed)
    return isinstance(error, StoreError) and not isinstance(error, FileBusy)


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
