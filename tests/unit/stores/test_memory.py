"""What only the memory store has."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from centcert.stores import Change, MemoryStore
from centcert.stores.memory import MAX_UNREAD


async def test_the_same_bytes_again_are_no_change():
    store = MemoryStore()
    store.put("a.pfx", b"here")
    blob = await store.fetch("a.pfx")
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        store.put("a.pfx", b"here")
        store.put("b.pfx", b"here")
        assert await anext(changes) == Change("b.pfx")
    assert await store.fetch("a.pfx") == blob


async def test_a_version_never_comes_back():
    store = MemoryStore()
    versions = set()
    for data in (b"one", b"two", b"one"):
        store.put("a.pfx", data)
        blob = await store.fetch("a.pfx")
        assert blob is not None
        versions.add(blob.version)
        store.remove("a.pfx")
    assert len(versions) == 3


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "a\0", "\ud800"])
def test_only_bare_keys_can_be_put(key: str):
    with pytest.raises(ValueError, match="no bare file name"):
        MemoryStore().put(key, b"")


def test_what_is_not_there_cannot_be_removed():
    with pytest.raises(KeyError):
        MemoryStore().remove("a.pfx")


async def test_changes_are_told_once_and_in_order():
    store = MemoryStore()
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        for key in ("a.pfx", "b.pfx", "a.pfx"):
            store.put(key, key.encode())
        store.remove("b.pfx")
        assert [await anext(changes), await anext(changes)] == [Change("a.pfx"), Change("b.pfx")]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.01)


async def test_a_watcher_that_lags_behind_is_told_to_look_at_everything():
    store = MemoryStore()
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        for number in range(MAX_UNREAD + 1):
            store.put(f"{number}.pfx", b"")
        assert await anext(changes) == Change(None)
        assert await anext(changes) == Change(f"{MAX_UNREAD}.pfx")


def test_the_url_says_which_one():
    assert MemoryStore("spare").url == "memory:spare"
