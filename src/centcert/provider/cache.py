"""What is remembered, for how long, and what is forgotten first. No I/O, no clock.

Every ``now`` is in seconds of one monotonic clock. Names are bounded by count and
by the memory of the credentials behind them, absences by count; the least recently
used go first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.listing import Listing

NAME_BYTES: Final = 512
"""What a remembered name costs beside its credential, which several names may share."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What may be remembered.

    Attributes:
        max_bytes: memory of credentials and names together, estimated.
        max_names: names with a credential.
        max_absent: names known to have none. Strangers fill this table, so it is small
            against what they can send and each entry is short-lived.
        absent_s: for so many seconds a name without a file is refused from memory.
    """

    max_bytes: int = 256 * 1024 * 1024
    max_names: int = 200_000
    max_absent: int = 20_000
    absent_s: float = 10.0


@dataclass(slots=True)
class Entry:
    """A name with its credential.

    Attributes:
        key: the file that answers the name.
        credential: what it holds.
        examined: each key that was looked at with its version then (``None``: absent),
            in look-up order; as long as the store says the same, so does a look-up. Empty:
            the store has not been asked, the credential is a copy of what it once held.
        fresh_until: from then on the entry is stale: still served, refreshed behind.
        used: whether it was asked for since that was last noted.
        until: as in ``LookUp``.
    """

    key: str
    credential: Credential
    examined: tuple[tuple[str, str | None], ...]
    fresh_until: float
    used: bool = False
    until: float = inf

    @property
    def is_copy(self) -> bool:
        """Whether this is a last-good copy: not every listener may answer with it."""
        return not self.examined

    def is_borne_out(self, listing: Listing) -> bool:
        """Say whether a look-up would find the same, by a listing of the store."""
        return bool(self.examined) and all(
            listing.bears_out(key, version) for key, version in self.examined
        )


class Cache:
    """Names and their credentials, and names known to have none."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._entries: OrderedDict[HostName, Entry] = OrderedDict()
        self._absent: OrderedDict[HostName, float] = OrderedDict()
        # How many entries hold a credential: a wildcard's is counted once in the bytes.
        self._holders: dict[Credential, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """The estimated memory of everything remembered with a credential."""
        return self._bytes

    @property
    def is_nearly_full(self) -> bool:
        """Whether a few more names would push others out."""
        limits = self._limits
        return self._bytes > 0.9 * limits.max_bytes or len(self) > 0.9 * limits.max_names

    @property
    def absent_count(self) -> int:
        """How many names are remembered to have no credential, past ones included."""
        return len(self._absent)

    def holds(self, credential: Credential) -> bool:
        """Say whether any name is answered with ``credential``."""
        return credential in self._holders

    def touch(self, name: HostName) -> Entry | None:
        """Return the entry of ``name``, stale or not, and mark it used."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.used = True
            self._entries.move_to_end(name)
        return entry

    def peek(self, name: HostName) -> Entry | None:
        """Return the entry of ``name`` without marking it used."""
        return self._entries.get(name)

    def is_absent(self, name: HostName, now: float) -> bool:
        """Say whether ``name`` is still remembered to have no credential."""
        return self._absent.get(name, now) > now

    def remember(self, name: HostName, entry: Entry) -> list[HostName]:
        """Keep ``entry`` for ``name``; return the names forgotten to make room.

        An entry larger than the whole cache is not kept, and ``name`` is returned.
        """
        self.forget(name)
        self._absent.pop(name, None)
        self._entries[name] = entry
        self._bytes += NAME_BYTES
        holders = self._holders.get(entry.credential, 0)
        self._holders[entry.credential] = holders + 1
        if not holders:
            self._bytes += entry.credential.size
        forgotten: list[HostName] = []
        while self._bytes > self._limits.max_bytes or len(self) > self._limits.max_names:
            oldest = next(iter(self._entries))
            self.forget(oldest)
            forgotten.append(oldest)
        return forgotten

    def remember_absent(self, name: HostName, until: float) -> None:
        """Keep that ``name`` has no credential until ``until``; forget a credential it had."""
        self.forget(name)
        self._absent[name] = until
        self._absent.move_to_end(name)
        if len(self._absent) > self._limits.max_absent:
            self._absent.popitem(last=False)

    def forget(self, name: HostName) -> bool:
        """Drop the credential of ``name``; say whether there was one."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        self._bytes -= NAME_BYTES
        holders = self._holders[entry.credential] - 1
        if holders:
            self._holders[entry.credential] = holders
        else:
            del self._holders[entry.credential]
            self._bytes -= entry.credential.size
        return True

    def forget_absent(self, name: HostName) -> None:
        """Drop the absence of ``name``: the store has changed."""
        self._absent.pop(name, None)

    def forget_absences(self) -> None:
        """Drop every absence: the store has changed in an unknown way."""
        self._absent.clear()

    def entries(self) -> Iterator[tuple[HostName, Entry]]:
        """Iterate over a snapshot of all entries, least recently used first."""
        return iter(tuple(self._entries.items()))

    def credentials(self) -> tuple[Credential, ...]:
        """Return a snapshot of the credentials that are held, each once."""
        return tuple(self._holders)

    def absences(self) -> Iterator[HostName]:
        """Iterate over a snapshot of all names remembered as absent."""
        return iter(tuple(self._absent))
