"""What a handshake gets in each condition: store, policy, copies and default name together."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from centcert.errors import (
    Alert,
    BadBlob,
    BlobDamaged,
    CentcertError,
    CredentialExpired,
    NameRefused,
    NoServerName,
    Overloaded,
    SettingsError,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
    UnknownName,
)
from centcert.names import HostName
from centcert.provider.answering import answer, answer_from_memory, name_for_none
from centcert.provider.events import Kept, Recalled, Refreshed, WatchFailed, Withdrawn
from centcert.provider.lastgood import LastGood
from centcert.provider.policy import DEFAULT_POLICY, Action
from centcert.provider.resolver import RETRY_S
from tests.unit.provider.conftest import AUTHORITY, Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from centcert.provider import Provider
    from centcert.provider.answering import Answer
    from centcert.provider.policy import Policy

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
FALLBACK = HostName.parse("fallback.example")
KEY, WILD, FALLBACK_KEY = "www.contoso.example.pem", "_.contoso.example.pem", "fallback.example.pem"
FAULTS = [StoreUnavailable, StoreBusy, StoreDenied, StoreAuthenticationFailed, StoreInsecure]
SEALING_KEY = bytes(range(32))


class Nodes:
    """One node, started again and again over the same store and folder."""

    def __init__(self, folder: Path, rig: Rig) -> None:
        self.folder = folder
        self.rig = rig

    @asynccontextmanager
    async def start(
        self, *, url: str | None = None, key: bytes = SEALING_KEY
    ) -> AsyncIterator[Provider]:
        rig = self.rig
        copies = LastGood(
            self.folder,
            [key],
            store_url=url or rig.store.url,
            listener=lambda fault: provider.tell(fault),  # noqa: PLW0108  there is none yet
            clock=rig.clock,
        )
        provider = rig.provider(last_good=copies)
        async with provider:
            yield provider

    async def serve_once(self, *names: HostName) -> None:
        """Start, answer ``names`` from the store, and end."""
        async with self.start() as provider:
            for name in names:
                await ask(provider, name)


@pytest.fixture
def nodes(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (0.01, 0.01))
    monkeypatch.setattr("centcert.provider.loader.HALF_WRITTEN_RETRIES_S", (0.001,))
    monkeypatch.setattr("centcert.provider.provider.prefetch", _nothing)  # visits come first here
    monkeypatch.setattr("centcert.provider.answering.PATIENCE_S", 20.0)  # the store answers before
    return Nodes(tmp_path / "copies", rig)


@pytest.fixture
def _impatient(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a store that does not answer until the test lets it."""
    del nodes  # which is patient
    monkeypatch.setattr("centcert.provider.answering.PATIENCE_S", 0.01)


async def _nothing(*_: object) -> None:
    pass


def _absent(name: HostName) -> None:
    raise UnknownName(name)


async def ask(
    provider: Provider,
    name: HostName,
    policy: Policy = DEFAULT_POLICY,
    default: HostName | None = None,
) -> Answer:
    async with asyncio.timeout(20):
        return await answer(provider, name, policy, default)


def refusing(condition: str) -> Policy:
    return replace(DEFAULT_POLICY, **{condition: Action.REFUSE})


# --- absent --------------------------------------------------------------------------


async def test_an_absent_name_is_refused(rig: Rig):
    async with rig.provider() as provider:
        with pytest.raises(UnknownName) as refused:
            await ask(provider, WWW)
    assert refused.value.alert is Alert.UNRECOGNIZED_NAME


async def test_an_absent_name_gets_the_default_where_there_is_one(rig: Rig):
    rig.files.put(FALLBACK_KEY, pem(FALLBACK))
    async with rig.provider() as provider:
        name, credential = await ask(provider, WWW, default=FALLBACK)
        assert name == FALLBACK
        assert credential.covers(FALLBACK)
        with pytest.raises(UnknownName, match=WWW):
            await ask(provider, WWW, refusing("absent"), FALLBACK)


async def test_a_default_that_is_absent_too_is_refused_and_not_sought_for_ever(rig: Rig):
    async with rig.provider() as provider:
        with pytest.raises(UnknownName, match=FALLBACK):
            await ask(provider, WWW, default=FALLBACK)
        with pytest.raises(UnknownName, match=FALLBACK):
            await ask(provider, FALLBACK, default=FALLBACK)


async def test_the_default_has_its_last_good_copy_too(rig: Rig, nodes: Nodes):
    """The name asked for is known to be absent, the default's file has become bad."""
    rig.files.put(FALLBACK_KEY, pem(FALLBACK))
    await nodes.serve_once(FALLBACK)
    rig.files.put(FALLBACK_KEY, b"-----BEGIN nothing")
    async with nodes.start() as provider:
        assert (await ask(provider, WWW, default=FALLBACK)).name == FALLBACK


@pytest.mark.parametrize("kind", FAULTS)
async def test_the_default_stands_in_for_no_name_that_could_not_be_asked_for(
    rig: Rig, kind: type[StoreError]
):
    rig.files.put(FALLBACK_KEY, pem(FALLBACK))
    async with rig.provider() as provider:
        await ask(provider, FALLBACK)
        rig.store.fail(kind)
        await rig.until(WatchFailed)  # until then the index knew that there is no such file
        with pytest.raises(kind):
            await ask(provider, WWW, default=FALLBACK)


# --- unavailable ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_cold_start_with_the_store_away_serves_copies(
    rig: Rig, nodes: Nodes, kind: type[StoreError]
):
    rig.files.put(KEY, pem(WWW))
    rig.files.put(WILD, pem("*.contoso.example"))
    await nodes.serve_once(WWW, MAIL)
    rig.store.fail(kind)
    async with nodes.start() as provider:
        assert (await ask(provider, WWW)).credential.key == KEY
        assert (await ask(provider, MAIL)).credential.key == WILD
        assert rig.kinds().count("Recalled") == 2
        with pytest.raises(kind) as refused:
            await ask(provider, FALLBACK)
        assert refused.value.alert is Alert.INTERNAL_ERROR
        fetches = rig.store.fetched.total()
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is not None
        assert rig.store.fetched.total() == fetches, "a copy answers from memory from then on"


async def test_who_refuses_while_the_store_is_away_serves_no_copy(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.fail()
    async with nodes.start() as provider:
        with pytest.raises(StoreUnavailable):
            await ask(provider, WWW, refusing("unavailable"))
        assert "Recalled" not in rig.kinds()


async def test_a_copy_that_others_are_served_is_not_for_who_refuses(rig: Rig, nodes: Nodes):
    """Guards: once recalled for one listener, a copy answered all of them from memory."""
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.fail()
    strict = refusing("unavailable")
    async with nodes.start() as provider:
        copy = (await ask(provider, WWW)).credential
        assert provider.held(WWW) is None, "or a worker would keep it for all its listeners"
        assert answer_from_memory(provider, WWW, strict) is None
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await ask(provider, WWW, strict)
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is copy
        assert (await ask(provider, WWW, refusing("bad"))).credential is copy
        assert (await provider.reload(WWW)) is copy
        rig.files.put(KEY, b"-----BEGIN nothing")
        rig.store.heal()
        for _ in range(2):
            with pytest.raises(BadBlob):
                await ask(provider, WWW, refusing("bad"))
        assert (await ask(provider, WWW, strict)).credential is copy
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is copy
        rig.files.put(WILD, pem("*.contoso.example"))
        assert (await provider.reload(WWW)).key == WILD
        assert (await ask(provider, WWW, refusing("bad"))).credential.key == WILD
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is copy
        rig.files.put(KEY, pem(WWW))
        await rig.until(Refreshed)
        new = answer_from_memory(provider, WWW, strict)
        assert new is not None
        assert new.key == KEY


@pytest.mark.usefixtures("_impatient")
async def test_who_refuses_is_not_answered_by_a_copy_that_comes_while_it_waits(
    rig: Rig, nodes: Nodes
):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.hold()
    async with nodes.start() as provider:
        waiting = asyncio.ensure_future(ask(provider, WWW, refusing("unavailable")))
        copy = (await ask(provider, WWW)).credential
        rig.store.fail()
        rig.store.release()
        with pytest.raises(StoreUnavailable):
            await waiting
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is copy


@pytest.mark.usefixtures("_impatient")
async def test_the_copy_of_a_default_name_answers_from_memory(rig: Rig, nodes: Nodes):
    rig.files.put(FALLBACK_KEY, pem(FALLBACK))
    await nodes.serve_once(FALLBACK)
    rig.store.hold()
    async with nodes.start() as provider:
        copy = (await ask(provider, FALLBACK)).credential
        fetches = rig.store.fetched.total()
        provider._check_worth_asking = _absent  # type: ignore[method-assign]
        assert await ask(provider, WWW, default=FALLBACK) == (FALLBACK, copy)
        assert rig.store.fetched.total() == fetches


@pytest.mark.usefixtures("_impatient")
async def test_a_store_that_hangs_is_waited_for_only_so_long(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.files.put(KEY, pem(WWW))
    rig.store.hold()
    async with nodes.start() as provider:
        held = (await ask(provider, WWW)).credential
        assert Recalled(WWW, KEY) in rig.events
        assert WWW in provider._look_ups, "it goes on behind"
        rig.store.release()
        await rig.until_true(lambda: provider.known(WWW) is not held)
        new = provider.known(WWW)
        assert new is not None
        assert new.fingerprint != held.fingerprint


async def test_copies_leave_the_look_ups_of_a_storm_to_names_without_one(
    rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
):
    """Guards: names with a copy filled the queues behind, and names without one were refused."""
    monkeypatch.setattr("centcert.provider.provider.BUSY_LOOK_UPS", 2)
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.files.put(WILD, pem("*.contoso.example"))
    rig.files.put("new.contoso.example.pem", pem("new.contoso.example"))
    rig.store.hold()
    async with nodes.start() as provider:
        storm = [
            asyncio.ensure_future(ask(provider, HostName.parse(f"{name}.contoso.example")))
            for name in ("new", "other")
        ]
        while not provider.is_busy:
            await asyncio.sleep(0)
        assert (await ask(provider, WWW)).credential.key == KEY
        assert WWW not in provider._look_ups
        rig.store.release()
        answers = await asyncio.gather(*storm)
        assert [answer.credential.key for answer in answers] == ["new.contoso.example.pem", WILD]
        rig.clock.advance(RETRY_S)
        assert provider.known(WWW) is not None  # this visit has it looked up
        await rig.until(Refreshed)


@pytest.mark.usefixtures("_impatient")
async def test_who_serves_no_copies_waits_for_a_store_that_hangs(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.hold()
    async with nodes.start() as provider:
        asking = asyncio.ensure_future(ask(provider, WWW, refusing("unavailable")))
        done, _ = await asyncio.wait((asking,), timeout=0.1)
        assert not done
        rig.store.release()
        assert (await asking).credential.key == KEY
    assert "Recalled" not in rig.kinds()


@pytest.mark.usefixtures("_impatient")
async def test_a_name_without_a_copy_waits_for_a_store_that_hangs(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    rig.store.hold()
    async with rig.provider() as provider:
        asking = asyncio.ensure_future(ask(provider, WWW))
        done, _ = await asyncio.wait((asking,), timeout=0.1)
        assert not done
        rig.store.release()
        assert (await asking).credential.key == KEY


@pytest.mark.usefixtures("_impatient")
async def test_a_store_that_is_slow_is_waited_for_when_the_copy_proves_useless(
    rig: Rig, nodes: Nodes
):
    """Guards: with an expired copy a first visit was refused after a quarter of a second."""
    rig.files.put(KEY, pem(WWW, days=1))
    await nodes.serve_once(WWW)
    rig.clock.advance(2 * 86_400)
    rig.files.put(KEY, pem(WWW))
    rig.store.hold()
    async with nodes.start() as provider:
        asking = asyncio.ensure_future(ask(provider, WWW))
        done, _ = await asyncio.wait((asking,), timeout=0.1)
        assert not done
        rig.store.release()
        assert (await asking).credential.not_after > rig.clock.wall()


@pytest.mark.parametrize("error", [Overloaded("too many"), SettingsError("no password file")])
async def test_a_fault_of_this_node_is_no_answer_of_the_store(
    rig: Rig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, error: CentcertError
):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    async with nodes.start() as provider:

        def refuse(_name: HostName) -> None:
            raise error

        monkeypatch.setattr(provider, "_check_worth_asking", refuse)
        assert (await ask(provider, WWW)).credential.key == KEY
        with pytest.raises(type(error)):
            await ask(provider, MAIL)


# --- after the outage ----------------------------------------------------------------


async def test_a_copy_is_refreshed_as_soon_as_the_store_is_back(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.fail()
    async with nodes.start() as provider:
        held = (await ask(provider, WWW)).credential
        rig.files.put(KEY, pem(WWW))
        rig.store.heal()
        await rig.until(Refreshed)  # nobody has asked again
        assert (await ask(provider, WWW)).credential.fingerprint != held.fingerprint
    async with nodes.start() as provider:
        rig.store.fail()
        await rig.until_true(lambda: True)
        copy = await provider.copy(WWW)
        assert copy is not None
        assert copy.fingerprint != held.fingerprint, "the copy is the new one"


@pytest.mark.parametrize("known", [True, False])
async def test_a_withdrawn_certificate_is_withdrawn_here_too(rig: Rig, nodes: Nodes, known: bool):  # noqa: FBT001  a parameter
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    async with nodes.start() as provider:
        if known:
            await ask(provider, WWW)
        rig.files.remove(KEY)
        if known:
            await rig.until(Withdrawn)
        with pytest.raises(UnknownName):
            await ask(provider, WWW)
        assert Withdrawn(WWW) in rig.events
        assert not provider.has_copy(WWW)
    rig.store.fail()
    async with nodes.start() as provider:
        with pytest.raises(StoreUnavailable):
            await ask(provider, WWW)


async def test_a_recalled_name_whose_file_is_gone_is_withdrawn_once_the_store_is_back(
    rig: Rig, nodes: Nodes
):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.fail()
    async with nodes.start() as provider:
        await ask(provider, WWW)
        rig.files.remove(KEY)
        rig.store.heal()
        await rig.until(Withdrawn)
        assert provider.known(WWW) is None
        assert not provider.has_copy(WWW)


# --- bad -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["damaged", "of another name", "with another password"])
async def test_a_bad_file_is_answered_by_the_copy(rig: Rig, nodes: Nodes, bad: str):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    files = {
        "damaged": b"-----BEGIN nothing",
        "of another name": pem("stranger.example"),
        "with another password": AUTHORITY.issue(WWW).pfx(b"unknown"),
    }
    rig.files.put(KEY, files[bad])
    async with nodes.start() as provider:
        with pytest.raises(BadBlob):
            await ask(provider, WWW, refusing("bad"))
        assert (await ask(provider, WWW)).credential.covers(WWW)
        assert {finding.subject for finding in provider.findings()} == {KEY}
        rig.clock.advance(10)
        provider.known(WWW)
        await rig.until(Kept)
        assert provider.known(WWW) is not None, "a bad file never replaces it"


async def test_a_bad_file_without_a_copy_is_refused(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, b"-----BEGIN nothing")
    async with nodes.start() as provider:
        with pytest.raises(BlobDamaged) as refused:
            await ask(provider, WWW, default=FALLBACK)
    assert refused.value.alert is Alert.INTERNAL_ERROR


async def test_a_wildcard_that_is_right_comes_before_a_copy(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.files.put(KEY, b"-----BEGIN nothing")
    rig.files.put(WILD, pem("*.contoso.example"))
    async with nodes.start() as provider:
        assert (await ask(provider, WWW)).credential.key == WILD


@pytest.mark.usefixtures("_impatient")
async def test_what_a_copy_answers_is_replaced_by_no_other_file_while_its_own_is_bad(
    rig: Rig, nodes: Nodes
):
    """Guards: a look-up that began before the copy was recalled took no notice of it."""
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.files.put(KEY, pem("stranger.example"))
    rig.files.put(WILD, pem("*.contoso.example"))
    rig.store.hold()
    async with nodes.start() as provider:
        held = (await ask(provider, WWW)).credential
        rig.store.release()
        await rig.until(Kept)
        assert provider.known(WWW) is held


# --- expired, and copies that are of no use --------------------------------------------


async def test_an_expired_certificate_is_served_or_refused_as_the_policy_says(rig: Rig):
    rig.files.put(KEY, pem(WWW, days=-1))
    async with rig.provider() as provider:
        assert answer_from_memory(provider, WWW, refusing("expired")) is None
        for _ in range(2):
            with pytest.raises(CredentialExpired, match=KEY):
                await ask(provider, WWW, refusing("expired"))
        with pytest.raises(CredentialExpired):
            answer_from_memory(provider, WWW, refusing("expired"))
        assert (await ask(provider, WWW)).credential.key == KEY
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is not None


async def test_a_certificate_expires_in_memory_while_the_store_is_away(rig: Rig):
    rig.files.put(KEY, pem(WWW, days=1))
    async with rig.provider() as provider:
        await ask(provider, WWW)
        rig.store.fail()
        rig.clock.advance(2 * 86_400)
        with pytest.raises(CredentialExpired):
            answer_from_memory(provider, WWW, refusing("expired"))
        assert answer_from_memory(provider, WWW, DEFAULT_POLICY) is not None


async def test_a_copy_that_has_expired_is_of_no_use(rig: Rig, nodes: Nodes):
    rig.files.put(KEY, pem(WWW, days=1))
    await nodes.serve_once(WWW)
    rig.store.fail()
    rig.clock.advance(2 * 86_400)
    async with nodes.start() as provider:
        with pytest.raises(StoreUnavailable):
            await ask(provider, WWW)


@pytest.mark.parametrize("other", [{"url": "memory:another"}, {"key": bytes(32)}])
async def test_the_copy_of_another_store_or_key_is_not_used(
    rig: Rig, nodes: Nodes, other: dict[str, Any]
):
    rig.files.put(KEY, pem(WWW))
    await nodes.serve_once(WWW)
    rig.store.fail()
    async with nodes.start(**other) as provider:
        assert not provider.has_copy(WWW)
        with pytest.raises(StoreUnavailable):
            await ask(provider, WWW)
        await rig.until_true(lambda: rig.kinds().count("FetchFailed") > 0)
        assert "copies-foreign" in {finding.code for finding in provider.findings()}
    async with nodes.start() as provider:
        assert (await ask(provider, WWW)).credential.key == KEY, "and it is still there"


async def test_a_copy_never_answers_for_a_name_it_does_not_cover(rig: Rig, nodes: Nodes):
    """A name that only the default's certificate ever answered is not thereby known."""
    rig.files.put(FALLBACK_KEY, pem(FALLBACK))
    async with nodes.start() as provider:
        await ask(provider, WWW, default=FALLBACK)
        assert not provider.has_copy(WWW)
    rig.store.fail()
    async with nodes.start() as provider:
        with pytest.raises(StoreUnavailable):
            await ask(provider, WWW)


# --- no name -------------------------------------------------------------------------


def test_no_name_is_refused_unless_there_is_a_default():
    with pytest.raises(NoServerName):
        name_for_none(None, DEFAULT_POLICY, None)
    assert name_for_none(None, DEFAULT_POLICY, FALLBACK) == FALLBACK
    with pytest.raises(NoServerName):
        name_for_none(None, refusing("no_name"), FALLBACK)
    assert name_for_none(None, refusing("absent"), FALLBACK) == FALLBACK


def test_what_is_no_host_name_is_treated_as_absent():
    error = NameRefused("no host name")
    with pytest.raises(NameRefused):
        name_for_none(error, DEFAULT_POLICY, None)
    assert name_for_none(error, DEFAULT_POLICY, FALLBACK) == FALLBACK
    with pytest.raises(NameRefused):
        name_for_none(error, refusing("absent"), FALLBACK)
    assert name_for_none(error, refusing("no_name"), FALLBACK) == FALLBACK
