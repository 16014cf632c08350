"""What one process counts: plain numbers that only grow, added up where they are read.

A step on the way of a handshake costs an addition here, no lock and no call. Processes
send each other their ``Counters`` as they are; ``added_up`` makes one of them.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

import msgspec

from centcert.errors import BadBlob, Overloaded, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert.errors import CentcertError

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""A file from memory takes 1 ms, an RSA key 50 ms to decode, a store's deadlines seconds."""


class Histogram(msgspec.Struct):
    """How long something took.

    Attributes:
        counts: how often up to each of ``BOUNDS_S`` and above the one before it; last, beyond all.
        total_s: all of it together, in seconds.
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one of ``duration_s`` seconds."""
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.total_s += duration_s


class Counters(msgspec.Struct):
    """What has happened since the process began. No name or address is ever a label here.

    Attributes:
        accepted: clients that connected.
        turned_away: clients that found every place taken.
        handshakes: completed ones, by TLS version in OpenSSL's words.
        refusals: refused ones, by ``CentcertError.code`` and ``alert_name``.
        abandoned: clients that left before TLS stood.
        backend_failures: connections that ended because the backend could not go on.
        hits: names answered from memory.
        look_ups: all other questions for a name, by outcome (``found``, ``absent``, ``bad``,
            ``unavailable``, ``overloaded``) and by what told it (``store``, ``last-good``;
            ``memory``: it was known without asking).
        refreshes: look-ups behind the handshakes, by outcome: ``same``, ``changed``, ``kept``
            (it failed), ``withdrawn``.
        fetches: files asked for, by outcome: ``found``, ``absent``, ``failed``.
        decodes: files that became a credential.
    """

    accepted: int = 0
    turned_away: int = 0
    handshakes: dict[str, int] = {}
    refusals: dict[str, dict[str, int]] = {}
    abandoned: int = 0
    backend_failures: int = 0
    hits: int = 0
    look_ups: dict[str, dict[str, int]] = {}
    refreshes: dict[str, int] = {}
    fetches: dict[str, Histogram] = {}
    decodes: Histogram = msgspec.field(default_factory=Histogram)

    def completed(self, version: str) -> None:
        """Count a handshake."""
        self.handshakes[version] = self.handshakes.get(version, 0) + 1

    def refused(self, error: CentcertError) -> None:
        """Count a handshake that ``error`` ended."""
        alerts = self.refusals.setdefault(error.code, {})
        alert = error.alert_name or ""
        alerts[alert] = alerts.get(alert, 0) + 1

    def looked_up(self, source: str, error: CentcertError | None = None) -> None:
        """Count the end of a question for a name; ``error``: why it has no answer."""
        sources = self.look_ups.setdefault(_outcome(error), {})
        sources[source] = sources.get(source, 0) + 1

    def refreshed(self, outcome: str) -> None:
        """Count a look-up behind the handshakes."""
        self.refreshes[outcome] = self.refreshes.get(outcome, 0) + 1

    def fetched(self, outcome: str, duration_s: float) -> None:
        """Count a question to the store."""
        histogram = self.fetches.get(outcome)
        if histogram is None:
            histogram = self.fetches[outcome] = Histogram()
        histogram.observe(duration_s)


def added_up(parts: Iterable[Counters]) -> Counters:
    """Return the sum of what several processes have counted; the parts stay as they are."""
    total: Counters = functools.reduce(_sum, parts, Counters())
    return total


def _sum(one: Any, other: Any) -> Any:  # noqa: ANN401  two of the same type, whatever it is
    """Add numbers, and whatever holds numbers piece by piece."""
    match one, other:
        case msgspec.Struct(), msgspec.Struct():
            fields = one.__struct_fields__
            return type(one)(
                *[_sum(getattr(one, field), getattr(other, field)) for field in fields]
            )
        case dict(), dict():
            return {**one, **{k: _sum(one[k], v) if k in one else v for k, v in other.items()}}
        case list(), list():
            return [_sum(left, right) for left, right in zip(one, other, strict=True)]
        case _:
            return one + other


def _outcome(error: CentcertError | None) -> str:
    match error:
        case None:
            return "found"
        case UnknownName():
            return "absent"
        case BadBlob():
            return "bad"
        case Overloaded():
            return "overloaded"
        case _:
            return "unavailable"
