"""What is found when a file or the store cannot be read, and what clears it."""

from __future__ import annotations

import pytest

from centcert.errors import FileBusy, StoreDenied, StoreError, StoreUnavailable
from centcert.provider.events import Event, Fetched, FetchFailed, Listed
from centcert.provider.findings import MAX_FINDINGS, Findings

KEY, OTHER = "www.contoso.example.pfx", "mail.contoso.example.pfx"
STORE = "memory:"


def found_after(*events: Event) -> set[tuple[str, str]]:
    findings = Findings(STORE)
    for event in events:
        findings.note(event, 0.0)
    return {(one.code, one.subject) for one in findings.now()}


def failed(kind: type[StoreError], key: str = KEY) -> FetchFailed:
    return FetchFailed(key, 0.1, kind(STORE, "It cannot be read."))


def test_a_file_that_is_held_is_no_fault_of_the_store():
    """Guards: it was told as an unreachable store."""
    assert found_after(failed(FileBusy)) == {("file-busy", KEY)}
    assert found_after(failed(StoreUnavailable), failed(FileBusy)) == {("file-busy", KEY)}


@pytest.mark.parametrize("size", [1000, None])
def test_the_next_fetch_of_a_file_that_was_held_clears_it(size: int | None):
    busy = [failed(FileBusy), failed(FileBusy, OTHER)]
    assert found_after(*busy, Fetched(KEY, 0.1, size)) == {("file-busy", OTHER)}
    assert found_after(*busy, Listed({OTHER})) == {("file-busy", OTHER)}


def test_of_a_file_that_cannot_be_read_only_the_latest_reason_is_found():
    assert found_after(failed(FileBusy), failed(StoreDenied)) == {("file-denied", KEY)}
    assert found_after(failed(StoreDenied), failed(FileBusy)) == {("file-busy", KEY)}
    both = {("file-busy", KEY), ("store-unreachable", STORE)}
    assert found_after(failed(FileBusy), failed(StoreUnavailable)) == both


def test_what_strangers_cause_leaves_room_for_what_is_wrong_with_the_node():
    """Guards: made-up names in a denied folder filled the list, and nothing else was found."""
    findings = Findings("memory:")
    for number in range(MAX_FINDINGS + 5):
        findings.find("file-denied", f"{number}.pfx", "denied", 0.0)
    assert len(findings.now()) == MAX_FINDINGS
    findings.find("copies-unwritten", "/state", "the disk is full", 0.0)
    assert findings.has("copies-unwritten", "/state")
