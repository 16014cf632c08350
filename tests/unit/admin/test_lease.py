from __future__ import annotations

import asyncio

import pytest

from centcert.admin import lease as module
from centcert.admin.lease import LOCK, Lease, is_staged, lease, new_staged_key
from centcert.errors import StoreBusy, StoreUnavailable
from centcert.names import pattern_of
from centcert.stores import MemoryStore
from tests.publishers import MemoryPublisher, SteppedPublisher


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_POLL_S", 0.001)


async def test_the_lock_is_there_as_long_as_the_lease():
    store = MemoryStore()
    async with lease(store, MemoryPublisher(store)) as held:
        blob = await store.fetch(LOCK)
        assert blob is not None
        await held.confirm()
    assert await store.list() == []


async def test_a_second_publisher_waits_for_the_first():
    store = MemoryStore()
    publisher = MemoryPublisher(store)
    order: list[str] = []
    waiting = asyncio.Event()

    async def second() -> None:
        async with lease(store, publisher, on_wait=lambda _: waiting.set()):
            order.append("second")

    async with lease(store, publisher):
        task = asyncio.create_task(second())
        await waiting.wait()
        order.append("first")
    await task
    assert order == ["first", "second"]
    assert await store.list() == []


async def test_who_waits_is_told_for_whom():
    store = MemoryStore()
    store.put(LOCK, b"ann@host, process 7\nabc\n")
    said: list[str] = []
    async with lease(store, MemoryPublisher(store), stale_s=0.01, on_wait=said.append):
        pass
    (sentence,) = said
    assert sentence == (
        "ann@host, process 7 is publishing into memory:memory: waiting for it, and if it shows no"
        " life for 0.01 s, going on without."
    )


@pytest.mark.parametrize("content", [b"", b"\x1b[2J\n", b"\xff\xfe" * 900])
async def test_a_lock_of_nonsense_is_not_shown(content: bytes):
    store = MemoryStore()
    store.put(LOCK, content)
    said: list[str] = []
    async with lease(store, MemoryPublisher(store), stale_s=0.01, on_wait=said.append):
        pass
    assert len(said) == 1
    assert said[0].isprintable()
    assert len(said[0]) < 250


async def test_a_lock_that_shows_life_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    """However old it is by then."""
    monkeypatch.setattr(module, "RENEW_S", 0.0)
    store = MemoryStore()
    publisher = MemoryPublisher(store)
    entered = asyncio.Event()

    async def second() -> None:
        async with lease(store, publisher, stale_s=0.3):
            entered.set()

    async with lease(store, publisher) as held:
        task = asyncio.create_task(second())
        for _ in range(60):
            await asyncio.sleep(0.01)
            await held.renew()
        assert not entered.is_set()
    await task


async def test_others_that_never_end_are_given_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.02)
    store = MemoryStore()
    store.put(LOCK, b"ann")
    with pytest.raises(StoreBusy, match="Others have been publishing into memory:memory for"):
        async with lease(store, MemoryPublisher(store)):
            pass
    assert [file.key for file in await store.list()] == [LOCK]


async def test_who_was_taken_for_dead_is_told_and_takes_no_lock_away(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "RENEW_S", 0.0)
    store = MemoryStore()
    async with lease(store, MemoryPublisher(store)) as held:
        store.put(LOCK, b"another\n")
        with pytest.raises(StoreUnavailable, match="as this one took too long"):
            await held.confirm()
        with pytest.raises(StoreUnavailable, match="as this one took too long"):
            await held.renew()
    blob = await store.fetch(LOCK)
    assert blob is not None
    assert blob.data == b"another\n"


async def test_a_lock_that_is_new_by_then_is_put_back():
    """Two wait for a dead one; the first takes its place just before the second does."""
    store = MemoryStore()
    store.put(LOCK, b"dead\n")
    waiter = Lease(store, MemoryPublisher(store))
    dead = await store.fetch(LOCK)
    assert dead is not None
    store.put(LOCK, b"alive\n")
    await waiter._take_away(dead)
    blob = await store.fetch(LOCK)
    assert blob is not None
    assert blob.data == b"alive\n"
    assert [file.key for file in await store.list()] == [LOCK]


async def test_a_lock_that_somebody_else_took_away_is_no_failure():
    store = MemoryStore()
    store.put(LOCK, b"dead\n")
    dead = await store.fetch(LOCK)
    assert dead is not None
    store.remove(LOCK)
    await Lease(store, MemoryPublisher(store))._take_away(dead)
    assert await store.list() == []


async def test_a_store_that_refuses_the_lock_refuses_the_lease():
    store = MemoryStore()

    def fault(_: int) -> None:
        raise StoreUnavailable("memory", "read-only")

    with pytest.raises(StoreUnavailable, match="read-only"):
        async with lease(store, SteppedPublisher(MemoryPublisher(store), before=fault)):
            pytest.fail("it has the lease")


def test_no_look_up_ever_asks_for_these_keys():
    assert is_staged(new_staged_key())
    assert new_staged_key() != new_staged_key()
    for key in (LOCK, new_staged_key(), "www.contoso.example.pfx.previous"):
        assert pattern_of(key) is None
