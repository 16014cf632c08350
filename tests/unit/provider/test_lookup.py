from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from centcert.credential import decode
from centcert.errors import BlobDamaged, StoreUnavailable, UnknownName, WrongName
from centcert.names import HostName
from centcert.provider.lookup import Loaded, Rejected, look_up
from centcert.testing import Authority

WWW = HostName.parse("www.contoso.example")
OWN, OWN_PEM = "www.contoso.example.pfx", "www.contoso.example.pem"
WILD, WILD_PEM = "_.contoso.example.pfx", "_.contoso.example.pem"
NOW = datetime.now(UTC).timestamp()
AUTHORITY = Authority()


def good(key: str, *names: str, expired: bool = False) -> Loaded:
    end = datetime.now(UTC) + timedelta(days=-1 if expired else 30)
    issued = AUTHORITY.issue(*names, not_before=end - timedelta(days=60), not_after=end)
    return Loaded(key, "1", decode(issued.pem(), key=key, passwords=()))


def bad(key: str) -> Rejected:
    return Rejected(key, "1", BlobDamaged(key, "it is damaged."))


def store(*files: Loaded | Rejected) -> Callable[[str], Awaitable[Loaded | Rejected | None]]:
    by_key = {file.key: file for file in files}

    async def load(key: str) -> Loaded | Rejected | None:
        return by_key.get(key)

    return load


async def test_the_names_own_file_wins_and_nothing_else_is_asked_for():
    own = good(OWN, WWW)
    found = await look_up(WWW, store(own, good(WILD, "*.contoso.example")), NOW)
    assert found.answer is own
    assert found.examined == ((OWN, "1"),)


async def test_the_wildcard_answers_when_there_is_no_own_file():
    wild = good(WILD, "*.contoso.example")
    found = await look_up(WWW, store(wild), NOW)
    assert found.answer is wild
    assert found.examined == ((OWN, None), (OWN_PEM, None), (WILD, "1"))


async def test_it_is_told_until_when_dates_leave_the_answer_as_it_is():
    own, wild = good(OWN, WWW), good(WILD, "*.contoso.example")
    assert (await look_up(WWW, store(own, wild), NOW)).until == own.credential.not_after
    soon = replace(own, credential=replace(own.credential, not_before=NOW + 60))
    assert (await look_up(WWW, store(soon, wild), NOW)).until == NOW + 60
    over = good(OWN, WWW, expired=True)
    assert (await look_up(WWW, store(over, wild), NOW)).until == wild.credential.not_after
    assert (await look_up(WWW, store(over), NOW)).until == inf


async def test_pem_is_the_second_form():
    own, pem = good(OWN, WWW), good(OWN_PEM, WWW)
    assert (await look_up(WWW, store(pem, own), NOW)).answer is own
    assert (await look_up(WWW, store(pem), NOW)).answer is pem


async def test_absence_is_no_answer():
    found = await look_up(WWW, store(), NOW)
    assert found.answer is None
    assert [version for _, version in found.examined] == [None] * 4
    assert isinstance(found.refusal(WWW), UnknownName)


async def test_a_certificate_for_another_name_is_never_an_answer():
    found = await look_up(WWW, store(good(OWN, "mail.contoso.example", "contoso.example")), NOW)
    assert found.answer is None
    refusal = found.refusal(WWW)
    assert isinstance(refusal, WrongName)
    assert "mail.contoso.example" in str(refusal)
    assert OWN in str(refusal)


async def test_a_bad_file_is_passed_over_for_the_wildcard_and_told():
    wild = good(WILD, "*.contoso.example")
    found = await look_up(WWW, store(bad(OWN), wild), NOW)
    assert found.answer is wild
    assert [rejected.key for rejected in found.rejected] == [OWN]


async def test_the_first_bad_file_is_the_reason_when_nothing_answers():
    found = await look_up(WWW, store(bad(OWN), bad(WILD)), NOW)
    assert found.answer is None
    assert str(found.refusal(WWW)).startswith(OWN)


async def test_a_certificate_within_its_dates_beats_one_outside_them():
    wild = good(WILD, "*.contoso.example")
    found = await look_up(WWW, store(good(OWN, WWW, expired=True), wild), NOW)
    assert found.answer is wild


async def test_an_expired_certificate_is_better_than_none():
    own = good(OWN, WWW, expired=True)
    found = await look_up(WWW, store(own, good(WILD, "*.contoso.example", expired=True)), NOW)
    assert found.answer is own
    assert len(found.examined) == 4


async def test_a_fault_ends_the_look_up():
    async def load(key: str) -> Loaded | None:
        if key == OWN:
            raise StoreUnavailable("memory:", "It is away.")
        return good(key, "*.contoso.example")

    with pytest.raises(StoreUnavailable):
        await look_up(WWW, load, NOW)


async def test_what_a_wrong_certificate_says_is_shown_harmlessly():
    """Guards: a dNSName may hold line ends and escapes, and was put into the log as it is."""
    hostile = "b.example\nrefused 192.0.2.1\x1b[2J" + "y" * 5_000
    file = good(OWN, "mail.contoso.example")
    file = replace(file, credential=replace(file.credential, patterns=(hostile,) * 4))
    sentence = str((await look_up(WWW, store(file), NOW)).refusal(WWW))
    assert sentence.isprintable()
    assert len(sentence) < 600
