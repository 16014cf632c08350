"""Which keys the store holds, remembered so compactly that a million of them fit.

It answers «certainly not» or «perhaps»: so an unknown name costs no store I/O. It never
says what a file holds, and a key it wrongly takes for held costs one fetch.
"""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Final

from centcert.names import ascii_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SLOTS_A_KEY: Final = 1.5
"""Table slots of 8 bytes for each key: 12 bytes a key, and under two probes for an absent one."""

SLICE: Final = 2_000
"""Keys entered before the event loop gets its turn: about a millisecond."""

UNICODE_SLICE: Final = 100
"""Likewise of keys in Unicode, which are entered in ASCII too."""

_ALIAS: Final = "/"  # before the ASCII spelling of a key in Unicode; no key begins so
_HASH_MASK: Final = (1 << 64) - 1


class Index:
    """The keys of one listing, and those that notifications have added since.

    Attributes:
        fresh: whether the listing is borne out by a working watch, so that «certainly
            not» can be believed without asking the store.
        listed: whether there has been a listing, however long ago.
    """

    def __init__(self) -> None:
        self.fresh = False
        self.listed = False
        self._table = array("Q", [0])
        self._since: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._since)

    @property
    def used_bytes(self) -> int:
        """The memory of the table."""
        return self._table.itemsize * len(self._table)

    def added(self) -> frozenset[int]:
        """Return what ``add`` was told: a listing that begins now will have it, or it is gone."""
        return frozenset(self._since)

    async def rebuild(self, keys: Sequence[str], *, settled: frozenset[int]) -> list[str]:
        """Hold ``keys``, a listing, and what was added since; ``settled`` was before it began.

        Returns:
            The keys that the listing before did not hold; none if there was none.
        """
        international = [key for key in keys if not key.isascii()]
        slots = int((len(keys) + len(international)) * SLOTS_A_KEY) + 1
        table = array("Q", bytes(8 * slots))
        appeared: list[str] = []
        for start in range(0, len(keys), SLICE):
            part = keys[start : start + SLICE]
            _enter(table, part)
            if self.listed:
                appeared += [key for key in part if not self.may_hold(key)]
            await asyncio.sleep(0)
        for start in range(0, len(international), UNICODE_SLICE):
            _enter(table, map(_alias, international[start : start + UNICODE_SLICE]))
            await asyncio.sleep(0)
        self._table, self._count = table, len(keys)
        self._since -= settled
        self.listed = True
        return appeared

    def add(self, key: str) -> None:
        """Hold ``key`` too. One that is gone stays until the next listing: it costs a fetch."""
        self._since.add(_fingerprint(key))
        if not key.isascii():
            self._since.add(_fingerprint(_alias(key)))

    def may_hold(self, key: str) -> bool:
        """Say whether the store perhaps holds ``key``; ``False`` is certain if ``fresh``."""
        return self.was_listed(key) or _fingerprint(key) in self._since

    def may_hold_spelling(self, key: str) -> bool:
        """Say whether the store perhaps holds ``key``, in ASCII, in this spelling or in Unicode."""
        return self.may_hold(key) or ("xn--" in key and self.may_hold(_ALIAS + key))

    def was_listed(self, key: str) -> bool:
        """Say whether the latest listing perhaps held ``key``, whatever was added since."""
        wanted = _fingerprint(key)
        table = self._table
        slot = wanted % len(table)
        while table[slot]:
            if table[slot] == wanted:
                return True
            slot = (slot + 1) % len(table)
        return False

    def was_listed_spelling(self, key: str) -> bool:
        """Likewise of ``key``, in ASCII, in this spelling or in Unicode."""
        return self.was_listed(key) or ("xn--" in key and self.was_listed(_ALIAS + key))


def _alias(key: str) -> str:
    return _ALIAS + ascii_key(key)


def _enter(table: array[int], keys: Iterable[str]) -> None:
    for key in keys:
        wanted = _fingerprint(key)
        slot = wanted % len(table)
        while table[slot]:
            slot = (slot + 1) % len(table)
        table[slot] = wanted


def _fingerprint(key: str) -> int:
    """Hash ``key`` to 64 bits but 0, which marks a free slot.

    Python salts the hash of a str for each process: nobody can send names that collide.
    """
    return hash(key) & _HASH_MASK or 1
