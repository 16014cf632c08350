"""What is served is what the store holds: races, expiry, and what an operator asks for."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from centcert.errors import StoreUnwatchable, UnknownName
from centcert.names import HostName
from centcert.provider.events import Listed, Refreshed, WatchFailed, Watching
from centcert.provider.renewals import Renewals
from centcert.stores import Change, MemoryStore
from tests.unit.provider.conftest import AUTHORITY, Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from centcert.provider import Provider
    from centcert.stores import Blob

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
KEY, WILD = "www.contoso.example.pem", "_.contoso.example.pem"
MAIL_KEY = "mail.contoso.example.pem"


class Slow(MemoryStore):
    """A store where reads of one key can be held after they have read."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.read = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, key: str) -> Blob | None:
        blob = await super().fetch(key)
        if key == self.key:
            self.read.set()
            await self.open.wait()
        return blob


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.01, 0.01))


async def listed(provider: Provider) -> None:
    while not provider._loader.index.fresh:
        await asyncio.sleep(0.001)


async def test_a_file_put_while_its_name_was_looked_up_is_not_taken_for_absent(
    monkeypatch: pytest.MonkeyPatch,
):
    """Guards: the look-up's absence was remembered for ten seconds after the notification."""
    renewed, note = asyncio.Event(), Renewals.note

    def note_and_tell(renewals: Renewals, name: HostName) -> None:
        note(renewals, name)
        renewed.set()

    monkeypatch.setattr(Renewals, "note", note_and_tell)
    files = Slow(KEY)
    rig = Rig(files=files)
    async with rig.provider() as provider:
        await listed(provider)
        provider._loader.index.fresh = False  # as when there was no listing yet
        files.open.clear()
        visitor = asyncio.ensure_future(provider.credential(WWW))
        await files.read.wait()
        files.put(KEY, pem(WWW))
        await renewed.wait()
        files.open.set()
        with pytest.raises(UnknownName):
            await visitor
        await asyncio.sleep(0.01)
        assert (await provider.credential(WWW)).covers(WWW)


@pytest.mark.usefixtures("_quick")
async def test_a_listing_does_not_make_an_expired_certificate_fresh(rig: Rig):
    """Guards: once listed anew after its expiry, it was served for ever beside a good wildcard."""
    rig.files.put(KEY, pem(WWW, days=1))
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        assert (await provider.credential(WWW)).key == KEY
        await listed(provider)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.clock.advance(2 * 86_400)
        rig.store.heal()
        await rig.until(Watching, times=2)
        await listed(provider)
        provider.known(WWW)
        await rig.until(Refreshed)
        assert provider.source(WWW) == WILD


class Deaf(Slow):
    """As ``Slow``, and it tells of no change: only listings do."""

    async def watch(self) -> AsyncGenerator[Change, None]:
        await asyncio.Event().wait()
        yield Change(None)


async def test_a_file_that_a_rename_hides_for_an_instant_is_not_replaced_by_the_wildcard():
    """Guards: with listings alone a name changed its certificate until the next of them."""
    rig = Rig(files=Deaf(WILD))
    data = pem(WWW)
    rig.files.put(KEY, data)
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider(refresh_s=0.05) as provider:
        await provider.credential(WWW)
        rig.files.remove(KEY)
        await rig.store.until_fetched(1, WILD)  # the wildcard would answer
        rig.files.put(KEY, data)
        await rig.until(Refreshed)
        refreshed = [event.key for event in rig.events if isinstance(event, Refreshed)]
        assert set(refreshed) == {KEY}
        rig.files.remove(KEY)
        await rig.until_true(lambda: provider.source(WWW) == WILD)


async def test_a_listing_is_not_satisfied_by_a_read_that_began_before_it():
    """Guards: a renewal joined a read of the version before, and was fresh with it."""
    files = Deaf(WILD)
    rig = Rig(files=files)
    files.put(WILD, pem("*.contoso.example"))
    async with rig.provider(refresh_s=0.05) as provider:
        old = await provider.credential(MAIL)
        files.read.clear()
        files.open.clear()
        visitor = asyncio.ensure_future(provider.reload(WWW))
        await files.read.wait()
        reads = rig.store.fetched[WILD]
        files.put(WILD, pem("*.contoso.example"))
        await rig.store.until_fetched(reads + 1, WILD)  # for MAIL, and no other joins it
        files.open.set()
        await visitor
        await rig.until_true(lambda: provider.held(MAIL) is not old)


async def test_a_certificate_that_expires_while_it_is_looked_up_is_not_fresh():
    """Guards: it was served for another ``refresh``, though another file was the better one."""
    files = Slow(KEY)
    rig = Rig(files=files)
    files.put(KEY, pem(WWW, days=100 / 86_400))
    files.put(WILD, pem("*.contoso.example"))
    files.open.clear()
    async with rig.provider() as provider:
        visitor = asyncio.ensure_future(provider.credential(WWW))
        await files.read.wait()
        rig.clock.advance(101)
        files.open.set()
        assert (await visitor).key == KEY
        provider.known(WWW)
        await rig.until(Refreshed)
        assert provider.source(WWW) == WILD


@pytest.mark.usefixtures("_quick")
async def test_a_certificate_becomes_valid_in_memory(rig: Rig):
    """Guards: a listing that bore the wildcard out made it fresh again and again."""
    now = datetime.now(UTC)
    own = AUTHORITY.issue(WWW, not_before=now + timedelta(hours=1))
    rig.files.put(KEY, own.pem())
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        assert (await provider.credential(WWW)).key == WILD
        await listed(provider)
        rig.clock.advance(2 * 3600)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.store.heal()
        await listed(provider)
        provider.known(WWW)
        await rig.until(Refreshed)
        assert provider.source(WWW) == KEY


class Mute(MemoryStore):
    """A watch that begins and then tells nothing: notifications that come late."""

    async def watch(self) -> AsyncGenerator[Change, None]:
        yield Change(None)
        await asyncio.Event().wait()


async def test_an_operator_who_reloads_a_name_is_ahead_of_its_notification():
    """Guards: a file just put there was «not held» for as long as the index did not know it."""
    rig = Rig(files=Mute())
    async with rig.provider() as provider:
        await listed(provider)
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        rig.files.put(KEY, pem(WWW))
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        assert (await provider.reload(WWW)).covers(WWW)
        assert provider.source(WWW) == KEY


async def test_a_reload_joins_no_read_that_began_before_it():
    files = Slow(WILD)
    rig = Rig(files=files)
    files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        old = await provider.credential(MAIL)
        files.read.clear()
        files.open.clear()
        visitor = asyncio.ensure_future(provider.reload(WWW))
        await files.read.wait()
        files._watches.clear()  # its notification is lost
        files.put(WILD, pem("*.contoso.example"))
        reads = rig.store.fetched[WILD]
        reloading = asyncio.ensure_future(provider.reload(MAIL))
        await rig.store.until_fetched(reads + 1, WILD)
        files.open.set()
        assert (await reloading).fingerprint != old.fingerprint
        await visitor


async def test_what_was_refreshed_was_not_used_thereby(rig: Rig):
    """Guards: after each renewal or restart every name counted as in use, and was prefetched."""
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        (entry,) = (entry for _, entry in provider._cache.entries())
        assert entry.used, "the first visit counts"
        entry.used = False  # as it is noted every minute
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
        (entry,) = (entry for _, entry in provider._cache.entries())
        assert not entry.used
        provider.known(WWW)
        assert entry.used


class Unwatchable(MemoryStore):
    """A store that tells of no changes, as a folder on a network mount."""

    def __init__(self, *reasons: str) -> None:
        super().__init__()
        self.reasons = itertools.cycle(reasons)

    async def watch(self) -> AsyncGenerator[Change, None]:
        for reason in self.reasons:
            raise StoreUnwatchable(self.url, reason)
        yield Change(None)


def unseen(provider: Provider) -> list[str]:
    return [one.sentence for one in provider.findings() if one.code == "changes-unseen"]


@pytest.mark.usefixtures("_quick")
async def test_a_store_that_cannot_be_watched_is_polled_and_found():
    rig = Rig(files=Unwatchable("It tells of nothing."))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=3600) as provider:
        await rig.until(Listed)  # at once, and not after refresh
        assert not provider._loader.index.fresh, "what it does not list may be there by now"
        assert unseen(provider) == ["It tells of nothing."]
        assert (await provider.credential(WWW)).covers(WWW)
        rig.files.put(MAIL_KEY, pem(MAIL))
        assert (await provider.credential(MAIL)).covers(MAIL)
        await asyncio.sleep(0.05)  # several tries to watch it
        assert rig.kinds().count("WatchFailed") == 1, "the same is told once"
        assert rig.kinds().count("Listed") == 1


@pytest.mark.usefixtures("_quick")
async def test_another_reason_why_changes_are_not_seen_is_told():
    rig = Rig(files=Unwatchable("One.", "Other."))
    async with rig.provider(refresh_s=3600) as provider:
        await rig.until(WatchFailed, times=2)
        assert unseen(provider) in (["One."], ["Other."])
