"""A listing taken in by batches answers as a dictionary of versions would."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from centcert.provider.index import Index
from centcert.provider.listing import Listing
from centcert.stores import StoredFile

KEYS = st.one_of(
    st.integers(0, 40).map("n{}.pfx".format),
    st.integers(0, 40).map("bücher{}.example.pfx".format),
)
LISTINGS = st.dictionaries(KEYS, st.sampled_from(["1", "2"]), max_size=60)


@given(LISTINGS, LISTINGS, st.lists(KEYS, max_size=5), st.integers(1, 70))
def test_batches_answer_as_a_dictionary_does(
    old: dict[str, str], new: dict[str, str], added: list[str], batch: int
):
    index = Index()
    asyncio.run(take(index, old, batch))
    settled = index.added()
    for key in added:
        index.add(key)
    listing, unknown = asyncio.run(take(index, new, batch, settled))
    assert len(listing) == len(new)
    assert sorted(unknown) == sorted(new.keys() - old.keys() - set(added))
    for number in range(45):
        for key in (f"n{number}.pfx", f"bücher{number}.example.pfx"):
            assert (key in listing) is (key in new)
            assert index.was_listed(key) is (key in new)
            assert index.may_hold(key) is (key in new or key in added)
            for version in ("1", "2", None):
                assert listing.bears_out(key, version) is (new.get(key) == version)


async def take(
    index: Index, versions: dict[str, str], batch: int, settled: frozenset[int] = frozenset()
) -> tuple[Listing, list[str]]:
    files = [StoredFile(key, version, 0, 0.0) for key, version in versions.items()]
    listing, unknown = Listing(), list[str]()
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        unknown += index.unknown(part)
        await listing.add(part)
    await listing.settle()
    index.replace(listing, settled=settled)
    return listing, unknown
