"""Names that have no file of their own share what their wildcard gets, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from centcert.errors import StoreUnavailable, UnknownName
from centcert.names import HostName
from centcert.provider.answering import answer, answer_from_memory
from centcert.provider.events import Refreshed, WatchFailed, Withdrawn
from centcert.provider.lastgood import LastGood
from centcert.provider.policy import DEFAULT_POLICY, Action, Policy
from centcert.stores import Change, MemoryStore, StoredFile
from tests.unit.provider.conftest import Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from centcert.credential import Credential
    from centcert.provider import Provider

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
SHOP = HostName.parse("shop.contoso.example")
ALL = HostName("*.contoso.example")
KEY, WILD = "www.contoso.example.pem", "_.contoso.example.pem"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.01, 0.01))
    monkeypatch.setattr("centcert.provider.resolver.CONFIRM_ABSENCE_AFTER_S", (0.001,))
    monkeypatch.setattr("centcert.provider.provider.prefetch", _nothing)
    monkeypatch.setattr("centcert.provider.answering.PATIENCE_S", 20.0)  # the store answers before


async def _nothing(*_: object) -> None:
    pass


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.files.put(WILD, pem("*.contoso.example"))
    return rig


async def listed(provider: Provider) -> None:
    async with asyncio.timeout(10):
        while not provider._loader.index.fresh:
            await asyncio.sleep(0.001)


async def ask(provider: Provider, name: HostName, policy: Policy = DEFAULT_POLICY) -> Credential:
    known = answer_from_memory(provider, name, policy)
    async with asyncio.timeout(10):
        return known or (await answer(provider, name, policy, None)).credential


def copies(rig: Rig, folder: Path) -> LastGood:
    return LastGood(
        folder / "copies", [bytes(32)], store_url=rig.store.url, listener=lambda _: None
    )


async def test_a_name_with_a_file_of_its_own_shares_nothing(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await listed(provider)
        shared = await ask(provider, MAIL)
        assert provider.known(SHOP) is shared
        assert provider.known(WWW) is None
        assert (await ask(provider, WWW)).key == KEY
        assert provider.known(HostName.parse("a.shop.contoso.example")) is None
        assert provider.known(HostName.parse("contoso.example")) is None


async def test_an_international_name_with_a_file_of_its_own_shares_nothing(rig: Rig):
    buecher = HostName.parse("xn--bcher-kva.contoso.example")
    rig.files.put("bücher.contoso.example.pem", pem(buecher))
    async with rig.provider() as provider:
        await listed(provider)
        await ask(provider, MAIL)
        assert provider.known(buecher) is None
        assert (await ask(provider, buecher)).key == "bücher.contoso.example.pem"


async def test_what_is_shared_is_renewed_for_all(rig: Rig):
    async with rig.provider() as provider:
        await listed(provider)
        old = await ask(provider, MAIL)
        rig.files.put(WILD, pem("*.contoso.example"))
        await rig.until(Refreshed)
        new = provider.known(SHOP)
        assert new is not None
        assert new is not old
        assert provider.known(MAIL) is new
        assert rig.events.count(Refreshed(ALL, WILD, changed=True)) == 1


async def test_what_is_shared_and_stale_is_refreshed_behind(rig: Rig):
    async with rig.provider() as provider:
        await listed(provider)
        shared = await ask(provider, MAIL)
        rig.clock.advance(300)
        fetches = rig.store.fetched.total()
        assert provider.known(SHOP) is shared
        await rig.until(Refreshed)
        assert rig.store.fetched.total() == fetches + 1
        provider.note_used([WWW])
        rig.clock.advance(300)
        provider.note_used([WWW])
        await rig.until(Refreshed, times=2)


async def test_a_wildcard_that_is_removed_is_withdrawn_for_all(rig: Rig, tmp_path: Path):
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        await ask(provider, MAIL)
        rig.files.remove(WILD)
        await rig.until(Withdrawn)
        for name in (MAIL, SHOP):
            with pytest.raises(UnknownName):
                await ask(provider, name)
        assert not provider.has_copy(SHOP)


async def test_a_wildcard_that_was_removed_meanwhile_is_withdrawn_at_a_start(
    rig: Rig, tmp_path: Path
):
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        await ask(provider, MAIL)
    rig.files.remove(WILD)
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        assert provider.has_copy(SHOP)
        with pytest.raises(UnknownName):
            await ask(provider, SHOP)
        assert not provider.has_copy(MAIL)


async def test_while_the_store_is_away_what_is_shared_is_served(rig: Rig):
    async with rig.provider() as provider:
        await listed(provider)
        shared = await ask(provider, MAIL)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.clock.advance(1_000)
        assert provider.known(SHOP) is shared


async def test_one_copy_serves_all_after_a_restart(rig: Rig, tmp_path: Path):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        await ask(provider, MAIL)
        await ask(provider, WWW)
    rig.store.fail()
    last_good = copies(rig, tmp_path)
    async with rig.provider(last_good=last_good) as provider:
        assert sorted(last_good.recently_used(0)) == [ALL, WWW]
        assert (await ask(provider, SHOP)).key == WILD
        fetches = rig.store.fetched.total()
        assert (await ask(provider, MAIL)).key == WILD
        assert rig.store.fetched.total() == fetches, "from memory from then on"
        assert (await ask(provider, WWW)).key == KEY, "its own copy is the better one"
        refusing = Policy(unavailable=Action.REFUSE)
        with pytest.raises(StoreUnavailable):
            await ask(provider, MAIL, refusing)


async def test_a_name_that_gets_a_file_of_its_own_is_served_whatever_happens(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """The store tells of the file, and goes away before anybody has asked for it."""
    monkeypatch.setattr("centcert.provider.answering.PATIENCE_S", 0.01)
    async with rig.provider() as provider:
        await listed(provider)
        shared = await ask(provider, WWW)
        told: list[HostName] = []
        provider.follow(told.append)
        rig.files.put(KEY, pem(WWW))
        while provider.known(WWW) is not None:
            await asyncio.sleep(0)
        rig.store.hold()
        assert provider.has_copy(WWW)
        assert await ask(provider, WWW) is shared, "after as long as a store may take"
        rig.store.fail()
        rig.store.release()
        assert await ask(provider, WWW) is shared
        async with asyncio.timeout(10):
            while WWW not in told:  # a worker holds what it shared
                await asyncio.sleep(0.001)
        rig.store.heal()
        await listed(provider)
        assert (await ask(provider, WWW)).key == KEY


async def test_a_name_that_has_a_file_of_its_own_gets_no_lesser_one_for_want_of_an_answer(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.answering.PATIENCE_S", 0.01)
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        await ask(provider, MAIL)
        assert not provider.has_copy(WWW)
        rig.store.hold()
        asking = asyncio.ensure_future(ask(provider, WWW))
        done, _ = await asyncio.wait((asking,), timeout=0.1)
        assert not done, "the store is only slow"
        rig.store.fail()
        rig.store.release()
        with pytest.raises(StoreUnavailable):
            await asking
        assert (await ask(provider, SHOP)).key == WILD


async def test_who_is_served_by_the_wildcard_beside_a_bad_file_has_a_copy_of_that(
    rig: Rig, tmp_path: Path
):
    """Guards: its copy was another name's, and not to be had once the bad file was listed."""
    rig.files.put(KEY, pem("stranger.example"))
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        assert (await ask(provider, WWW)).key == WILD
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        rig.store.fail()
        await rig.until(WatchFailed)
        assert (await ask(provider, WWW)).key == WILD


class Silent(MemoryStore):
    """A store that tells of no change: listings alone do."""

    async def watch(self) -> AsyncGenerator[Change, None]:
        await asyncio.Event().wait()
        yield Change(None)


async def test_a_listing_tells_which_names_have_got_files_of_their_own():
    rig = Rig(files=Silent())
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider(refresh_s=0.05) as provider:
        while not provider._loader.index.listed:
            await asyncio.sleep(0.001)
        await ask(provider, MAIL)
        assert provider.known(WWW) is not None, "as the listing says"
        told: list[HostName] = []
        provider.follow(told.append)
        rig.files.put(KEY, pem(WWW))
        while WWW not in told:
            await asyncio.sleep(0.001)
        assert MAIL not in told
        assert (await ask(provider, WWW)).key == KEY


async def test_before_the_first_listing_each_name_is_looked_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """A store that cannot be listed: nobody knows which names have files of their own."""
    listing = rig.files.scan

    async def deny() -> AsyncGenerator[Sequence[StoredFile], None]:
        for url in (rig.store.url,):
            raise StoreUnavailable(url, "not now")
        yield ()

    monkeypatch.setattr(rig.files, "scan", deny)
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.05) as provider:
        shared = await ask(provider, MAIL)
        assert provider.known(SHOP) is None
        assert provider.known(WWW) is None
        assert (await ask(provider, WWW)).key == KEY
        await ask(provider, SHOP)
        assert provider.usage[0] == 3
        monkeypatch.setattr(rig.files, "scan", listing)
        while provider.usage[0] != 2:
            await asyncio.sleep(0.001)
        assert provider.known(HostName.parse("n.contoso.example")) is shared


async def test_a_wildcards_file_that_names_single_hosts_is_not_shared(rig: Rig):
    rig.files.put(WILD, pem("mail.contoso.example", "shop.contoso.example"))
    async with rig.provider() as provider:
        await listed(provider)
        await ask(provider, MAIL)
        assert provider.known(SHOP) is None
        await ask(provider, SHOP)
        assert provider.usage[0] == 2


async def test_a_file_of_its_own_that_is_withdrawn_leaves_no_copy(rig: Rig, tmp_path: Path):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(last_good=copies(rig, tmp_path)) as provider:
        await listed(provider)
        await ask(provider, WWW)
    rig.files.remove(KEY)
    last_good = copies(rig, tmp_path)
    async with rig.provider(last_good=last_good) as provider:
        await listed(provider)
        await ask(provider, MAIL)
        assert provider.known(WWW) is None, "it is to be confirmed that its own file is gone"
        assert (await ask(provider, WWW)).key == WILD
        assert provider.known(WWW) is provider.known(MAIL)
        assert last_good.recently_used(0)
        assert not last_good.has(WWW)
        assert last_good.has(ALL)


async def test_who_reloads_one_name_reloads_what_it_shares(rig: Rig):
    async with rig.provider() as provider:
        await listed(provider)
        old = await ask(provider, MAIL)
        rig.files._watches.clear()  # the notification is lost
        rig.files.put(WILD, pem("*.contoso.example"))
        new = await provider.reload(WWW)
        assert new is not old
        await rig.until_true(lambda: provider.held(MAIL) is new)
