"""The core: which reply belongs to which request, what waits, and what ends it all."""

from __future__ import annotations

import struct

import pytest

from centcert.smb3 import requests
from centcert.smb3.core import Core, Exchange
from centcert.smb3.errors import ConnectionLost, ProtocolViolation, QueueFull, SecurityViolation
from centcert.smb3.wire import Command
from tests.smb3_peer import KEYS, SESSION_ID, Asked, Peer, chain, message, session

ECHO = (requests.echo(),)
FETCH = (requests.create("www.pfx", 0x81), requests.read(65_536), requests.close())
CREATE_BODY = struct.pack("<HBBIQQQQQQII16sII", 89, 0, 0, 1, *(0,) * 6, 0, 0, b"F" * 16, 0, 0)
PENDING = 0x103


def statuses(exchange: Exchange) -> list[int]:
    return [reply.status for reply in exchange.replies]


@pytest.fixture
def core() -> Core:
    return Core(session())


@pytest.fixture
def peer() -> Peer:
    return Peer()


def sent(core: Core, peer: Peer) -> list[list[Asked]]:
    return peer.take(core.outgoing())


def test_a_compound_is_one_frame_and_refers_to_one_file(core: Core, peer: Peer):
    core.use_tree(7)
    core.submit(FETCH)

    (compound,) = sent(core, peer)

    assert [request.command for request in compound] == [
        Command.CREATE,
        Command.READ,
        Command.CLOSE,
    ]
    assert [request.flags for request in compound] == [0, 4, 4]
    assert {request.tree_id for request in compound} == {7}
    assert compound[1].body[16:32] == compound[2].body[8:24] == b"\xff" * 16
    assert core.outgoing() == b""


def test_an_exchange_is_done_when_each_request_is_answered(core: Core, peer: Peer):
    exchange = core.submit(FETCH)
    (compound,) = sent(core, peer)

    first, second, third = (peer.answer([request]) for request in compound)
    assert core.receive(third) == []
    assert core.receive(first) == []
    assert not exchange.done
    assert core.receive(second) == [exchange]
    assert [reply.command for reply in exchange.replies] == [5, 8, 6]
    assert core.idle


def test_replies_find_their_exchange_in_any_order_and_any_cut(core: Core, peer: Peer):
    exchanges = [core.submit(ECHO) for _ in range(10)]
    frames = sent(core, peer)
    stream = b"".join(
        peer.answer(frame, status=number) for number, frame in reversed(list(enumerate(frames)))
    )

    done = [found for byte in stream for found in core.receive(bytes([byte]))]

    assert done == exchanges[::-1]
    assert [statuses(exchange) for exchange in exchanges] == [[number] for number in range(10)]


def test_no_more_is_sent_than_credits_allow_and_the_rest_goes_in_order(peer: Peer):
    core = Core(session(granted=5))
    for compound in (FETCH, FETCH, ECHO):
        core.submit(compound)

    (first,) = sent(core, peer)
    assert len(first) == 3
    # Two credits are left, but the echo does not overtake the fetch that waits for three.
    core.receive(peer.answer(first[:1], granted=0))
    assert core.outgoing() == b""
    core.receive(peer.answer(first[1:2], granted=1))
    (second,) = sent(core, peer)
    assert len(second) == 3
    assert core.outgoing() == b""
    core.receive(peer.answer(second, granted=10))
    (third,) = sent(core, peer)
    assert third[0].command == Command.ECHO


def test_no_more_is_in_flight_than_the_cap(peer: Peer):
    core = Core(session(), max_in_flight=2)
    for _ in range(3):
        core.submit(ECHO)

    flying = sent(core, peer)
    assert len(flying) == 2
    core.receive(peer.answer(flying[0]))
    assert len(sent(core, peer)) == 1


def test_a_lasting_exchange_does_not_count_as_in_flight(peer: Peer):
    core = Core(session(), max_in_flight=1)
    core.submit(ECHO, lasting=True)
    core.submit(ECHO)
    core.submit(ECHO, lasting=True)

    assert len(sent(core, peer)) == 3


def test_beyond_the_queue_a_call_fails_at_once(peer: Peer):
    core = Core(session(), max_in_flight=1, max_queued=2)
    for _ in range(3):
        core.submit(ECHO)

    with pytest.raises(QueueFull):
        core.submit(ECHO)
    (flying,) = sent(core, peer)
    core.receive(peer.answer(flying))
    core.submit(ECHO)


def test_a_request_beyond_all_credits_fails_at_once(core: Core):
    with pytest.raises(QueueFull):
        core.submit((requests.read(64 * 1024 * 1024),))


def test_a_purse_too_small_is_filled_by_an_echo(peer: Peer):
    core = Core(session(granted=2))
    exchange = core.submit(FETCH)

    ((echo,),) = sent(core, peer)
    assert echo.command == Command.ECHO
    assert core.receive(peer.answer([echo], granted=2)) == []
    (compound,) = sent(core, peer)
    assert len(compound) == 3
    assert core.receive(peer.answer(compound)) == [exchange]


def test_a_server_that_never_fills_the_purse_is_left(peer: Peer):
    core = Core(session(granted=2))
    core.submit(FETCH)

    with pytest.raises(ConnectionLost, match="too few credits"):  # noqa: PT012  some rounds
        for _ in range(10):
            (echo,) = sent(core, peer)
            core.receive(peer.answer(echo, granted=1))


def test_an_interim_reply_acknowledges_and_the_final_one_answers(core: Core, peer: Peer):
    exchange = core.submit(ECHO, lasting=True)
    ((request,),) = sent(core, peer)
    interim = message(request.command, request.message_id, status=PENDING, async_id=99)
    final = message(request.command, request.message_id, async_id=99, granted=0)

    assert core.receive(peer.seal(interim)) == [exchange]
    assert exchange.pending
    assert not exchange.done
    assert core.receive(peer.seal(interim)) == []
    assert core.receive(peer.seal(final)) == [exchange]
    assert exchange.done


def test_a_cancel_names_the_request_and_takes_no_id(core: Core):
    peer = Peer()
    exchange = core.submit(ECHO, lasting=True)
    ((request,),) = sent(core, peer)
    core.receive(
        peer.seal(message(request.command, request.message_id, status=PENDING, async_id=99 << 32))
    )

    core.cancel(exchange)

    ((cancel,),) = sent(core, peer)
    assert (cancel.command, cancel.charge) == (Command.CANCEL, 0)
    assert (cancel.message_id, cancel.async_id) == (request.message_id, 99 << 32)


def test_a_cancel_of_what_is_done_or_not_sent_says_nothing(peer: Peer):
    core = Core(session(), max_in_flight=1)
    first, second = core.submit(ECHO), core.submit(ECHO)
    (flying,) = sent(core, peer)

    core.cancel(second)
    assert core.outgoing() == b""
    core.receive(peer.answer(flying))
    sent(core, peer)
    core.cancel(first)
    assert core.outgoing() == b""


def test_an_abandoned_exchange_is_answered_and_forgotten(core: Core, peer: Peer):
    exchange = core.submit(ECHO)
    (request,) = sent(core, peer)

    core.abandon(exchange)

    assert core.receive(peer.answer(request)) == []
    assert core.idle


def test_an_abandoned_exchange_that_was_not_sent_never_is(peer: Peer):
    core = Core(session(), max_in_flight=1)
    core.submit(ECHO)
    waiting = core.submit(FETCH)
    (flying,) = sent(core, peer)

    core.abandon(waiting)

    core.receive(peer.answer(flying))
    assert core.outgoing() == b""
    assert core.idle


@pytest.mark.parametrize("late", [True, False], ids=["after the answer", "before the answer"])
def test_a_file_that_an_abandoned_exchange_opened_is_closed(core: Core, peer: Peer, *, late: bool):
    exchange = core.submit(FETCH[:1])
    ((request,),) = sent(core, peer)
    opened = peer.seal(message(request.command, request.message_id, CREATE_BODY))
    if late:
        assert core.receive(opened) == [exchange]
        core.abandon(exchange)
        core.submit(ECHO)
    else:
        core.abandon(exchange)
        assert core.receive(opened) == []

    ((close,), *_) = sent(core, peer)
    assert close.command == Command.CLOSE
    assert close.body[8:24] == b"F" * 16


def test_an_abandoned_fetch_closes_nothing_twice(core: Core, peer: Peer):
    exchange = core.submit(FETCH)
    (compound,) = sent(core, peer)
    core.abandon(exchange)
    first, *others = (message(r.command, r.message_id) for r in compound)
    core.receive(peer.seal(chain(first[:64] + CREATE_BODY, *others)))

    assert core.outgoing() == b""


# --- what ends the connection -------------------------------------------------------


@pytest.fixture
def asked(core: Core, peer: Peer) -> Asked:
    core.submit(ECHO)
    ((request,),) = sent(core, peer)
    return request


def test_a_reply_to_nothing_is_refused(core: Core, peer: Peer, asked: Asked):
    with pytest.raises(ProtocolViolation, match="not made"):
        core.receive(peer.seal(message(asked.command, asked.message_id + 1)))


def test_a_reply_that_comes_twice_is_refused(core: Core, peer: Peer, asked: Asked):
    sealed = peer.answer([asked])
    core.receive(sealed)
    core.submit(ECHO)

    with pytest.raises(ProtocolViolation, match="not made"):
        core.receive(sealed)


def test_a_reply_of_another_command_is_refused(core: Core, peer: Peer, asked: Asked):
    with pytest.raises(ProtocolViolation, match="fit"):
        core.receive(peer.seal(message(Command.READ, asked.message_id)))


def test_a_reply_of_another_session_is_refused(core: Core, peer: Peer, asked: Asked):
    wrong = message(asked.command, asked.message_id, session_id=SESSION_ID + 1)
    with pytest.raises(ProtocolViolation, match="fit"):
        core.receive(peer.seal(wrong))


def test_an_unsealed_reply_is_refused_whatever_it_says(core: Core, asked: Asked):
    plain = message(asked.command, asked.message_id, status=0xC0000203)
    with pytest.raises(SecurityViolation, match="not encrypted"):
        core.receive(len(plain).to_bytes(4, "big") + plain)


def test_a_request_of_its_own_sent_back_is_refused(core: Core):
    core.submit(ECHO)

    with pytest.raises(SecurityViolation):
        core.receive(core.outgoing())


def test_an_oplock_break_is_refused(core: Core, peer: Peer):
    with pytest.raises(ProtocolViolation):
        core.receive(peer.seal(message(0x12, 0xFFFFFFFFFFFFFFFF, bytes(24))))


def test_keys_of_the_two_directions_are_not_mixed_up():
    assert KEYS.client_to_server != KEYS.server_to_client
