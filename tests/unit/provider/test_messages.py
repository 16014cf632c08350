"""Framing and errors of the talk between workers and their provider process."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centcert.credential import decode
from centcert.errors import (
    BlobDamaged,
    CentcertError,
    Closing,
    CredentialExpired,
    Overloaded,
    SettingsError,
    StoreBusy,
    StoreDisabled,
    StoreUnavailable,
    UnknownName,
    WrongName,
)
from centcert.provider.messages import (
    MAX_MESSAGE_BYTES,
    Ask,
    Frames,
    FromProvider,
    FromWorker,
    Used,
    digest_of,
    encode,
    error_of,
    refusal,
)
from centcert.provider.policy import DEFAULT_POLICY
from tests.unit.provider.conftest import AUTHORITY

MESSAGES: list[FromWorker] = [
    Used(("a.example", "b.example")),
    Ask(7, "a.example", DEFAULT_POLICY, None),
    Used(()),
]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_out_whole_however_they_are_cut(cuts: list[int]):
    stream = b"".join(map(encode, MESSAGES)) + encode(MESSAGES[0])[:-1]
    frames, read = Frames(), []
    at, turn = 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        read += list(frames.feed(stream[at : at + size]))
        at, turn = at + size, turn + 1
    assert [msgspec.msgpack.decode(one, type=FromWorker) for one in read] == MESSAGES
    assert len(list(frames.feed(encode(MESSAGES[0])[-1:]))) == 1


def test_a_message_without_end_is_refused_by_its_length():
    with pytest.raises(ValueError, match=str(MAX_MESSAGE_BYTES + 1)):
        list(Frames().feed((MAX_MESSAGE_BYTES + 1).to_bytes(4)))


@pytest.mark.parametrize(
    "error",
    [
        UnknownName("a.example"),
        CredentialExpired("a.example", "a.example.pfx"),
        WrongName("a.example.pfx", "it is another's"),
        BlobDamaged("a.example.pfx", "it is no file"),
        StoreUnavailable("smb://a/b", "It is away."),
        StoreBusy("smb://a/b", "It is busy."),
        StoreDisabled("smb://a/b"),
        Overloaded("Too much."),
        SettingsError("No password."),
        Closing(),
        CentcertError("Something."),
    ],
    ids=lambda error: error.code,
)
def test_an_error_is_the_same_at_the_other_end(error: CentcertError):
    sent = msgspec.msgpack.decode(encode(refusal(3, error))[4:], type=FromProvider)
    assert sent == refusal(3, error)
    received = error_of(refusal(3, error))
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert received.alert == error.alert
    assert vars(received) == vars(error)


def test_the_digest_is_that_of_the_file_not_of_the_object():
    issued, other = AUTHORITY.issue("a.example"), AUTHORITY.issue("a.example")
    one, again = (decode(issued.pfx(), key="a.example.pfx", passwords=()) for _ in range(2))
    moved = decode(issued.pfx(), key="_.example.pfx", passwords=())
    renewed = decode(other.pfx(), key="a.example.pfx", passwords=())
    assert digest_of(one) == digest_of(again)
    assert len({digest_of(one), digest_of(moved), digest_of(renewed)}) == 3
