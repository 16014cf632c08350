"""What a listing of the store has told, without any of its text: sets of 64-bit fingerprints.

A listing passes by in batches. A million of its lines would be 400 MB of objects; their
fingerprints are 16 MB while it lasts, and what is kept of it, its keys, is 12.
"""

from __future__ import annotations

import asyncio
from array import array
from mmap import mmap
from typing import TYPE_CHECKING, Final

from centcert.names import ascii_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert.stores.base import StoredFile

SLOTS_A_KEY: Final = 1.5
"""Table slots of 8 bytes for each key: 12 bytes a key, and five probes for an absent one."""

SLICE: Final = 500
"""Fingerprints entered before the event loop gets its turn: a quarter of a millisecond."""

UNICODE_SLICE: Final = 50
"""Likewise keys in Unicode, which are entered in ASCII too."""

ZEROS: Final = bytes(64 * 1024)
"""Likewise of an empty table: each page of memory is had from the kernel, some for 10 us."""

_ALIAS: Final = "/"  # before the ASCII spelling of a key in Unicode; no key begins so
_HASH_MASK: Final = (1 << 64) - 1


class Fingerprints:
    """A set that is gathered first, then settled: after that it can be asked, and not before."""

    def __init__(self) -> None:
        self._gathered = array("Q")
        self._table = memoryview(bytes(8)).cast("Q")

    @property
    def used_bytes(self) -> int:
        """The memory of the settled set."""
        return self._table.nbytes

    def gather(self, fingerprints: Iterable[int]) -> None:
        """Take more of them in."""
        self._gathered.extend(fingerprints)

    async def settle(self) -> None:
        """Enter what was gathered into a table, slice by slice."""
        gathered, self._gathered = self._gathered, array("Q")
        table = await _empty_table(int(len(gathered) * SLOTS_A_KEY) + 1)
        for start in range(0, len(gathered), SLICE):
            _enter(table, gathered[start : start + SLICE])
            await asyncio.sleep(0)
        self._table = table

    def __contains__(self, fingerprint: int) -> bool:
        table, size = self._table, len(self._table)
        slot = fingerprint % size
        while held := table[slot]:
            if held == fingerprint:
                return True
            slot = (slot + 1) % size
        return False


class Listing:
    """One listing: which keys there are, and in which versions.

    It can be asked once it is settled. Like any set of fingerprints it can take a key for
    listed that is not, with a chance of one in 10^13 for each key that is asked for.

    Attributes:
        keys: the fingerprints of all keys, and of their spellings in ASCII.
    """

    def __init__(self) -> None:
        self.keys = Fingerprints()
        self._states = Fingerprints()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: object) -> bool:
        return fingerprint(key) in self.keys

    async def add(self, files: Iterable[StoredFile]) -> None:
        """Take in a batch of files; the event loop gets its turn."""
        pairs = [(file.key, file.version) for file in files]
        self._count += len(pairs)
        self.keys.gather([fingerprint(key) for key, _ in pairs])
        self._states.gather(map(fingerprint, pairs))
        await asyncio.sleep(0)
        international = [key for key, _ in pairs if not key.isascii()]
        for start in range(0, len(international), UNICODE_SLICE):
            part = international[start : start + UNICODE_SLICE]
            self.keys.gather([fingerprint(alias(ascii_key(key))) for key in part])
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Make ready to be asked: nothing comes any more."""
        await self.keys.settle()
        await self._states.settle()

    def bears_out(self, key: str, version: str | None) -> bool:
        """Say whether ``key`` was listed with ``version``; ``None``: was not listed."""
        if version is None:
            return key not in self
        return fingerprint((key, version)) in self._states


def fingerprint(value: object) -> int:
    """Hash a str, or a tuple of them, to 64 bits but 0, which marks a free slot.

    Python salts the hash of a str for each process: nobody can send names that collide.
    """
    return hash(value) & _HASH_MASK or 1


def alias(ascii_spelling: str) -> str:
    """Return what stands in a set for a key in Unicode by its spelling in ASCII."""
    return _ALIAS + ascii_spelling


async def _empty_table(slots: int) -> memoryview:
    # Not an array: the heap would keep its memory for later when it is dropped.
    memory = mmap(-1, 8 * slots)
    for start in range(0, len(memory), len(ZEROS)):
        end = min(start + len(ZEROS), len(memory))
        memory[start:end] = ZEROS[: end - start]
        await asyncio.sleep(0)
    return memoryview(memory).cast("Q")


def _enter(table: memoryview, fingerprints: Iterable[int]) -> None:
    for wanted in fingerprints:
        slot = wanted % len(table)
        while table[slot]:
            slot = (slot + 1) % len(table)
        table[slot] = wanted
