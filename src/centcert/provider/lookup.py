"""The look-up: which of a name's keys answers it. The order and the choice, no I/O of its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from centcert.errors import BadBlob, UnknownName, WrongName
from centcert.names import candidates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.credential import Credential
    from centcert.names import HostName

_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file of the store that is a good credential."""

    key: str
    version: str
    credential: Credential


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file of the store that cannot be used; ``error`` says why and what to do."""

    key: str
    version: str
    error: BadBlob


Load: TypeAlias = "Callable[[str], Awaitable[Loaded | Rejected | None]]"
"""Loads a key. ``None`` is absence; a store that gives no answer raises ``StoreError``."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """The outcome of a look-up that the store answered.

    Attributes:
        answer: the file that answers the name; ``None``: no usable one.
        examined: every key that was looked at with its version (``None``: absent).
        rejected: the files passed over, best first.
        until: as long as the files stay the same, so does the answer, until then (seconds
            since the epoch): a certificate begins or ceases to be within its dates.
    """

    answer: Loaded | None
    examined: tuple[tuple[str, str | None], ...]
    rejected: tuple[Rejected, ...]
    until: float

    def refusal(self, name: HostName) -> BadBlob | UnknownName:
        """Say why there is no answer: a bad file if there is one, else absence."""
        return self.rejected[0].error if self.rejected else UnknownName(name)


async def look_up(name: HostName, load: Load, now: float) -> LookUp:
    """Try the keys of ``name`` in order; the first good one answers.

    A file that is bad, or whose certificate does not cover the name, is passed over:
    the wildcard of the same site is a right answer, another site's never is. Among good
    ones a certificate within its dates at ``now`` (seconds since the epoch) beats one
    outside them.

    Raises:
        StoreError: a key could not be asked for, so what would have come after it in
            the order must not answer in its place.
    """
    examined: list[tuple[str, str | None]] = []
    rejected: list[Rejected] = []
    outside_dates: Loaded | None = None
    until = inf
    for candidate in candidates(name):
        loaded = await load(candidate.key)
        examined.append((candidate.key, None if loaded is None else loaded.version))
        if isinstance(loaded, Loaded) and not loaded.credential.covers(name):
            loaded = Rejected(loaded.key, loaded.version, wrong_name(loaded, name))
        if isinstance(loaded, Rejected):
            rejected.append(loaded)
        elif loaded is not None:
            if loaded.credential.within_dates(now):
                until = min(until, loaded.credential.not_after)
                return LookUp(loaded, tuple(examined), tuple(rejected), until)
            if now < loaded.credential.not_before:
                until = min(until, loaded.credential.not_before)
            outside_dates = outside_dates or loaded
    return LookUp(outside_dates, tuple(examined), tuple(rejected), until)


def wrong_name(loaded: Loaded, name: HostName) -> WrongName:
    """Say that ``loaded`` does not cover ``name``, and what it is for."""
    patterns = loaded.credential.patterns
    # Any ASCII, line ends and a terminal's commands too, may stand in a certificate.
    shown = [ascii(pattern[:_SHOWN])[1:-1] for pattern in patterns[:3]]
    held = ", ".join(shown) + (", …" if len(patterns) > len(shown) else "")
    return WrongName(
        loaded.key,
        f"its certificate is for {held or 'no DNS name at all'} and does not cover {name}:"
        " put a certificate for that name in this file, or rename the file.",
    )
