"""When the certificates that are in use expire: counts, and the few that are first."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from centcert.credential import Credential

MAX_SOONEST: Final = 20
SLICE: Final = 2_000
"""Credentials looked at before the event loop gets its turn: well below a millisecond."""

_DAY_S: Final = 86_400.0
_WITHIN_DAYS: Final = (1, 7, 30)


class Expiring(msgspec.Struct, frozen=True):
    """A file whose certificate is good until ``not_after``, in seconds since the epoch."""

    key: str
    not_after: float


class Expiry(msgspec.Struct, frozen=True):
    """The expiry of the certificates that names in memory are answered with.

    Attributes:
        certificates: how many there are.
        expired: how many are past their date.
        within_days: how many expire within so many days, the expired ones left out.
        soonest: those that expire first, ``MAX_SOONEST`` at most, expired ones included.
    """

    certificates: int = 0
    expired: int = 0
    within_days: dict[int, int] = {}
    soonest: tuple[Expiring, ...] = ()


async def expiry_of(credentials: Sequence[Credential], now: float) -> Expiry:
    """Look when ``credentials`` expire; others get their turn meanwhile.

    Args:
        credentials: a snapshot, each once.
        now: seconds since the epoch.
    """
    expired, within = 0, dict.fromkeys(_WITHIN_DAYS, 0)
    soonest: list[Expiring] = []
    for start in range(0, len(credentials), SLICE):
        part = [Expiring(one.key, one.not_after) for one in credentials[start : start + SLICE]]
        soonest = heapq.nsmallest(MAX_SOONEST, soonest + part, key=lambda one: one.not_after)
        for one in part:
            left_s = one.not_after - now
            expired += left_s <= 0
            for days in within:
                within[days] += 0 < left_s <= days * _DAY_S
        await asyncio.sleep(0)
    return Expiry(len(credentials), expired, within, tuple(soonest))
