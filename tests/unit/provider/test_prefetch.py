"""What is loaded ahead of demand after a restart: which names, in what order, how fast."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from centcert.credential import decode
from centcert.errors import (
    FileBusy,
    StoreAuthenticationFailed,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
)
from centcert.names import HostName
from centcert.provider import CacheLimits, prefetch
from centcert.provider.cache import Cache, Entry
from centcert.provider.events import FetchFailed, Found, Refused
from centcert.provider.lastgood import LastGood
from centcert.provider.prefetch import PREFETCH_S, note_use
from tests.unit.provider.conftest import Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from centcert.provider import Provider
    from centcert.stores import Blob, MemoryStore

A, B, C = (HostName.parse(f"{label}.example") for label in "abc")
WILD = "_.example.pem"
HOUR_S = 3600.0


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    for name in (A, B, C):
        rig.files.put(f"{name}.pem", pem(name))
    return rig


class Nodes:
    """One node, started again and again over the same store and folder."""

    def __init__(self, folder: Path, rig: Rig) -> None:
        self.folder = folder
        self.rig = rig

    def copies(self) -> LastGood:
        return LastGood(
            self.folder,
            [bytes(32)],
            store_url=self.rig.store.url,
            listener=lambda _: None,
            clock=self.rig.clock,
        )

    @asynccontextmanager
    async def start(self, limits: CacheLimits | None = None) -> AsyncIterator[Provider]:
        async with self.rig.provider(limits=limits, last_good=self.copies()) as provider:
            yield provider

    async def use(self, *names: HostName) -> None:
        """Serve each name, one second after the other, and end."""
        async with self.start() as provider:
            for name in names:
                self.rig.clock.advance(1)
                await provider.credential(name)
                assert provider._last_good is not None
                await provider._last_good.flush()
        self.rig.events.clear()

    def found(self) -> list[str]:
        return [event.name for event in self.rig.events if isinstance(event, Found)]


@pytest.fixture
def nodes(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr(prefetch, "PREFETCHES_PER_S", 1_000_000)
    return Nodes(tmp_path / "copies", rig)


async def test_the_names_of_the_last_hours_are_loaded_latest_first(rig: Rig, nodes: Nodes):
    await nodes.use(A)
    rig.clock.advance(PREFETCH_S - HOUR_S)
    await nodes.use(B, C)
    rig.clock.advance(2 * HOUR_S)
    async with nodes.start() as provider:
        await rig.until(Found, times=2)
        fetches = rig.store.fetched.total()
        assert nodes.found() == [C, B], "A was last used too long ago"
        assert provider.known(B) is not None
        assert provider.known(A) is None
        assert rig.store.fetched.total() == fetches, "so their first visits ask nobody"


async def test_what_is_only_loaded_ahead_does_not_count_as_used(rig: Rig, nodes: Nodes):
    """Guards: a name that nobody visits any more was prefetched at every start."""
    await nodes.use(A, B)
    async with nodes.start() as provider:
        await rig.until(Found, times=2)
        provider.known(A)
        assert {name for name, entry in provider._cache.entries() if entry.used} == {A}


async def test_a_name_that_was_visited_meanwhile_is_not_loaded_twice(rig: Rig, nodes: Nodes):
    await nodes.use(A, B)
    fetches = rig.store.fetched.total()
    rig.store.hold()
    async with nodes.start() as provider:
        await rig.store.until_fetched(fetches + 1)  # ahead of demand, for B
        visits = [asyncio.ensure_future(provider.credential(name)) for name in (A, B)]
        await asyncio.sleep(0)
        rig.store.release()
        await asyncio.gather(*visits)
        await rig.until_true(lambda: len(nodes.found()) >= 2)
        assert sorted(nodes.found()) == [A, B]


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreAuthenticationFailed, StoreInsecure])
async def test_a_store_that_is_away_is_waited_for(
    rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, kind: type[StoreError]
):
    """Guards: every name was tried once and given up if the store was away at the start."""
    monkeypatch.setattr(prefetch, "AWAY_S", (0.001, 0.002))
    await nodes.use(A, B, C)
    rig.store.fail(kind)
    async with nodes.start() as provider:
        await rig.until(FetchFailed, times=4)
        copy = await provider.copy(B)
        assert copy is not None
        assert {e.name for e in rig.events if isinstance(e, Refused)} == {C}, "one name is tried"
        rig.store.heal()
        await rig.until_true(lambda: nodes.found() == [C, A])


async def test_while_the_store_is_away_it_is_asked_less_and_less(
    rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
):
    await nodes.use(A)
    rig.store.fail()
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(pause_s: float) -> None:
        pauses.append(pause_s)
        await sleep(0)

    monkeypatch.setattr("centcert.provider.prefetch.asyncio.sleep", note)
    async with nodes.start():
        await rig.until_true(lambda: rig.kinds().count("Refused") == 8)
    of_prefetch = [pause_s for pause_s in pauses if pause_s in {1, 2, 4, 8, 16, 30}]
    assert of_prefetch[:7] == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("kind", [StoreDenied, FileBusy])
async def test_one_file_that_cannot_be_read_holds_up_no_other(
    rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, kind: type[StoreError]
):
    await nodes.use(A, B)
    fetch = type(rig.files).fetch

    async def refuse(store: MemoryStore, key: str) -> Blob | None:
        if key.startswith("b."):
            raise kind(store.url, "not this one")
        return await fetch(store, key)

    monkeypatch.setattr(type(rig.files), "fetch", refuse)
    async with nodes.start():
        await rig.until(Found)
        assert nodes.found() == [A]


async def test_the_cache_is_not_filled_to_the_brim(rig: Rig, nodes: Nodes):
    names = [HostName.parse(f"n{number}.example") for number in range(20)]
    for name in names:
        rig.files.put(f"{name}.pem", pem(name))
    await nodes.use(*names)
    async with nodes.start(CacheLimits(max_names=10)) as provider:
        await rig.until(Found, times=10)
        for _ in range(20):
            await asyncio.sleep(0)
        assert nodes.found() == names[:-11:-1]
        assert provider.usage[0] == 10


async def test_it_goes_slowly(rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    await nodes.use(A, B)
    monkeypatch.setattr(prefetch, "PREFETCHES_PER_S", 0.001)
    async with nodes.start() as provider:
        await rig.until(Found)
        await asyncio.sleep(0.05)
        assert nodes.found() == [B]
        assert (await provider.credential(A)).covers(A), "a visit does not wait for its turn"


async def test_use_is_noted_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefetch, "NOTE_USE_S", 0.001)
    noted: list[HostName] = []

    class Noting(LastGood):
        def used(self, name: HostName) -> None:
            noted.append(name)

    copies = Noting(nodes.folder, [bytes(32)], store_url="x", listener=lambda _: None)
    cache = Cache(CacheLimits())
    credential = decode(pem("*.example"), key=WILD, passwords=())
    for name in (A, B):
        cache.remember(name, Entry(WILD, credential, (), 0.0))
    cache.touch(A)
    noting = asyncio.ensure_future(note_use(copies, cache))
    while not noted:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert noted == [A]
    cache.touch(B)
    while len(noted) < 2:
        await asyncio.sleep(0.001)
    assert noted == [A, B]
    noting.cancel()
