from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from centcert.admin import lease as module
from centcert.admin.lease import LOCK, STALE_S, Lease, is_staged, lease, new_staged_key
from centcert.errors import StoreBusy, StoreUnavailable
from centcert.names import pattern_of
from centcert.stores import MemoryStore, open_publisher, open_store
from tests.publishers import MemoryPublisher, SteppedPublisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from centcert.stores import Blob


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
    now = 0.0
    monkeypatch.setattr(module.Lease, "_now", staticmethod(lambda: now))
    store = MemoryStore()
    publisher = MemoryPublisher(store)
    entered, waiting = asyncio.Event(), asyncio.Event()
    looks = 0
    look = module.Lease._look

    async def counted(lease: Lease) -> Blob | None:
        nonlocal looks
        looks += 1
        return await look(lease)

    async def second() -> None:
        async with lease(store, publisher, stale_s=30.0, on_wait=lambda _: waiting.set()):
            entered.set()

    async with lease(store, publisher) as held:
        task = asyncio.create_task(second())
        await waiting.wait()
        monkeypatch.setattr(module.Lease, "_look", counted)
        for _ in range(3):
            now += 29.0
            await held.renew()
            seen = looks
            while looks < seen + 2 and not task.done():  # it has looked at the lock as it is by now
                await asyncio.sleep(0.001)
        assert not entered.is_set()
    await task


def denied(*_: int) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


# Takes the lease of a folder, says so, and goes on until it is killed.
HOLDER = """
import asyncio, sys
from centcert.admin.lease import lease
from centcert.stores import open_publisher, open_store

async def main():
    async with open_publisher(sys.argv[1]) as publisher, open_store(sys.argv[1]) as store:
        async with lease(store, publisher):
            print("held", flush=True)
            await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def test_the_lock_of_a_process_that_was_killed_falls_at_once(
    holder: subprocess.Popen[str], tmp_path: Path
):
    holder.kill()
    holder.wait()
    async with (
        open_publisher(str(tmp_path)) as publisher,
        open_store(str(tmp_path)) as store,
        asyncio.timeout(STALE_S / 2),
        lease(store, publisher, on_wait=pytest.fail) as held,
    ):
        await held.confirm()
    assert list(tmp_path.iterdir()) == []


async def test_several_that_find_it_go_on_one_after_another(
    holder: subprocess.Popen[str], tmp_path: Path
):
    holder.kill()
    holder.wait()
    at_work: list[int] = []

    async def publish(number: int) -> None:
        async with (
            open_publisher(str(tmp_path)) as publisher,
            open_store(str(tmp_path)) as store,
            lease(store, publisher) as held,
        ):
            at_work.append(number)
            await held.confirm()
            assert at_work == [number]
            at_work.clear()

    async with asyncio.timeout(STALE_S / 2):
        await asyncio.gather(*map(publish, range(6)))
    assert list(tmp_path.iterdir()) == []


async def test_a_lock_that_is_new_by_then_is_not_cleared_away():
    store = MemoryStore()
    store.put(LOCK, b"dead\n")
    dead = await store.fetch(LOCK)
    assert dead is not None
    store.put(LOCK, b"alive\n")
    assert await Lease(store, MemoryPublisher(store))._clear_away(dead)
    blob = await store.fetch(LOCK)
    assert blob is not None
    assert blob.data == b"alive\n"
    assert [file.key for file in await store.list()] == [LOCK]


async def test_one_that_was_killed_while_clearing_away_leaves_a_lock_that_falls_by_its_age(
    holder: subprocess.Popen[str], tmp_path: Path
):
    holder.kill()
    holder.wait()
    store = MemoryStore()
    store.put(LOCK, (tmp_path / LOCK).read_bytes())

    def die(_: int) -> None:
        raise KeyboardInterrupt

    dying = SteppedPublisher(MemoryPublisher(store), after=die)
    dead = await store.fetch(LOCK)
    assert dead is not None
    with pytest.raises(KeyboardInterrupt):
        await Lease(store, dying)._clear_away(dead)
    (left,) = [file.key for file in await store.list() if file.key != LOCK]
    assert is_staged(left)
    assert not await Lease(store, MemoryPublisher(store))._clear_away(dead)
    async with lease(store, MemoryPublisher(store), stale_s=0.01):
        pass
    assert [file.key for file in await store.list()] == [left]


async def test_the_lock_of_a_process_that_lives_stays(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also if that is another user's, to whom no signal may be sent."""
    lock = (tmp_path / LOCK).read_bytes()
    assert f" {holder.pid}\n".encode() in lock
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    async with open_publisher(str(tmp_path)) as publisher, open_store(str(tmp_path)) as store:
        for kill in (os.kill, denied):
            with monkeypatch.context() as patched:
                patched.setattr("os.kill", kill)
                with pytest.raises(StoreBusy):
                    async with lease(store, publisher):
                        pytest.fail("it has the lease")
    assert (tmp_path / LOCK).read_bytes() == lock


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (rb"process [0-9a-f]{32}", b"process " + b"0" * 32),  # another machine, another container
        (rb"process [0-9a-f]{32} \d+", b""),  # a system that has no such
        (rb"(process [0-9a-f]{32}) \d+", rb"\1 99999999999999999999"),
        (rb"(process [0-9a-f]{32}) \d+", rb"\1 -1"),
    ],
)
async def test_a_lock_that_names_no_process_of_this_machine_stays_until_it_is_old(
    holder: subprocess.Popen[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: bytes,
    instead: bytes,
):
    holder.kill()
    holder.wait()
    before = (tmp_path / LOCK).read_bytes()
    lock = re.sub(pattern, instead, before)
    assert lock != before
    store = MemoryStore()
    store.put(LOCK, lock)
    monkeypatch.setattr(module, "PATIENCE_S", 0.02)
    with pytest.raises(StoreBusy):
        async with lease(store, MemoryPublisher(store)):
            pytest.fail("it has the lease")
    async with lease(store, MemoryPublisher(store), stale_s=0.001):
        pass


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
