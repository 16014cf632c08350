"""A watch over a link whose other end is in memory: what it asks, and in which order."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import cast

import pytest

from centcert.smb3.core import Core
from centcert.smb3.errors import ConnectionLost, StatusError
from centcert.smb3.link import Link
from centcert.smb3.replies import Action, FileChange
from centcert.smb3.watch import Watch
from centcert.smb3.wire import Command
from tests.smb3_peer import Asked, Peer, message, opened, session

PENDING, ENUM_DIR, NOT_IMPLEMENTED = 0x103, 0x10C, 0xC0000002


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Ends:
    link: Link
    wire: Wire
    peer: Peer

    async def asked(self) -> list[Asked]:
        """Let the tasks run, then take the requests they have sent."""
        for _ in range(5):
            await asyncio.sleep(0)
        written, self.wire.written = self.wire.written, b""
        return [request for frame in self.peer.take(written) for request in frame]

    async def say(self, packet: bytes) -> None:
        sealed = self.peer.seal(packet)
        self.link.get_buffer(-1)[: len(sealed)] = sealed
        self.link.buffer_updated(len(sealed))
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def ends() -> Ends:
    link, wire = Link(asyncio.get_running_loop()), Wire()
    link.connection_made(cast("asyncio.Transport", wire))
    link.use(Core(session()))
    return Ends(link, wire, Peer())


def changed(name: str) -> bytes:
    encoded = name.encode("utf-16-le")
    entry = struct.pack("<III", 0, Action.ADDED, len(encoded)) + encoded
    return struct.pack("<HHI", 9, 72, len(entry)) + entry


def pending(request: Asked) -> bytes:
    return message(request.command, request.message_id, status=PENDING, async_id=3, granted=5)


def final(request: Asked, body: bytes = bytes(8), status: int = 0) -> bytes:
    return message(request.command, request.message_id, body, status=status, async_id=3, granted=0)


async def begun(ends: Ends) -> tuple[Watch, Asked]:
    watch = Watch(ends.link, "")
    beginning = asyncio.create_task(watch.begin())
    (create,) = await ends.asked()
    await ends.say(message(create.command, create.message_id, opened(0)))
    (notify,) = await ends.asked()
    assert notify.command == Command.CHANGE_NOTIFY
    assert notify.body[8:24] == b"F" * 16
    assert not beginning.done()  # until the server says that it keeps record
    await ends.say(pending(notify))
    await beginning
    return watch, notify


async def test_the_next_watch_is_armed_before_changes_are_handed_out(ends: Ends):
    watch, notify = await begun(ends)
    step = asyncio.create_task(anext(watch))
    await ends.say(final(notify, changed("www.pfx")))

    (again,) = await ends.asked()

    assert again.command == Command.CHANGE_NOTIFY
    assert await step == (FileChange(Action.ADDED, "www.pfx"),)


async def test_lost_changes_are_handed_out_as_none_and_the_watch_goes_on(ends: Ends):
    watch, notify = await begun(ends)
    await ends.say(final(notify, status=ENUM_DIR))

    assert await anext(watch) is None
    (again,) = await ends.asked()
    await ends.say(final(again, changed("www.pfx")))
    assert await anext(watch) == (FileChange(Action.ADDED, "www.pfx"),)


async def test_a_watch_that_is_closed_is_cancelled_and_its_folder_closed(ends: Ends):
    watch, notify = await begun(ends)

    watch.close()

    cancel, close = await ends.asked()
    assert (cancel.command, cancel.message_id, cancel.async_id) == (
        Command.CANCEL,
        notify.message_id,
        3,
    )
    assert (close.command, close.body[8:24]) == (Command.CLOSE, b"F" * 16)
    await ends.say(final(notify, status=0xC0000120))
    assert ends.link.lost is None
    watch.close()
    assert await ends.asked() == []


async def test_a_watch_that_the_server_does_not_offer_says_so(ends: Ends):
    watch = Watch(ends.link, "")
    beginning = asyncio.create_task(watch.begin())
    (create,) = await ends.asked()
    await ends.say(message(create.command, create.message_id, opened(0)))
    (notify,) = await ends.asked()
    await ends.say(message(notify.command, notify.message_id, status=NOT_IMPLEMENTED))

    with pytest.raises(StatusError):
        await beginning


async def test_a_change_at_once_needs_no_interim_reply(ends: Ends):
    watch = Watch(ends.link, "")
    beginning = asyncio.create_task(watch.begin())
    (create,) = await ends.asked()
    await ends.say(message(create.command, create.message_id, opened(0)))
    (notify,) = await ends.asked()
    await ends.say(message(notify.command, notify.message_id, changed("www.pfx")))
    await beginning

    assert await anext(watch) == (FileChange(Action.ADDED, "www.pfx"),)


async def test_the_end_of_the_connection_is_the_end_of_the_watch(ends: Ends):
    watch, _ = await begun(ends)
    step = asyncio.create_task(anext(watch))
    await ends.asked()
    ends.link.connection_lost(None)

    with pytest.raises(ConnectionLost):
        await step
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_an_unsealed_frame_aborts_the_transport(ends: Ends):
    watch, notify = await begun(ends)
    step = asyncio.create_task(anext(watch))
    await ends.asked()
    plain = final(notify)
    frame = len(plain).to_bytes(4, "big") + plain
    ends.link.get_buffer(-1)[: len(frame)] = frame
    ends.link.buffer_updated(len(frame))

    with pytest.raises(ConnectionLost):
        await step
    assert ends.wire.aborted
