"""The link before there is a session: a dialogue, and nothing that was not asked for."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from centcert.smb3.core import Core
from centcert.smb3.errors import ConnectionLost, DeadlineMissed, ProtocolViolation
from centcert.smb3.link import Link
from centcert.smb3.wire import frame
from tests.smb3_peer import session

FRAME = frame(b"a" * 64)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def link(wire: Wire) -> Link:
    link = Link(asyncio.get_running_loop())
    link.connection_made(cast("asyncio.Transport", wire))
    return link


def hear(link: Link, data: bytes) -> None:
    link.get_buffer(-1)[: len(data)] = data
    link.buffer_updated(len(data))


async def test_a_request_is_answered_by_the_next_frame(link: Link, wire: Wire):
    asking = asyncio.create_task(link.converse(b"request"))
    await asyncio.sleep(0)
    assert wire.written == [b"request"]
    hear(link, FRAME[:10])
    hear(link, FRAME[10:])

    assert await asking == b"a" * 64


async def test_two_frames_at_once_are_more_than_was_asked_for(link: Link, wire: Wire):
    asking = asyncio.create_task(link.converse(b"request"))
    await asyncio.sleep(0)
    hear(link, FRAME * 2)

    assert isinstance(link.lost, ProtocolViolation)
    assert wire.aborted
    assert await asking == b"a" * 64  # and whatever follows fails
    with pytest.raises(ProtocolViolation):
        await link.converse(b"request")


@pytest.mark.parametrize("early", [FRAME, FRAME[:10]], ids=["a frame", "a begun frame"])
async def test_what_came_before_there_was_a_session_is_never_taken_for_its_own(
    link: Link, early: bytes
):
    hear(link, early)

    with pytest.raises(ProtocolViolation, match="more than it was asked for"):
        link.use(Core(session()))


async def test_a_server_that_hangs_up_lets_the_caller_down(link: Link):
    asking = asyncio.create_task(link.converse(b"request"))
    await asyncio.sleep(0)
    link.connection_lost(ConnectionResetError("reset by peer"))

    with pytest.raises(ConnectionLost, match="reset by peer"):
        await asking


async def test_the_first_reason_is_the_one_that_is_told(link: Link):
    reasons: list[ConnectionLost] = []
    link.when_ended(reasons.append)
    link.miss(0.5)
    link.connection_lost(None)
    await link.ended()
    await asyncio.sleep(0)

    assert [type(reason) for reason in reasons] == [DeadlineMissed]
    assert "0.5 s" in str(link.lost)
