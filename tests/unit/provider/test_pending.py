"""What waits to be written: the last word counts, and no withdrawal is lost."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from centcert.credential import decode
from centcert.names import HostName
from centcert.provider.pending import Copy, Pending
from centcert.testing import Authority

CREDENTIAL = decode(Authority().issue("*.example").pem(), key="_.example.pem", passwords=())
NAMES = [HostName.parse(f"{label}.example") for label in "abcde"]
MOST = 2

Word: TypeAlias = "tuple[HostName, str | None]"


def words() -> st.SearchStrategy[list[Word]]:
    """What is noted, one after the other: a name and its version, or its withdrawal."""
    versions = st.one_of(st.none(), st.sampled_from(["v1", "v2"]))
    return st.lists(st.tuples(st.sampled_from(NAMES), versions), max_size=12)


def noted(words: list[Word]) -> Pending:
    pending = Pending()
    for name, version in words:
        if version is None:
            pending.withdraw(name, on_disk=True)
        else:
            pending.keep(name, Copy(version, CREDENTIAL))
    return pending


def told(pending: Pending) -> tuple[dict[HostName, str], set[HostName]]:
    return {name: copy.version for name, copy in pending.copies.items()}, {*pending.withdrawn}


@given(words(), words())
def test_put_back_it_is_as_if_all_had_been_noted_in_one(first: list[Word], second: list[Word]):
    since = noted(second)
    since.put_back(noted(first))
    assert told(since) == told(noted(first + second))


@given(words())
def test_only_the_oldest_copies_are_dropped(said: list[Word]):
    pending, whole = noted(said), noted(said)
    assert pending.drop_to(MOST) is (len(whole.copies) > MOST)
    assert list(pending.copies) == list(whole.copies)[-MOST:]
    assert pending.withdrawn == whole.withdrawn
    assert all(
        (name in pending) is (name in {*pending.copies, *pending.withdrawn}) for name in NAMES
    )


def test_what_is_not_on_the_disk_needs_no_withdrawal():
    pending = noted([(NAMES[0], "v1")])
    pending.withdraw(NAMES[0], on_disk=False)
    assert NAMES[0] not in pending
