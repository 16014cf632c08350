"""The two clocks of a provider, so that tests can turn them."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where ``now`` comes from; both readings are in seconds."""

    def monotonic(self) -> float:
        """Return a time that never goes back: for how old something is."""

    def wall(self) -> float:
        """Return the seconds since the epoch, UTC: for the dates of certificates."""


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
