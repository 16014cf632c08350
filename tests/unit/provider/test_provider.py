import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import pytest

from centcert.credential import Credential
from centcert.errors import (
    BlobDamaged,
    Closing,
    Overloaded,
    StoreDenied,
    StoreUnavailable,
    UnknownName,
    WrongName,
    WrongPassword,
)
from centcert.names import HostName
from centcert.provider import CacheLimits, Provider
from centcert.provider import provider as provider_module
from centcert.provider.events import (
    Hit,
    Kept,
    Listed,
    Refreshed,
    Refused,
    Unusable,
    WatchFailed,
    Watching,
    Withdrawn,
)
from centcert.provider.renewals import REFRESHERS
from centcert.stores import Blob, Change, MemoryStore, StoredFile
from tests.unit.provider.conftest import AUTHORITY, Rig, pem

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
KEY, WILD = "www.contoso.example.pem", "_.contoso.example.pem"


async def fetched_anew(rig: Rig, key: str) -> None:
    await rig.store.until_fetched(rig.store.fetched[key] + 1, key)


# --- asking --------------------------------------------------------------------


async def test_a_first_visit_is_fetched_and_a_second_is_answered_from_memory(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        assert provider.known(WWW) is None
        credential = await provider.credential(WWW)
        assert credential.covers(WWW)
        assert provider.source(WWW) == KEY
        fetches = rig.store.fetched.total()
        assert provider.known(WWW) is credential
        assert await provider.credential(WWW) is credential
        assert rig.store.fetched.total() == fetches
    assert [kind for kind in rig.kinds() if kind not in {"Watching", "Listed"}] == [
        *("Asked", "Fetched", "Fetched", "Decoded", "Found"),
        *("Asked", "Hit", "Asked", "Hit"),
    ]


async def test_nothing_is_told_when_nobody_listens():
    files = MemoryStore()
    files.put(KEY, pem(WWW))
    async with Provider(files) as provider:
        assert (await provider.credential(WWW)).covers(WWW)


async def test_many_visitors_at_once_cause_one_look_up(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    rig.store.hold()
    async with rig.provider() as provider:
        visitors = [asyncio.ensure_future(provider.credential(WWW)) for _ in range(200)]
        await rig.store.until_fetched(1)
        visitors[0].cancel()
        rig.store.release()
        credentials = await asyncio.gather(*visitors[1:])
        assert len({id(credential) for credential in credentials}) == 1
        assert rig.store.fetched[KEY] == 1
        assert rig.decoder.decoded == [KEY]


async def test_names_of_one_wildcard_share_its_credential_and_its_decoding(rig: Rig):
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        one, other = await asyncio.gather(provider.credential(WWW), provider.credential(MAIL))
        assert one is other
        assert await provider.credential(HostName.parse("x.contoso.example")) is one
        assert rig.decoder.decoded == [WILD]


class Mute(MemoryStore):
    """A store that notifies nobody."""

    async def watch(self) -> AsyncGenerator[Change, None]:
        await asyncio.Event().wait()
        yield Change(None)


async def test_an_absent_name_is_refused_and_remembered_for_a_while():
    rig = Rig(files=Mute())
    async with rig.provider() as provider:
        with pytest.raises(UnknownName, match=WWW):
            await provider.credential(WWW)
        fetches = rig.store.fetched.total()
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        assert rig.store.fetched.total() == fetches
        rig.clock.advance(10)
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        assert rig.store.fetched.total() == 2 * fetches
    assert rig.kinds().count("Refused") == 3


async def test_a_name_that_appears_is_served_although_it_was_remembered_as_absent(rig: Rig):
    async with rig.provider() as provider:
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        rig.files.put(KEY, pem(WWW))
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await provider.credential(WWW)).covers(WWW)
                except UnknownName:
                    await asyncio.sleep(0.01)  # until the notification is acted on
                else:
                    break


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreDenied])
async def test_a_fault_is_never_remembered(rig: Rig, kind: type[StoreUnavailable]):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        rig.store.fail(kind)
        with pytest.raises(kind):
            await provider.credential(WWW)
        rig.store.heal()
        assert (await provider.credential(WWW)).covers(WWW)


async def test_look_ups_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provider_module, "MAX_LOOK_UPS", 3)
    rig.store.hold()
    async with rig.provider() as provider:
        names = [HostName.parse(f"n{number}.example") for number in range(3)]
        waiting = [asyncio.ensure_future(provider.credential(name)) for name in names]
        await rig.store.until_fetched(3)
        with pytest.raises(Overloaded):
            await provider.credential(WWW)
        joined = asyncio.ensure_future(provider.credential(names[0]))  # no look-up of its own
        await asyncio.sleep(0)
        rig.store.release()
        results = await asyncio.gather(*waiting, joined, return_exceptions=True)
        assert [type(result) for result in results] == [UnknownName] * 4


async def test_who_waits_when_the_provider_closes_is_told(rig: Rig):
    rig.store.hold()
    async with rig.provider() as provider:
        visitor = asyncio.ensure_future(provider.credential(WWW))
        await rig.store.until_fetched(1)
    with pytest.raises(Closing):
        await visitor


# --- bad files -------------------------------------------------------------------


async def test_a_bad_file_is_told_with_its_reason(rig: Rig):
    rig.files.put("www.contoso.example.pfx", AUTHORITY.issue(WWW).pfx(b"secret"))
    async with rig.provider() as provider:
        with pytest.raises(WrongPassword):
            await provider.credential(WWW)
        unusable = [event for event in rig.events if isinstance(event, Unusable)]
        assert [event.key for event in unusable] == ["www.contoso.example.pfx"]
        with pytest.raises(WrongPassword):
            await provider.credential(WWW)
        assert len(rig.decoder.decoded) == 1, "the verdict on a version is remembered"
        rig.passwords.append(b"secret")
        assert (await provider.credential(WWW)).covers(WWW), "but not beyond other passwords"


async def test_a_half_written_file_is_tried_again(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    rig.store.truncate_to = 300
    async with rig.provider() as provider:
        visitor = asyncio.ensure_future(provider.credential(WWW))
        await rig.store.until_fetched(1, KEY)
        await asyncio.sleep(0)
        rig.store.truncate_to = None
        assert (await visitor).covers(WWW)


async def test_a_damaged_file_is_refused_after_its_tries_and_at_once_the_next_time(rig: Rig):
    rig.files.put(KEY, pem(WWW)[:300])
    async with rig.provider() as provider:
        for decoded in (4, 4):
            with pytest.raises(BlobDamaged):
                await provider.credential(WWW)
            assert len(rig.decoder.decoded) == decoded


async def test_a_bad_file_never_replaces_a_good_credential(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        rig.files.put(KEY, b"-----BEGIN nothing")
        await rig.until(Kept)
        assert await provider.credential(WWW) is credential
        rig.files.put(KEY, pem("another.example"))
        await rig.until(Kept, times=2)
        assert await provider.credential(WWW) is credential


async def test_a_good_wildcard_does_not_replace_a_good_credential_whose_file_went_bad(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        rig.files.put(KEY, pem("another.example"))
        await rig.until(Kept)
        assert await provider.credential(WWW) is credential


async def test_a_renewed_wildcard_is_served_beside_a_bad_own_file(rig: Rig):
    rig.files.put(KEY, pem("another.example"))
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        rig.files.put(WILD, pem("*.contoso.example"))
        await rig.until(Refreshed)
        assert await provider.credential(WWW) is not credential


# --- refresh -----------------------------------------------------------------------


async def test_a_replaced_file_is_served_after_its_notification(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        old = await provider.credential(WWW)
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
        new = await provider.credential(WWW)
        assert new is not old
        assert new.fingerprint != old.fingerprint


async def test_a_file_of_its_own_takes_over_from_the_wildcard_and_gives_back(rig: Rig):
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        rig.files.put(KEY, pem(WWW))
        while (await provider.credential(WWW)).key != KEY:
            await asyncio.sleep(0)  # for the notification
        rig.files.remove(KEY)
        await rig.until_true(lambda: provider.source(WWW) == WILD)


class SlowReads(MemoryStore):
    """A store where reads of one key can be held after they have read."""

    def __init__(self) -> None:
        super().__init__()
        self.held: str | None = None
        self.released = asyncio.Event()

    async def fetch(self, key: str) -> Blob | None:
        blob = await super().fetch(key)
        if key == self.held:
            await self.released.wait()
        return blob


async def test_a_change_in_the_middle_of_a_look_up_is_not_lost():
    files = SlowReads()
    rig = Rig(files=files)
    files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        old = await provider.credential(MAIL)
        files.held = WILD
        visitor = asyncio.ensure_future(provider._look_ups.join(WWW, provider._look_up))
        await fetched_anew(rig, WILD)
        files.put(WILD, pem("*.contoso.example"))
        await fetched_anew(rig, WILD)  # for MAIL, instead of joining the read that is held
        files.released.set()
        assert await visitor is old
        await rig.until_true(lambda: old not in {provider.held(WWW), provider.held(MAIL)})
        assert await provider.credential(MAIL) is await provider.credential(WWW)


async def test_a_stale_name_is_served_at_once_and_refreshed_behind(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        await rig.until(Listed)
        rig.clock.advance(300)
        rig.store.hold()
        assert provider.known(WWW) is credential
        await fetched_anew(rig, KEY)
        assert provider.known(WWW) is credential
        rig.store.release()
        await rig.until(Refreshed)
        assert [e.changed for e in rig.events if isinstance(e, Refreshed)] == [False]
        assert rig.decoder.decoded == [KEY], "an unchanged file is not decoded again"


async def test_a_known_name_outlives_the_store(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        rig.store.fail()
        rig.clock.advance(300)
        assert provider.known(WWW) is credential
        await rig.until(Kept)
        rig.clock.advance(100_000)
        assert provider.known(WWW) is credential
        await rig.until(Kept, times=2)


async def test_a_failed_refresh_rests_before_the_next(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        rig.store.fail()
        rig.clock.advance(300)
        provider.known(WWW)
        await rig.until(Kept)
        fetches = rig.store.fetched.total()
        for _ in range(10):
            provider.known(WWW)
            await asyncio.sleep(0)
        assert rig.store.fetched.total() == fetches


async def test_a_removed_file_is_withdrawn_once_confirmed(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await rig.until(Listed)
        await provider.credential(WWW)
        fetches = rig.store.fetched[KEY]
        rig.files.remove(KEY)
        await rig.until(Withdrawn)
        assert rig.store.fetched[KEY] == fetches + 4
        with pytest.raises(UnknownName):
            await provider.credential(WWW)


async def test_a_file_that_is_missing_for_an_instant_is_not_withdrawn(rig: Rig):
    data = pem(WWW)
    rig.files.put(KEY, data)
    async with rig.provider() as provider:
        credential = await provider.credential(WWW)
        rig.files.remove(KEY)
        await fetched_anew(rig, KEY)
        rig.files.put(KEY, data)
        await rig.until(Refreshed)
        assert "Withdrawn" not in rig.kinds()
        assert (await provider.credential(WWW)).fingerprint == credential.fingerprint


async def test_expiry_ends_freshness():
    rig = Rig(files=Mute())
    rig.files.put(KEY, pem(WWW, days=100 / 86_400))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        rig.files.put(WILD, pem("*.contoso.example"))
        rig.clock.advance(101)
        provider.known(WWW)
        await rig.until(Refreshed)
        assert provider.source(WWW) == WILD


async def test_polling_finds_what_no_notification_told():
    rig = Rig(files=Mute())
    rig.files.put(KEY, pem(WWW))
    rig.files.put("mail.contoso.example.pem", pem(MAIL))
    async with rig.provider(refresh_s=0.05) as provider:
        old, mail = await provider.credential(WWW), await provider.credential(MAIL)
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
        assert (await provider.credential(WWW)).fingerprint != old.fingerprint
        assert await provider.credential(MAIL) is mail
        rig.files.remove(KEY)
        await rig.until(Withdrawn)


async def test_a_listing_keeps_all_that_is_remembered_fresh():
    rig = Rig(files=Mute())
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.05) as provider:
        await provider.credential(WWW)
        rig.clock.advance(0.049)
        listed = rig.store.listed
        while rig.store.listed < listed + 2:
            await asyncio.sleep(0.01)
        rig.clock.advance(0.049)
        provider.known(WWW)
        assert rig.events[-1] == Hit(WWW, KEY, stale=False)
        assert rig.store.fetched[KEY] == 1


async def test_a_watch_that_breaks_is_told_and_what_was_missed_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.05, 0.05))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        old = await provider.credential(WWW)
        await rig.store.until_fetched(2)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.files.put(KEY, pem(WWW))
        rig.store.heal()
        await rig.until(Refreshed)
        assert (await provider.credential(WWW)).fingerprint != old.fingerprint


# --- the index ---------------------------------------------------------------------


async def listed(rig: Rig, times: int = 1) -> None:
    """Wait until so many listings were taken in."""
    await rig.until(Listed, times)


async def test_while_the_store_is_watched_unknown_names_cost_it_nothing(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await listed(rig)
        for number in range(5_000):
            with pytest.raises(UnknownName):
                await provider.credential(HostName.parse(f"n{number}.contoso.example"))
        assert rig.store.fetched.total() == 0
        assert (await provider.credential(WWW)).covers(WWW)
        assert rig.store.fetched.total() == 1, "its .pfx is known to be absent"


async def test_a_file_that_is_added_is_served_at_once(rig: Rig):
    async with rig.provider() as provider:
        await listed(rig)
        rig.files.put(KEY, pem(WWW))
        while provider.known(WWW) is None:
            with suppress(UnknownName):
                await provider.credential(WWW)
            await asyncio.sleep(0)  # for the notification
        assert rig.store.listed == 1


async def test_without_a_watch_only_so_many_unlisted_names_are_asked_for():
    rig = Rig(files=Mute())
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.05) as provider:
        await listed(rig)
        outcomes: Counter[type[BaseException]] = Counter()
        for number in range(3_000):
            with pytest.raises((UnknownName, Overloaded)) as refused:
                await provider.credential(HostName.parse(f"n{number}.example"))
            outcomes[refused.type] += 1
        assert outcomes == {UnknownName: 1_000, Overloaded: 2_000}
        assert (await provider.credential(WWW)).covers(WWW), "a listed name is not held up"
        rig.clock.advance(1)
        with pytest.raises(UnknownName):
            await provider.credential(MAIL)


async def test_a_store_that_fails_is_not_believed_to_lack_a_name(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (60.0, 60.0))
    async with rig.provider() as provider:
        await listed(rig)
        rig.store.fail()
        await rig.until(WatchFailed)
        with pytest.raises(StoreUnavailable):
            await provider.credential(WWW)


async def test_a_listing_that_fails_under_a_watch_is_asked_for_again_soon(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.01, 0.01))
    failures = [StoreUnavailable(rig.store.url, "once")]
    list_well = rig.store.scan

    async def list_badly_once() -> AsyncGenerator[Sequence[StoredFile], None]:
        async with aclosing(list_well()) as batches:
            async for batch in batches:
                yield batch
        if failures:
            raise failures.pop()

    monkeypatch.setattr(rig.store, "scan", list_badly_once)
    async with rig.provider() as provider:
        await rig.until(WatchFailed)
        assert codes(provider) == {"changes-unseen": rig.store.url}
        await rig.until(Watching, times=2)
        assert codes(provider) == {}
        assert rig.store.watched == 1
        with pytest.raises(UnknownName):
            await provider.credential(WWW)
        assert rig.store.fetched.total() == 0


# --- findings ----------------------------------------------------------------------


def codes(provider: Provider) -> dict[str, str]:
    return {finding.code: finding.subject for finding in provider.findings()}


async def test_a_bad_file_is_found_and_cleared_when_it_is_mended(rig: Rig):
    rig.files.put(KEY, b"-----BEGIN nothing")
    async with rig.provider() as provider:
        with pytest.raises(BlobDamaged):
            await provider.credential(WWW)
        (finding,) = provider.findings()
        assert (finding.code, finding.subject) == ("bad-file", KEY)
        assert finding.since == rig.clock.wall()
        rig.files.put(KEY, pem("another.example"))
        with pytest.raises(WrongName):
            await provider.credential(WWW)
        assert codes(provider) == {"wrong-name": KEY}
        rig.files.put(KEY, pem(WWW))
        await provider.credential(WWW)
        assert codes(provider) == {}


async def test_an_unreachable_store_is_found_and_cleared(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.05, 0.05))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await listed(rig)
        rig.store.fail()
        await rig.until(WatchFailed)
        with pytest.raises(StoreUnavailable):
            await provider.credential(WWW)
        assert codes(provider) == {
            "changes-unseen": rig.store.url,
            "store-unreachable": rig.store.url,
        }
        rig.store.heal()
        await rig.until(Watching, times=2)
        await provider.credential(WWW)
        assert codes(provider) == {}


async def test_what_was_denied_with_the_whole_folder_is_cleared_by_a_listing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.01, 0.01))
    rig.files.put(f"{WWW}.pfx", AUTHORITY.issue(WWW).pfx())
    async with rig.provider() as provider:
        await provider.credential(WWW)
        await listed(rig)
        rig.store.fail(StoreDenied)
        await rig.until(WatchFailed)
        await provider.reload(WWW)
        with pytest.raises(StoreDenied):
            await provider.credential(MAIL)
        denied = {one.subject for one in provider.findings() if one.code == "file-denied"}
        assert {WWW, MAIL} == {key.rpartition(".")[0] for key in denied}
        rig.store.heal()
        while provider.findings():
            await asyncio.sleep(0.01)


async def test_what_was_wrong_with_a_file_goes_with_it(rig: Rig):
    rig.files.put(KEY, b"-----BEGIN nothing")
    async with rig.provider(refresh_s=0.2) as provider:
        await listed(rig)
        with pytest.raises(BlobDamaged):
            await provider.credential(WWW)
        assert codes(provider) == {"bad-file": KEY}
        rig.files.remove(KEY)
        await listed(rig, rig.kinds().count("Listed") + 2)
        assert codes(provider) == {}


async def test_an_ending_certificate_is_found_and_cleared_by_its_successor(rig: Rig):
    rig.files.put(KEY, pem(WWW, days=5))
    rig.files.put(WILD, pem("*.contoso.example"))
    async with rig.provider() as provider:
        await listed(rig)
        await provider.credential(WWW)
        assert codes(provider) == {"expiring": KEY, "hides-wildcard": KEY}
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
        assert codes(provider) == {}


async def test_an_expired_certificate_is_served_and_found(rig: Rig):
    rig.files.put(KEY, pem(WWW, days=-1))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        assert codes(provider) == {"expired": KEY}
        rig.files.remove(KEY)
        await rig.until(Withdrawn)
        assert codes(provider) == {}


# --- bounds ------------------------------------------------------------------------


async def test_memory_is_bounded_by_what_is_used_least(rig: Rig):
    names = [HostName.parse(f"n{number}.contoso.example") for number in range(30)]
    for name in names:
        rig.files.put(f"{name}.pem", pem(name))
    async with rig.provider(limits=CacheLimits(max_names=10)) as provider:
        for name in names:
            assert isinstance(await provider.credential(name), Credential)
        assert provider.known(HostName.parse("n29.contoso.example")) is not None
        assert provider.known(HostName.parse("n19.contoso.example")) is None


async def test_a_refusal_names_the_name_and_not_the_secret(rig: Rig):
    rig.passwords.append(b"hunter2")
    rig.files.put("www.contoso.example.pfx", AUTHORITY.issue(WWW).pfx(b"other"))
    async with rig.provider() as provider:
        with pytest.raises(WrongPassword):
            await provider.credential(WWW)
    refused = [event for event in rig.events if isinstance(event, Refused)]
    assert refused[0].name == WWW
    assert "hunter2" not in repr(rig.events)
    assert "hunter2" not in repr(provider)


async def test_a_made_up_international_name_is_refused_without_being_spelled_in_unicode(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Guards: a hello that names long A-labels cost 4 ms of the loop's time, 200 others'."""
    rig.files.put("bücher.example.pem", pem("xn--bcher-kva.example"))
    async with rig.provider() as provider:
        await listed(rig)
        await provider.credential(HostName.parse("xn--bcher-kva.example"))

        def spelled(name: str) -> str:
            raise AssertionError(name)

        monkeypatch.setattr("idna.ulabel", spelled)
        with pytest.raises(UnknownName):
            await provider.credential(HostName.parse("xn--strae-oqa.example"))


async def test_a_listing_that_misses_a_file_withdraws_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Guards: an absence was confirmed by the very listing that had told it."""

    async def list_nothing() -> AsyncGenerator[Sequence[StoredFile], None]:
        for _ in range(0):
            yield ()

    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.05) as provider:
        await provider.credential(WWW)
        await listed(rig)
        monkeypatch.setattr(rig.files, "scan", list_nothing)
        await rig.until_true(lambda: not {"Refreshed", "Withdrawn"}.isdisjoint(rig.kinds()))
        assert provider.known(WWW) is not None
    assert "Withdrawn" not in rig.kinds()


async def test_a_file_that_is_denied_and_not_listed_is_not_withdrawn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """A link that leads out of the folder now: its listing leaves it out, its fetch is denied."""

    async def list_nothing() -> AsyncGenerator[Sequence[StoredFile], None]:
        for _ in range(0):
            yield ()

    async def deny(key: str) -> Blob | None:
        raise StoreDenied(rig.files.url, f"{key} is denied.")

    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.05) as provider:
        await provider.credential(WWW)
        await listed(rig)
        monkeypatch.setattr(rig.files, "scan", list_nothing)
        monkeypatch.setattr(rig.files, "fetch", deny)
        await rig.until_true(lambda: not {"Kept", "Withdrawn"}.isdisjoint(rig.kinds()))
        assert provider.known(WWW) is not None
    assert "Withdrawn" not in rig.kinds()


async def test_a_fault_in_a_refresh_ends_neither_the_provider_nor_other_refreshes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Guards: an error that no part of Centcert declares ended the whole node."""
    rig.files.put(KEY, pem(WWW))
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        await listed(rig)

        async def fail(blob: Blob, passwords: object) -> Credential:
            raise MemoryError(blob.key, passwords)

        with monkeypatch.context() as broken:
            broken.setattr(rig.decoder, "decode", fail)
            for days in range(REFRESHERS + 1):
                rig.files.put(KEY, pem(WWW, days=20 + days))
                while len(faults) <= days:
                    await asyncio.sleep(0.01)
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
    assert {type(fault["exception"]) for fault in faults} == {MemoryError}


async def test_a_provider_that_was_left_answers_that_it_is_closing(rig: Rig):
    """Guards: a handshake that asked while the node changed its store met a RuntimeError."""
    async with rig.provider() as provider:
        pass
    with pytest.raises(Closing):
        await provider.credential(WWW)
