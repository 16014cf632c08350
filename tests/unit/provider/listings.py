"""Listings for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.provider.listing import Listing
from centcert.stores import StoredFile
from centcert.stores.base import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable


async def listing_of(keys: Iterable[str], *, version: str = "1", batch: int = BATCH) -> Listing:
    """Return the listing of a store that holds ``keys``, all in one version."""
    files = [StoredFile(key, version, 0, 0.0) for key in keys]
    listing = Listing()
    for start in range(0, len(files), batch):
        await listing.add(files[start : start + batch])
    await listing.settle()
    return listing
