"""Frames and headers: cuts, lengths, chains."""

from __future__ import annotations

import pytest

from centcert.smb3.errors import ProtocolViolation
from centcert.smb3.wire import MAX_FRAME_BYTES, Frames, frame, replies_in
from tests.smb3_peer import SESSION_ID, TREE_ID, chain, message

FIRST, SECOND = b"a" * 64, b"b" * 100_000


def fed(*pieces: bytes) -> list[bytes]:
    frames = Frames()
    return [bytes(whole) for piece in pieces for whole in frames.feed(piece)]


def test_frames_come_out_whole_whatever_the_cut():
    stream = frame(FIRST) + frame(SECOND) + frame(FIRST)
    whole = [FIRST, SECOND, FIRST]

    assert fed(stream) == whole
    assert fed(*(stream[i : i + 1] for i in range(len(stream)))) == whole
    for cut in (1, 3, 4, 67, 68, 69, 72, 73, 1_000, len(stream) - 1):
        assert fed(stream[:cut], stream[cut:]) == whole


def test_a_begun_frame_waits_for_its_rest():
    frames = Frames()
    assert frames.empty
    assert list(frames.feed(frame(FIRST)[:-1])) == []
    assert not frames.empty


def test_the_buffer_may_be_used_again_once_the_frames_are_taken():
    frames = Frames()
    buffer = bytearray(frame(FIRST)[:20])
    assert list(frames.feed(memoryview(buffer))) == []
    buffer[:] = bytes(20)

    assert [bytes(whole) for whole in frames.feed(frame(FIRST)[20:])] == [FIRST]


@pytest.mark.parametrize("length", [0, 63, MAX_FRAME_BYTES + 1, 0xFFFFFF, 0xFFFFFFFF])
def test_a_length_that_no_reply_has_is_refused_at_once(length: int):
    with pytest.raises(ProtocolViolation, match="announced"):
        fed(length.to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation, match="announced"):
        fed(*(bytes([byte]) for byte in length.to_bytes(4, "big")))


def test_the_largest_frame_is_accepted():
    whole = bytes(MAX_FRAME_BYTES)
    assert fed(frame(whole)) == [whole]


def test_a_reply_is_taken_apart():
    (reply,) = replies_in(message(5, 42, b"body", status=0xC0000034, granted=9))

    assert (reply.command, reply.message_id, reply.status) == (5, 42, 0xC0000034)
    assert (reply.credits, reply.tree_id, reply.session_id) == (9, TREE_ID, SESSION_ID)
    assert reply.packet[reply.start + 64 : reply.end] == b"body"


def test_an_asynchronous_reply_has_an_id_and_no_tree():
    (reply,) = replies_in(message(15, 42, async_id=0x1234567890))

    assert (reply.async_id, reply.tree_id) == (0x1234567890, 0)


def test_a_chain_is_taken_apart():
    replies = replies_in(chain(message(5, 1, b"one"), message(8, 2, b"two"), message(6, 3)))

    assert [reply.message_id for reply in replies] == [1, 2, 3]
    assert all(reply.start % 8 == 0 for reply in replies)


def edited(packet: bytes, position: int, value: bytes) -> bytes:
    return packet[:position] + value + packet[position + len(value) :]


GOOD = message(5, 1)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(GOOD[:63], id="short"),
        pytest.param(edited(GOOD, 0, b"\xffSMB"), id="SMB 1"),
        pytest.param(edited(GOOD, 0, b"\xfdSMB"), id="sealed"),
        pytest.param(edited(GOOD, 4, b"\x41"), id="structure size"),
        pytest.param(edited(GOOD, 16, b"\0"), id="a request"),
        pytest.param(edited(GOOD, 20, b"\x08"), id="chain into itself"),
        pytest.param(edited(GOOD, 20, b"\x40"), id="chain into a cut header"),
        pytest.param(edited(GOOD, 20, b"\xff\xff\xff\xff"), id="chain beyond the frame"),
        pytest.param(chain(message(5, 1), message(6, 2))[:-20], id="cut chain"),
        pytest.param(edited(GOOD, 20, b"\x49") + b"\0" + message(6, 2), id="odd chain"),
    ],
)
def test_what_is_no_reply_is_refused(packet: bytes):
    with pytest.raises(ProtocolViolation):
        replies_in(packet)
