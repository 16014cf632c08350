"""Each finding appears, keeps its since, changes its sentence, and goes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from centcert.credential import decode
from centcert.errors import (
    BlobDamaged,
    SettingsError,
    StoreAuthenticationFailed,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
    WrongName,
    WrongPassword,
)
from centcert.names import HostName
from centcert.provider.events import (
    Decoded,
    Fetched,
    FetchFailed,
    Kept,
    Refreshed,
    Unusable,
    WatchFailed,
    Watching,
)
from centcert.provider.findings import MAX_FINDINGS, Findings
from centcert.provider.lastgood import Fault
from centcert.stores.events import Weakness, WeaknessGone
from tests.unit.provider.conftest import pem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from centcert.provider.events import Event
    from tests.unit.provider.conftest import Rig

WWW = HostName.parse("www.contoso.example")
KEY, WILD = "www.contoso.example.pem", "_.contoso.example.pem"
URL = "smb://files/certificates"
FOLDER = "/var/lib/centcert/last-good"

DAY_S = 86_400.0


def failed(kind: type[StoreError], sentence: str) -> FetchFailed:
    return FetchFailed(KEY, 0.1, kind(URL, sentence))


CASES: list[tuple[str, str, Sequence[Event], Sequence[Event]]] = [
    # code, subject, twice what is wrong in two sentences, what ends it
    (
        "bad-file",
        KEY,
        [
            Unusable(WWW, KEY, BlobDamaged(KEY, "one")),
            Unusable(WWW, KEY, WrongPassword(KEY, "two")),
        ],
        [Decoded(KEY, 0.1)],
    ),
    (
        "bad-file",
        KEY,
        [Unusable(WWW, KEY, BlobDamaged(KEY, "one")), Unusable(WWW, KEY, BlobDamaged(KEY, "two"))],
        [Fetched(KEY, 0.1, None)],
    ),
    (
        "wrong-name",
        KEY,
        [Unusable(WWW, KEY, WrongName(KEY, "one")), Unusable(WWW, KEY, WrongName(KEY, "two"))],
        [Fetched(KEY, 0.1, None)],
    ),
    (
        "file-denied",
        KEY,
        [failed(StoreDenied, "one"), failed(StoreDenied, "two")],
        [Fetched(KEY, 0.1, 1_000)],
    ),
    *(
        (code, URL, [failed(kind, "one"), failed(kind, "two")], [Fetched("other.pem", 0.1, 9)])
        for code, kind in (
            ("store-unreachable", StoreUnavailable),
            ("store-denied", StoreAuthenticationFailed),
            ("store-insecure", StoreInsecure),
        )
    ),
    (
        "changes-unseen",
        URL,
        [WatchFailed(StoreUnavailable(URL, "one")), WatchFailed(StoreUnavailable(URL, "two"))],
        [Watching()],
    ),
    *(
        (
            code,
            FOLDER,
            [Fault(code, FOLDER, "one"), Fault(code, FOLDER, "two")],
            [Fault(code, FOLDER, None)],
        )
        for code in (
            *("copies-unwritten", "copies-unread", "copies-foreign", "copies-elsewhere"),
            "copies-dropped",
        )
    ),
    *(
        (
            code,
            URL,
            [Weakness(code, URL, 1_000.0, "one"), Weakness(code, URL, 1_000.0, "two")],
            [WeaknessGone(code, URL)],
        )
        for code in ("account-can-write", "guest-access", "unencrypted-access")
    ),
    (
        "passwords-unread",
        URL,
        [Kept(WWW, SettingsError("one")), Kept(WWW, SettingsError("two"))],
        [Fetched(KEY, 0.1, None)],
    ),
]


@pytest.mark.parametrize(("code", "subject", "wrong", "right"), CASES)
def test_a_finding_comes_keeps_its_since_changes_its_sentence_and_goes(
    code: str, subject: str, wrong: Sequence[Event], right: Sequence[Event]
):
    findings = Findings(URL)
    for number, (event, word) in enumerate(zip(wrong, ("one", "two"), strict=True)):
        findings.note(event, 1_000.0 + number)
        (found,) = findings.now()
        assert (found.code, found.subject, found.since) == (code, subject, 1_000.0)
        assert word in found.sentence
    for event in right:
        findings.note(event, 1_002.0)
    assert findings.now() == ()
    findings.note(wrong[0], 1_003.0)
    assert [finding.since for finding in findings.now()] == [1_003.0], "it is a new one"


def test_a_file_is_either_bad_or_of_another_name():
    findings = Findings(URL)
    findings.note(Unusable(WWW, KEY, BlobDamaged(KEY, "bad")), 1.0)
    findings.note(Unusable(WWW, KEY, WrongName(KEY, "wrong")), 2.0)
    assert [finding.code for finding in findings.now()] == ["wrong-name"]
    findings.note(Unusable(WWW, KEY, BlobDamaged(KEY, "bad")), 3.0)
    assert [finding.code for finding in findings.now()] == ["bad-file"]


def test_a_store_is_in_one_state_only():
    findings = Findings(URL)
    for kind, code in (
        (StoreUnavailable, "store-unreachable"),
        (StoreAuthenticationFailed, "store-denied"),
        (StoreInsecure, "store-insecure"),
        (StoreDenied, "file-denied"),
    ):
        findings.note(failed(kind, "no"), 1.0)
        assert [finding.code for finding in findings.now()] == [code]


@pytest.mark.parametrize("code", ["copy-damaged", "copy-expired"])
def test_what_is_over_as_it_is_told_is_no_finding(code: str):
    findings = Findings(URL)
    findings.note(Fault(code, KEY, "gone"), 1.0)
    assert findings.now() == ()


def test_dates_and_what_they_hide():
    findings, now = Findings(URL), 1_000_000.0
    credential = decode(pem(WWW, days=30), key=KEY, passwords=())
    end = credential.not_after

    def codes(now: float, *, hides_wildcard: bool = False) -> dict[str, float]:
        findings.check(credential, now, hides_wildcard=hides_wildcard)
        return {finding.code: finding.since for finding in findings.now()}

    assert codes(end - 11 * DAY_S, hides_wildcard=True) == {}
    nine = end - 9 * DAY_S
    assert codes(nine) == {"expiring": nine}
    assert "expires in 9.0 days" in findings.now()[0].sentence
    eight = nine + DAY_S
    assert codes(eight, hides_wildcard=True) == {"expiring": nine, "hides-wildcard": eight}
    assert "expires in 8.0 days" in findings.now()[0].sentence
    assert codes(end + 1, hides_wildcard=True) == {"expired": end + 1, "hides-wildcard": eight}
    assert codes(end + 2) == {"expired": end + 1}
    findings.check(decode(pem(WWW, days=90), key=KEY, passwords=()), now, hides_wildcard=True)
    assert findings.now() == ()


def test_what_does_not_fit_is_counted():
    findings = Findings(URL)
    for number in range(MAX_FINDINGS + 5):
        findings.find("bad-file", f"n{number}.example.pem", "bad", 1.0)
    findings.find("bad-file", "n0.example.pem", "worse", 2.0)
    assert len(findings.now()) == MAX_FINDINGS
    assert findings.left_out == 5
    assert findings.now()[0].sentence == "worse"
    findings.clear("bad-file", "n0.example.pem")
    findings.find("bad-file", "late.example.pem", "bad", 3.0)
    assert "late.example.pem" in {finding.subject for finding in findings.now()}


# --- as the provider goes through it -------------------------------------------------


async def test_a_file_stays_wrong_while_another_answers_for_the_name(rig: Rig):
    """Guards: what a copy or another file answered cleared the finding of a bad one."""
    rig.files.put("www.contoso.example.pfx", pem("stranger.example"))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        assert [(one.code, one.subject) for one in provider.findings()] == [
            ("wrong-name", "www.contoso.example.pfx")
        ]
        rig.files.put("www.contoso.example.pfx", pem(WWW))
        await rig.until(Refreshed)
        assert provider.findings() == ()


async def test_an_expiry_is_found_while_the_store_is_away(rig: Rig):
    rig.files.put(KEY, pem(WWW, days=20))
    async with rig.provider() as provider:
        await provider.credential(WWW)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.clock.advance(15 * DAY_S)
        provider.known(WWW)
        await rig.until(Kept)
        assert "expiring" in {finding.code for finding in provider.findings()}


async def test_a_password_file_that_cannot_be_read_is_found(rig: Rig):
    broken = False

    def passwords() -> list[bytes]:
        if broken:
            raise SettingsError("/etc/centcert/key-password cannot be read: Permission denied.")
        return []

    rig.files.put(KEY, pem(WWW))
    async with rig.provider() as provider:
        provider._loader._passwords = passwords
        await provider.credential(WWW)
        broken = True
        assert (await provider.reload(WWW)).covers(WWW)
        (finding,) = provider.findings()
        assert (finding.code, finding.subject) == ("passwords-unread", rig.store.url)
        assert "/etc/centcert/key-password" in finding.sentence
        broken = False
        await provider.reload(WWW)
        assert provider.findings() == ()
