"""What ``explain`` writes down is what a look-up does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from centcert.admin.explanation import Explanation, explain
from centcert.credential import MAX_BLOB_BYTES
from centcert.errors import StoreUnavailable
from centcert.frontend import Backend, Listener, Site, TcpAddress
from centcert.names import HostName
from centcert.provider.policy import DEFAULT_POLICY, Action
from centcert.stores import MemoryStore
from centcert.testing import Authority, FaultyStore

NAME = HostName("www.contoso.example")
KEY, WILD = "www.contoso.example.pfx", "_.contoso.example.pfx"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def issued(authority: Authority, *names: str, days: int = 30) -> bytes:
    until = NOW + timedelta(days)
    return authority.issue(*names, not_before=until - timedelta(60), not_after=until).pfx()


def listener(*, default: str | None = None, **policy: Action) -> Listener:
    site = Site(Backend.parse("unix:/x"), policy=replace(DEFAULT_POLICY, **policy))
    name = None if default is None else HostName(default)
    return Listener(TcpAddress("127.0.0.1", 443), site, default_name=name)


async def ask(
    store: MemoryStore | FaultyStore, *listeners: Listener, has_copy: bool = False
) -> Explanation:
    return await explain(
        NAME,
        store,
        passwords=tuple,
        now=NOW.timestamp(),
        listeners=listeners,
        has_copy=has_copy,
    )


def outcomes(explanation: Explanation) -> list[str]:
    return [step.outcome for step in explanation.steps]


async def test_the_exact_file_answers_and_ends_the_look_up(
    store: MemoryStore, authority: Authority
):
    store.put(KEY, issued(authority, str(NAME)))
    store.put(WILD, issued(authority, "*.contoso.example"))
    found = await ask(store)
    assert (found.condition, found.key) == ("good", KEY)
    assert outcomes(found) == ["answers", "unasked", "unasked", "unasked"]
    assert found.steps[0].certificate is not None
    assert found.steps[0].certificate.names == (str(NAME),)
    assert found.steps[0].certificate.fingerprint == found.fingerprint
    assert found.verdicts[0].sentence == f"serves {KEY}."


async def test_a_file_for_another_site_is_passed_over_and_shown(
    store: MemoryStore, authority: Authority
):
    store.put(KEY, issued(authority, "www.fabrikam.example"))
    store.put(WILD, issued(authority, "*.contoso.example"))
    found = await ask(store)
    assert (found.condition, found.key) == ("good", WILD)
    assert outcomes(found) == ["unusable", "absent", "answers", "unasked"]
    assert found.steps[0].certificate is not None
    assert found.steps[0].certificate.issued_to == "www.fabrikam.example"
    assert "does not cover www.contoso.example" in found.steps[0].sentence
    assert "by *.contoso.example" in found.steps[2].sentence


async def test_an_expired_file_is_passed_over_for_one_within_its_dates(
    store: MemoryStore, authority: Authority
):
    store.put(KEY, issued(authority, str(NAME), days=-1))
    store.put(WILD, issued(authority, "*.contoso.example"))
    assert outcomes(await ask(store)) == ["outside-dates", "absent", "answers", "unasked"]


async def test_an_expired_file_answers_where_nothing_is_better(
    store: MemoryStore, authority: Authority
):
    store.put(KEY, issued(authority, str(NAME), days=-1))
    found = await ask(store, listener(), listener(expired=Action.REFUSE))
    assert (found.condition, found.key) == ("expired", KEY)
    assert "has expired" in found.steps[0].sentence
    assert [verdict.action for verdict in found.verdicts] == ["serve", "refuse"]


async def test_a_file_that_is_not_yet_valid_says_so(store: MemoryStore, authority: Authority):
    store.put(KEY, issued(authority, str(NAME), days=90))
    assert "is not yet valid" in (await ask(store)).steps[0].sentence


async def test_nothing_there_is_refused_or_gets_the_default(store: MemoryStore):
    found = await ask(store, listener(), listener(default="shop.example"))
    assert (found.condition, found.key) == ("absent", None)
    assert outcomes(found) == ["absent"] * 4
    refused, default = found.verdicts
    assert refused.sentence == "refuses the handshake with the alert unrecognized_name."
    assert default.action == "default"
    assert "centcert explain shop.example" in default.sentence


async def test_a_store_without_an_answer_ends_the_look_up(store: MemoryStore, authority: Authority):
    store.put(WILD, issued(authority, "*.contoso.example"))
    faulty = FaultyStore(store)
    faulty.fail(StoreUnavailable)
    found = await ask(faulty)
    assert (found.condition, found.key) == ("unavailable", None)
    assert outcomes(found) == ["no-answer", "unasked", "unasked", "unasked"]
    assert found.steps[1].sentence == "not asked for: the store gave no answer."
    assert found.verdicts[0].sentence == "refuses the handshake with the alert internal_error."
    found = await ask(faulty, listener(), listener(unavailable=Action.REFUSE), has_copy=True)
    assert [verdict.action for verdict in found.verdicts] == ["last-good", "refuse"]


async def test_a_bad_file_is_said_to_be_bad(store: MemoryStore, authority: Authority):
    store.put(KEY, issued(authority, str(NAME))[:-1])
    found = await ask(store)
    assert found.condition == "bad"
    assert outcomes(found) == ["unusable", "absent", "absent", "absent"]
    assert found.steps[0].sentence.startswith("cannot be used: ")
    assert found.steps[0].sentence.endswith("export it again.")


async def test_a_question_ends_as_one(store: MemoryStore):
    store.put(KEY, bytes(MAX_BLOB_BYTES + 1))
    found = await ask(store)
    assert outcomes(found)[0] == "unusable"
    assert found.steps[0].sentence.endswith("is it a certificate at all?")
