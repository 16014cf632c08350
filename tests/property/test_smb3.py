"""Whatever a server sends, however it is cut: declared errors, and nothing is used twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from centcert.smb3 import requests
from centcert.smb3.core import Core, Exchange
from centcert.smb3.errors import (
    InvalidPath,
    ProtocolViolation,
    QueueFull,
    SecurityViolation,
    SmbError,
)
from centcert.smb3.requests import encode_path
from centcert.smb3.sealing import Opener, Sealer
from centcert.smb3.wire import Frames, frame, replies_in
from tests.fuzz.smb3 import GOOD, WAYS, exercise
from tests.smb3_peer import Asked, Peer, chain, message, session

KEY = bytes(range(16))
SESSION_ID = 5
FETCH = (requests.create("www.pfx", 0x81), requests.read(65_536), requests.close())


@given(st.binary(max_size=600))
def test_any_bytes_give_only_declared_errors(garbage: bytes):
    for way in range(len(WAYS)):
        exercise(bytes([way]) + garbage)


@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
@settings(max_examples=400)
def test_any_edit_of_good_bytes_gives_only_declared_errors(
    good: bytes, edits: list[tuple[int, int]], cut: int
):
    edited = bytearray(good)
    for position, value in edits:
        edited[position % len(edited)] = value
    for way in range(len(WAYS)):
        exercise(bytes([way]) + edited[: cut or None])


def test_every_way_in_is_told_to_raise_when_it_does():
    # else the two above would be content with anything
    assert len(WAYS) == len({way.__name__ for way in WAYS})
    with pytest.raises(ProtocolViolation):
        WAYS[0](b"\xff" * 100)


@given(st.lists(st.binary(min_size=64, max_size=300), max_size=5), st.data())
def test_any_cut_of_a_stream_gives_the_same_frames(frames: list[bytes], draw: st.DataObject):
    stream = b"".join(map(frame, frames))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = Frames()

    found = [
        bytes(whole)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for whole in reader.feed(stream[start:end])
    ]

    assert found == frames
    assert reader.empty


@given(st.binary(min_size=64, max_size=300), st.integers(min_value=0))
def test_any_flipped_bit_of_a_sealed_frame_is_a_security_violation(content: bytes, bit: int):
    sealed = bytearray(Sealer(KEY, SESSION_ID).seal(content)[4:])
    opener = Opener(KEY, SESSION_ID)
    assert opener.open(sealed) == content
    bit %= len(sealed) * 8
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SecurityViolation):
        opener.open(sealed)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=6))
def test_any_chain_is_taken_apart_as_it_was_put_together(bodies: list[bytes]):
    packet = chain(*(message(8, number, body) for number, body in enumerate(bodies)))

    replies = replies_in(packet)

    assert [reply.message_id for reply in replies] == list(range(len(bodies)))
    for reply, body in zip(replies, bodies, strict=True):
        assert packet[reply.start + 64 : reply.end].startswith(body)


@given(st.text(max_size=300))
def test_a_path_that_is_accepted_stays_in_the_share(path: str):
    try:
        encoded = encode_path(path)
    except InvalidPath:
        return
    assert encoded.decode("utf-16-le") == path
    parts = path.split("\\")
    assert all(part and part not in {".", ".."} for part in parts)
    assert not set(path) & set('/:*?"<>|\0')


class Conversation(RuleBasedStateMachine):
    """Requests and replies in any order, with a server that grants what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(session(granted=5), max_in_flight=6, max_queued=10)
        self.peer = Peer()  # it checks that no nonce and no message id comes twice
        self.open: list[list[Asked]] = []
        self.waiting: dict[Exchange, int] = {}
        self.dropped: set[Exchange] = set()

    def carry(self) -> None:
        self.open += self.peer.take(self.core.outgoing())

    @rule(fetch=st.booleans(), lasting=st.booleans())
    def submit(self, fetch: bool, lasting: bool) -> None:  # noqa: FBT001
        compound = FETCH if fetch else (requests.echo(),)
        try:
            exchange = self.core.submit(compound, lasting=lasting)
        except QueueFull:
            return
        self.waiting[exchange] = len(compound)
        self.carry()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(min_value=0), extra=st.integers(0, 3), status=st.sampled_from([0, 1]))
    def answer(self, which: int, extra: int, status: int) -> None:
        compound = self.open.pop(which % len(self.open))
        granted = [request.charge + extra for request in compound]
        packet = chain(
            *(
                message(request.command, request.message_id, status=status, granted=grant)
                for request, grant in zip(compound, granted, strict=True)
            )
        )
        for exchange in self.core.receive(self.peer.seal(packet)):
            assert exchange.done
            assert len(exchange.replies) == self.waiting.pop(exchange)
            assert exchange not in self.dropped
        self.carry()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(min_value=0))
    def acknowledge(self, which: int) -> None:
        request = self.open[which % len(self.open)][-1]
        interim = message(request.command, request.message_id, status=0x103, async_id=1, granted=1)
        for exchange in self.core.receive(self.peer.seal(interim)):
            assert exchange.pending
            assert not exchange.done
        self.carry()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(min_value=0))
    def abandon(self, which: int) -> None:
        exchange = list(self.waiting)[which % len(self.waiting)]
        del self.waiting[exchange]
        self.dropped.add(exchange)
        self.core.abandon(exchange)

    @invariant()
    def no_credit_is_spent_that_is_not_held(self) -> None:
        assert self.core._credits.available >= 0
        assert self.core._in_flight >= 0

    def teardown(self) -> None:
        """Answer everything that comes: nobody is left waiting."""
        for _ in range(1_000):
            if not self.open:
                break
            self.answer(which=0, extra=3, status=0)
        assert not self.waiting
        assert self.core.idle


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.integers(0, 3), st.binary(max_size=40))
def test_only_declared_errors_are_smb_errors(kind: int, garbage: bytes):
    core = Core(session())
    prefix = [b"", b"\xfeSMB", b"\xfdSMB", b"\xffSMB"][kind]
    with pytest.raises(SmbError):
        core.receive(frame(prefix + garbage + bytes(64)))
