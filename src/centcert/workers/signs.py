"""Whether a process still answers: its event loop gives signs of life, its supervisor counts.

What is counted are rounds, not seconds: a round is a stretch in which the supervisor itself was
awake. So nobody is taken for hung because the whole machine stood still for a while.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The sender's event loop runs."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often signs of life come, and how long they may stay out.

    Attributes:
        every_s: from one sign to the next; as long as a round.
        rounds: so many without a sign, and a process hangs. A machine under full load
            gives each process its turn within a round.
        first_rounds: likewise until it has begun: an application is imported meanwhile.
    """

    every_s: float = 5.0
    rounds: int = 6
    first_rounds: int = 60


async def giving_signs(
    work: Awaitable[None], give: Callable[[Alive], None], every_s: float
) -> None:
    """Do ``work``, and give signs of life for as long as this event loop runs: to its last turn."""
    loop = asyncio.get_running_loop()

    def live() -> None:
        give(Alive())
        loop.call_later(every_s, live)

    live()
    await work


class Signs:
    """The signs of life of one process, as its supervisor hears them. No clock."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._limit = rhythm.first_rounds
        self._silent = 0  # rounds

    @property
    def limit_s(self) -> float:
        """For how long they may stay out now."""
        return self._limit * self._rhythm.every_s

    @property
    def is_hung(self) -> bool:
        """Whether it is to be killed."""
        return self._silent >= self._limit

    @property
    def is_stuck(self) -> bool:
        """Whether that has had its time, too, and it is still there."""
        return self._silent >= self._limit + self._rhythm.rounds

    def begun(self) -> None:
        """Take that the process does what it is there for."""
        self._limit = self._rhythm.rounds

    def heard(self) -> None:
        """Take a sign of life."""
        self._silent = 0

    def count_round(self) -> None:
        """Take that a round is over."""
        self._silent += 1
