"""Which server to ask, when to ask it again, and when to ask a second one. Pure.

No clock, no chance, no I/O: ``now`` is in seconds of any clock that never goes back,
and ``jitter`` is a factor of one or a little more, both given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

HEDGE_SHARE: Final = 0.1
"""Second requests per request: a slow server must not double the load on the others."""

HEDGE_BURST: Final = 10.0
"""Second requests that may be saved up: those of one burst against a server that froze."""


class CoolDown:
    """A rest that doubles with each failure in a row and ends with a success.

    When it is over there is one trial: whoever fails then begins the next rest.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._until = float("-inf")
        self.failures = 0

    def rests(self, now: float) -> bool:
        """Say whether nothing is to be tried now."""
        return now < self._until

    def left_s(self, now: float) -> float:
        """Return how much longer nothing is to be tried."""
        return max(0.0, self._until - now)

    def failed(self, now: float, jitter: float) -> None:
        """Note a failure. While it rests it is one that had begun before, and the same one."""
        if self.rests(now):
            return
        pause_s = min(self._first_s * 2.0 ** min(self.failures, 32), self._longest_s)
        self._until = now + pause_s * jitter
        self.failures += 1

    def succeeded(self) -> None:
        """Note a success: all is forgotten."""
        self._until = float("-inf")
        self.failures = 0


class Standing(Enum):
    """What may be expected of a server."""

    CONNECTED = auto()
    """It has a connection, so it is asked."""
    READY = auto()
    """It has none, and one may be tried."""
    RESTING = auto()
    """It has failed lately and is left alone."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with the servers, by their index.

    Attributes:
        ask: in this order, until one answers.
        connect: behind the request, so that they are there for the next one.
    """

    ask: tuple[int, ...]
    connect: tuple[int, ...]


def choose(standings: Sequence[Standing]) -> Choice:
    """Choose among servers in the order of preference.

    A server without a connection is asked only if none with one is left; the trial of
    one that has failed is at nobody's expense if another is there.
    """
    connected = tuple(i for i, s in enumerate(standings) if s is Standing.CONNECTED)
    ready = tuple(i for i, s in enumerate(standings) if s is Standing.READY)
    return Choice(ask=connected + ready, connect=ready if connected else ready[1:])


class HedgeBudget:
    """How often a second server may be asked before the first has failed.

    Over any number of requests: at most ``HEDGE_BURST`` and ``HEDGE_SHARE`` of them.
    """

    def __init__(self) -> None:
        self._allowance = HEDGE_BURST

    def asked(self) -> None:
        """Note a request."""
        self._allowance = min(self._allowance + HEDGE_SHARE, HEDGE_BURST)

    def take(self) -> bool:
        """Say whether a second server may be asked now, and count it."""
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
