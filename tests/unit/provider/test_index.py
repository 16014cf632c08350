from __future__ import annotations

import tracemalloc

from centcert.provider.index import Index
from centcert.provider.listing import Listing
from centcert.stores import StoredFile
from centcert.stores.base import BATCH
from tests.unit.provider.listings import listing_of

NOTHING: frozenset[int] = frozenset()


async def test_it_holds_what_was_listed_and_what_was_added():
    index = Index()
    assert not index.may_hold("a.pfx")
    index.replace(await listing_of(f"n{number}.pfx" for number in range(10_000)), settled=NOTHING)
    assert all(index.may_hold(f"n{number}.pfx") for number in range(10_000))
    assert not any(index.may_hold(f"x{number}.pfx") for number in range(10_000))
    index.add("new.pfx")
    assert index.may_hold("new.pfx")
    assert len(index) == 10_001


async def test_it_tells_what_it_does_not_hold_yet():
    index = Index()
    was_listed = [index.listed]
    files = [StoredFile(f"{letter}.pfx", "1", 0, 0.0) for letter in "abcd"]
    assert index.unknown(files) == []
    index.replace(await listing_of(["a.pfx", "b.pfx"]), settled=NOTHING)
    assert [*was_listed, index.listed] == [False, True]
    index.add("c.pfx")
    assert index.was_listed("a.pfx")
    assert not index.was_listed("c.pfx")
    assert index.unknown(files) == ["d.pfx"]


async def test_what_is_added_while_a_listing_is_under_way_is_kept():
    index = Index()
    index.add("before.pfx")
    settled = index.added()
    index.add("meanwhile.pfx")
    index.replace(await listing_of(["listed.pfx"] * 5_000), settled=settled)
    assert index.may_hold("listed.pfx")
    assert index.may_hold("meanwhile.pfx")
    assert not index.may_hold("before.pfx"), "the listing knows better"


async def test_a_key_in_unicode_is_found_by_its_spelling_in_ascii():
    """Guards: to spell a stranger's name in Unicode took up to 4 ms of the loop's time."""
    index = Index()
    index.replace(await listing_of(["bücher.example.pfx"]), settled=NOTHING)
    index.add("_.straße.example.pfx")
    assert index.may_hold("bücher.example.pfx")
    for key in ("xn--bcher-kva.example.pfx", "_.xn--strae-oqa.example.pfx"):
        assert index.may_hold_spelling(key)
        assert not index.may_hold(key), "it would cost a fetch"
    assert index.was_listed_spelling("xn--bcher-kva.example.pfx")
    assert not index.was_listed_spelling("_.xn--strae-oqa.example.pfx")
    assert not index.may_hold_spelling("xn--bcher-kva.example.pem")


async def test_a_key_takes_at_most_twenty_bytes_and_thirty_more_while_it_is_listed():
    """A listing of a million files was 400 MB of Python objects, and 300 MB stayed."""
    count = 100_000
    index = Index()
    tracemalloc.start()
    try:
        for _ in range(2):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            added, listing = index.added(), Listing()
            for start in range(0, count, BATCH):
                numbers = range(start, start + BATCH)
                await listing.add([StoredFile(f"n{n}.pfx", f"v{n}", 0, 0.0) for n in numbers])
            await listing.settle()
            index.replace(listing, settled=added)
            del listing
            now, peak = tracemalloc.get_traced_memory()
            assert (peak - before) / count <= 30
        assert now / count + index.used_bytes / count <= 20
        assert len(index) == count
    finally:
        tracemalloc.stop()
