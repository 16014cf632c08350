import asyncio

from centcert.provider.index import Index


async def test_it_holds_what_was_listed_and_what_was_added():
    index = Index()
    assert not index.may_hold("a.pfx")
    await index.rebuild([f"n{number}.pfx" for number in range(10_000)], settled=frozenset())
    assert all(index.may_hold(f"n{number}.pfx") for number in range(10_000))
    assert not any(index.may_hold(f"x{number}.pfx") for number in range(10_000))
    index.add("new.pfx")
    assert index.may_hold("new.pfx")
    assert len(index) == 10_001


async def test_a_listing_tells_what_the_one_before_did_not_hold():
    index = Index()
    assert await index.rebuild(["a.pfx", "b.pfx"], settled=frozenset()) == []
    assert index.listed
    index.add("c.pfx")
    assert index.was_listed("a.pfx")
    assert not index.was_listed("c.pfx")
    assert await index.rebuild(["a.pfx", "c.pfx", "d.pfx"], settled=frozenset()) == ["d.pfx"]


async def test_a_key_takes_at_most_twenty_bytes():
    index = Index()
    await index.rebuild([f"n{number}.pfx" for number in range(100_000)], settled=frozenset())
    assert index.used_bytes / 100_000 <= 20


async def test_what_is_added_while_a_listing_is_under_way_is_kept():
    index = Index()
    index.add("before.pfx")
    settled = index.added()
    index.add("meanwhile.pfx")
    rebuilding = asyncio.ensure_future(index.rebuild(["listed.pfx"] * 5_000, settled=settled))
    await asyncio.sleep(0)
    index.add("later.pfx")
    await rebuilding
    assert index.may_hold("listed.pfx")
    assert index.may_hold("meanwhile.pfx")
    assert index.may_hold("later.pfx")
    assert not index.may_hold("before.pfx"), "the listing knows better"


async def test_a_key_in_unicode_is_found_by_its_spelling_in_ascii():
    """Guards: to spell a stranger's name in Unicode took up to 4 ms of the loop's time."""
    index = Index()
    await index.rebuild(["bücher.example.pfx"], settled=frozenset())
    index.add("_.straße.example.pfx")
    assert index.may_hold("bücher.example.pfx")
    for key in ("xn--bcher-kva.example.pfx", "_.xn--strae-oqa.example.pfx"):
        assert index.may_hold_spelling(key)
        assert not index.may_hold(key), "it would cost a fetch"
    assert not index.may_hold_spelling("xn--bcher-kva.example.pem")
