"""Which keys the store holds, remembered so compactly that a million of them fit.

It answers «certainly not» or «perhaps»: so an unknown name costs no store I/O. It never
says what a file holds, and a key it wrongly takes for held costs one fetch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.names import ascii_key
from centcert.provider.listing import Fingerprints, alias, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert.provider.listing import Listing
    from centcert.stores.base import StoredFile


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
        self._keys = Fingerprints()
        self._since: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._since)

    @property
    def used_bytes(self) -> int:
        """The memory of the listing's keys."""
        return self._keys.used_bytes

    def added(self) -> frozenset[int]:
        """Return what ``add`` was told: a listing that begins now will have it, or it is gone."""
        return frozenset(self._since)

    def unknown(self, files: Iterable[StoredFile]) -> list[str]:
        """Return the keys of those files that are not held yet; none before the first listing."""
        return [file.key for file in files if not self.may_hold(file.key)] if self.listed else []

    def replace(self, listing: Listing, *, settled: frozenset[int]) -> None:
        """Hold what ``listing`` has and what was added since; ``settled`` was before it began."""
        self._keys, self._count = listing.keys, len(listing)
        self._since -= settled
        self.listed = True

    def add(self, key: str) -> None:
        """Hold ``key`` too. One that is gone stays until the next listing: it costs a fetch."""
        self._since.add(fingerprint(key))
        if not key.isascii():
            self._since.add(fingerprint(alias(ascii_key(key))))

    def may_hold(self, key: str) -> bool:
        """Say whether the store perhaps holds ``key``; ``False`` is certain if ``fresh``."""
        wanted = fingerprint(key)
        return wanted in self._keys or wanted in self._since

    def may_hold_spelling(self, key: str) -> bool:
        """Say whether the store perhaps holds ``key``, in ASCII, in this spelling or in Unicode."""
        return self.may_hold(key) or ("xn--" in key and self.may_hold(alias(key)))

    def was_listed(self, key: str) -> bool:
        """Say whether the latest listing perhaps held ``key``, whatever was added since."""
        return fingerprint(key) in self._keys

    def was_listed_spelling(self, key: str) -> bool:
        """Likewise of ``key``, in ASCII, in this spelling or in Unicode."""
        return self.was_listed(key) or ("xn--" in key and self.was_listed(alias(key)))
