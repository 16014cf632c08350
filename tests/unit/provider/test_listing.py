from __future__ import annotations

from tests.unit.provider.listings import listing_of


async def test_a_listing_bears_out_what_it_holds_and_what_it_lacks():
    listing = await listing_of(["a.pfx", "b.pfx"], version="7")
    assert listing.bears_out("a.pfx", "7")
    assert not listing.bears_out("a.pfx", "8"), "another version"
    assert not listing.bears_out("a.pfx", None), "it is there"
    assert not listing.bears_out("c.pfx", "7"), "it is gone"
    assert listing.bears_out("c.pfx", None)


async def test_an_empty_listing_holds_nothing():
    listing = await listing_of([])
    assert len(listing) == 0
    assert "a.pfx" not in listing
    assert listing.bears_out("a.pfx", None)


async def test_a_spelling_in_ascii_is_no_file():
    listing = await listing_of(["bücher.example.pfx"])
    assert len(listing) == 1
    assert "bücher.example.pfx" in listing
    assert "xn--bcher-kva.example.pfx" not in listing
