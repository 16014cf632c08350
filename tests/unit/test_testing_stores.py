"""The faulty store and the manual clock: fakes must fail as promised, too."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from centcert.errors import StoreDenied, StoreError, StoreUnavailable
from centcert.stores import Change, MemoryStore
from centcert.testing import FaultyStore, ManualClock

KEY = "www.contoso.example.pfx"


@pytest.fixture
def memory() -> MemoryStore:
    memory = MemoryStore()
    memory.put(KEY, b"here")
    return memory


@pytest.fixture
def store(memory: MemoryStore) -> FaultyStore:
    return FaultyStore(memory)


async def test_without_a_fault_it_is_the_store_itself(store: FaultyStore, memory: MemoryStore):
    assert store.url == memory.url
    assert await store.fetch(KEY) == await memory.fetch(KEY)
    assert await store.fetch("absent.pfx") is None
    assert await store.list() == await memory.list()
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        memory.put(KEY, b"new")
        assert await anext(changes) == Change(KEY)
        memory.remove(KEY)
        memory.put("other.pfx", b"")
        assert [await anext(changes), await anext(changes)] == [Change(KEY), Change("other.pfx")]


async def test_it_counts(store: FaultyStore):
    await store.fetch(KEY)
    await store.fetch(KEY)
    await store.fetch("absent.pfx")
    await store.list()
    async with aclosing(store.watch()) as changes:
        await anext(changes)
    assert store.fetched == {KEY: 2, "absent.pfx": 1}
    assert (store.listed, store.watched) == (1, 1)


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreDenied])
async def test_it_fails_until_healed(store: FaultyStore, kind: type[StoreError]):
    store.fail(kind)
    for call in (store.fetch(KEY), store.list(), anext(store.watch())):
        with pytest.raises(kind) as caught:
            await call
        assert type(caught.value) is kind
    assert store.fetched[KEY] == 1
    store.heal()
    assert await store.fetch(KEY) is not None
    assert await anext(store.watch()) == Change(None)


async def test_a_failure_breaks_a_watch_under_way(store: FaultyStore, memory: MemoryStore):
    watch = store.watch()
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    store.fail()
    with pytest.raises(StoreUnavailable):
        await waiting
    assert not memory._watches


async def test_a_cancelled_watch_leaves_nothing_behind(store: FaultyStore, memory: MemoryStore):
    watch = store.watch()
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not memory._watches
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_held_calls_wait_for_their_release(store: FaultyStore):
    store.hold()
    calls = [asyncio.ensure_future(store.fetch(KEY)) for _ in range(3)]
    calls_of_list = asyncio.ensure_future(store.list())
    await store.until_fetched(3)
    await store.until_fetched(3, KEY)
    await asyncio.sleep(0)
    assert not any(call.done() for call in [*calls, calls_of_list])
    store.fail()
    store.release()
    for call in [*calls, calls_of_list]:
        with pytest.raises(StoreUnavailable):
            await call


async def test_until_fetched_waits_for_the_key(store: FaultyStore):
    waiting = asyncio.ensure_future(store.until_fetched(2, KEY))
    await store.fetch(KEY)
    await store.fetch("absent.pfx")
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.fetch(KEY)
    await waiting


async def test_truncated_data_have_a_version_of_their_own(store: FaultyStore):
    whole = await store.fetch(KEY)
    store.truncate_to = 2
    cut = await store.fetch(KEY)
    assert whole is not None
    assert cut is not None
    assert cut.data == b"he"
    assert cut.version != whole.version
    store.truncate_to = 4
    assert await store.fetch(KEY) == whole


async def test_closing_closes_the_store_and_ends_held_calls(store: FaultyStore):
    store.hold()
    call = asyncio.ensure_future(store.fetch(KEY))
    await store.until_fetched(1)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await call


def test_the_clocks_go_together():
    clock = ManualClock(wall=1_000.0)
    began = clock.monotonic()
    clock.advance(2.5)
    assert clock.monotonic() - began == 2.5
    assert clock.wall() == 1_002.5
    assert ManualClock().wall() > 1_700_000_000
