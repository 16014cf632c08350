"""Streams, acceptors and dials over real sockets, on uvloop and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import errno
import gc
import select
import socket
import weakref
from typing import TYPE_CHECKING, cast

import pytest

from centcert.frontend import streams
from centcert.frontend.dialling import Dial
from centcert.frontend.streams import HIGH_WATER_BYTES, Acceptor, Poller, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from centcert.frontend.addresses import SocketAddress

MUCH = bytes(range(256)) * 16_384  # 4 MiB: more than any socket takes at once
LOOPBACK = socket.AF_INET


class Noting(asyncio.BufferedProtocol):
    """Notes what a stream calls."""

    def __init__(self, *, stays: bool = False) -> None:
        self.calls: list[str] = []
        self.data = b""
        self.lost: list[Exception | None] = []
        self._stays = stays
        self._buffer = memoryview(bytearray(1 << 16))
        self._more = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._more.clear()
                await self._more.wait()

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._more.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.stream = cast("Stream", transport)
        self._note("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self._buffer[:nbytes]
        if self.data == b"fault":
            raise RuntimeError("a fault of the protocol")
        self._note("data")

    def eof_received(self) -> bool:
        self._note("eof")
        return self._stays

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._note("lost")


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def everything(theirs: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(20):
        while more := await loop.sock_recv(theirs, 1 << 20):
            data += more
    return data


async def test_what_does_not_fit_is_sent_later_and_the_writer_waits(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, theirs = ends
    protocol = Noting(stays=True)
    stream = Stream(poller, ours, protocol)
    stream.write(MUCH)
    stream.write(b"more")
    stream.write_eof()
    stream.write(b"too late")
    assert stream.get_write_buffer_size() == len(MUCH) + 4
    await protocol.until(lambda: protocol.calls == ["made", "pause"])
    assert await everything(theirs) == MUCH + b"more"
    await protocol.until(lambda: "resume" in protocol.calls)
    assert stream.get_write_buffer_size() == 0
    theirs.send(b"and back")
    await protocol.until(lambda: protocol.data == b"and back")
    assert not protocol.lost


async def test_one_that_pauses_as_it_is_made_waits_for_nothing(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    """Guards: what a dial had waited for was told for ever, to nobody: a whole core's work."""

    class Pausing(Noting):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.stream.pause_reading()

    class Dialled:
        def ready(self, mask: int) -> None:
            raise AssertionError(mask)

        def failed(self, error: Exception) -> None:
            raise error

    ours, theirs = ends
    poller.want(ours.fileno(), Dialled(), select.EPOLLOUT, 0)
    protocol = Pausing(stays=True)
    stream = Stream(poller, ours, protocol, interest=select.EPOLLOUT)
    assert poller._epoll.poll(0) == []
    theirs.send(b"data")
    stream.resume_reading()
    await protocol.until(lambda: protocol.data == b"data")


async def test_what_is_written_as_all_else_has_left_is_sent_too(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    class More(Noting):
        def buffer_updated(self, nbytes: int) -> None:
            del nbytes
            self.stream.write(b"-")
            self.stream.write(bytes(HIGH_WATER_BYTES))  # too much for now, yet sent at once

        def resume_writing(self) -> None:
            self.stream.write(b"more")
            self.stream.write_eof()

    ours, theirs = ends
    Stream(poller, ours, More(stays=True))
    theirs.send(b"ask")
    assert await everything(theirs) == b"-" + bytes(HIGH_WATER_BYTES) + b"more"


async def test_of_an_end_that_was_read_nothing_more_is_heard(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, theirs = ends
    protocol = Noting(stays=True)
    stream = Stream(poller, ours, protocol)
    theirs.shutdown(socket.SHUT_WR)
    await protocol.until(lambda: "eof" in protocol.calls)
    async with asyncio.timeout(20):
        while stream._interest:  # at the next turn it is seen not to be wanted
            await asyncio.sleep(0)
    assert protocol.calls == ["made", "eof"]
    stream.write(b"still there")
    stream.write_eof()
    assert await everything(theirs) == b"still there"


async def test_a_writer_of_small_pieces_waits_too(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, _ = ends
    protocol = Noting()
    stream = Stream(poller, ours, protocol)
    stream.write(MUCH[:1])
    written = 1
    while "pause" not in protocol.calls:
        assert written < len(MUCH)
        stream.write(MUCH[: 1 << 12])
        written += 1 << 12
        await asyncio.sleep(0)
    stream.abort()
    await protocol.until(lambda: bool(protocol.lost))


async def test_close_sends_what_is_left_and_abort_does_not(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, theirs = ends
    protocol = Noting()
    stream = Stream(poller, ours, protocol)
    stream.write(MUCH)
    stream.close()
    assert stream.is_closing()
    assert await everything(theirs) == MUCH
    await protocol.until(lambda: bool(protocol.lost))
    assert protocol.lost == [None]
    assert protocol.data == b""

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        protocol = Noting()
        stream = Stream(poller, ours, protocol)
        stream.write(MUCH)
        stream.abort()
        stream.abort()
        assert protocol.lost == []  # in the loop's next turn, never within a call
        await protocol.until(lambda: bool(protocol.lost))
        assert protocol.lost == [None]
        assert len(await everything(theirs)) < len(MUCH)


async def test_a_paused_stream_reads_nothing_until_it_goes_on(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, theirs = ends
    protocol = Noting()
    stream = Stream(poller, ours, protocol)
    stream.pause_reading()
    theirs.send(b"early")
    other_ours, other_theirs = socket.socketpair()
    with other_theirs:
        other = Noting()
        other_ours.setblocking(False)
        Stream(poller, other_ours, other)
        other_theirs.send(b"x")
        await other.until(lambda: other.data == b"x")  # the poller has looked at both
    assert protocol.data == b""
    stream.resume_reading()
    await protocol.until(lambda: protocol.data == b"early")


@pytest.mark.parametrize("stays", [True, False])
async def test_the_protocol_says_whether_writing_goes_on_after_the_other_end_has_ended(
    poller: Poller, ends: tuple[socket.socket, socket.socket], *, stays: bool
):
    ours, theirs = ends
    protocol = Noting(stays=stays)
    stream = Stream(poller, ours, protocol)
    theirs.shutdown(socket.SHUT_WR)
    await protocol.until(lambda: "eof" in protocol.calls)
    stream.resume_reading()  # there is nothing more to read, ever
    for _ in range(5):
        await asyncio.sleep(0)
    stream.write(b"answer")
    stream.close()
    assert await everything(theirs) == (b"answer" if stays else b"")
    assert protocol.calls.count("eof") == 1
    await protocol.until(lambda: bool(protocol.lost))


async def test_a_broken_connection_is_lost_with_its_reason(poller: Poller):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    protocol = Noting()
    Stream(poller, ours, protocol)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    await protocol.until(lambda: bool(protocol.lost))
    assert isinstance(protocol.lost[0], ConnectionResetError)


async def test_a_fault_ends_one_stream_and_is_told(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    told: list[dict[str, object]] = []
    poller.loop.set_exception_handler(lambda _, context: told.append(context))
    ours, theirs = ends
    protocol = Noting()
    Stream(poller, ours, protocol)
    theirs.send(b"fault")
    await protocol.until(lambda: bool(protocol.lost))
    assert isinstance(protocol.lost[0], RuntimeError)
    assert [context["exception"] for context in told] == protocol.lost


async def test_clients_are_accepted_again_once_the_system_has_descriptors_again(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "FULL_S", 0.01)
    told: list[dict[str, object]] = []
    poller.loop.set_exception_handler(lambda _, context: told.append(context))
    made: list[Noting] = []

    class Exhausted:
        """A listening socket whose system has no descriptor for the first client."""

        def __init__(self, listening: socket.socket) -> None:
            self._listening = listening
            self.fileno, self.getsockname = listening.fileno, listening.getsockname
            self.close = listening.close

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            if not told:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._listening.accept()

    def protocol() -> Noting:
        made.append(Noting())
        return made[-1]

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    acceptor = Acceptor(poller, cast("socket.socket", Exhausted(listening)), protocol)
    with socket.create_connection(acceptor.address) as theirs:
        async with asyncio.timeout(20):
            while not made:
                await asyncio.sleep(0.005)
        assert made[0].stream.peer == theirs.getsockname()
        made[0].stream.abort()
    assert len(told) == 1
    address = acceptor.address
    acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


class Caller:
    """Notes the outcome of a dial."""

    def __init__(self) -> None:
        self.outcomes: list[socket.socket | OSError] = []
        self.told = asyncio.Event()

    def reached(self, connected: socket.socket, interest: int) -> None:
        del interest
        self.outcomes.append(connected)
        self.told.set()

    def not_reached(self, error: OSError) -> None:
        self.outcomes.append(error)
        self.told.set()


def deaf() -> SocketAddress:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return LOOPBACK, bound.getsockname()


async def test_the_next_address_is_tried_until_one_accepts(poller: Poller):
    caller = Caller()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Dial(poller, [deaf(), deaf(), (LOOPBACK, listening.getsockname())], caller).begin()
        async with asyncio.timeout(20):
            await caller.told.wait()
    (connected,) = caller.outcomes
    assert isinstance(connected, socket.socket)
    assert not connected.getblocking()
    poller.forget(connected.fileno())
    connected.close()


async def test_the_last_reason_is_told_if_none_accepts(poller: Poller, tmp_path: Path):
    caller = Caller()
    missing: SocketAddress = (socket.AF_UNIX, str(tmp_path / "none"))
    Dial(poller, [missing, deaf()], caller).begin()
    async with asyncio.timeout(20):
        await caller.told.wait()
    (error,) = caller.outcomes
    assert isinstance(error, OSError)
    assert error.errno == errno.ECONNREFUSED
    caller = Caller()
    Dial(poller, [deaf(), missing], caller).begin()
    async with asyncio.timeout(20):
        await caller.told.wait()
    assert [getattr(one, "errno", None) for one in caller.outcomes] == [errno.ENOENT]


@pytest.fixture
def busy() -> Iterator[socket.socket]:
    """One that listens, and whom nobody reaches until it has accepted its first client."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        yield listening


async def test_who_gives_up_hears_nothing(poller: Poller, busy: socket.socket):
    caller, other = Caller(), Caller()
    dial = Dial(poller, [(LOOPBACK, busy.getsockname())], caller)
    dial.begin()
    dial.cancel()
    dial.cancel()
    Dial(poller, [(LOOPBACK, busy.getsockname())], other).begin()
    busy.accept()[0].close()
    async with asyncio.timeout(20):  # the system tries again after one second
        await other.told.wait()
    assert caller.outcomes == []
    (connected,) = other.outcomes
    assert isinstance(connected, socket.socket)
    assert connected.getpeername() == busy.getsockname()
    poller.forget(connected.fileno())
    connected.close()


async def test_one_that_refuses_late_is_passed_over(poller: Poller, busy: socket.socket):
    caller = Caller()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        addresses: list[SocketAddress] = [
            (LOOPBACK, one.getsockname()) for one in (busy, listening)
        ]
        Dial(poller, addresses, caller).begin()
        assert caller.outcomes == []
        busy.close()
        async with asyncio.timeout(20):
            await caller.told.wait()
        (connected,) = caller.outcomes
        assert isinstance(connected, socket.socket)
        assert connected.getpeername() == listening.getsockname()
    poller.forget(connected.fileno())
    connected.close()


async def test_an_ended_stream_is_no_work_for_the_collector(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
):
    ours, _ = ends
    gc.disable()
    try:
        ended = await _end_a_stream(poller, ours)
        assert ended() is None
    finally:
        gc.enable()


async def _end_a_stream(poller: Poller, ours: socket.socket) -> weakref.ref[Noting]:
    protocol = Noting()
    Stream(poller, ours, protocol).abort()
    await asyncio.sleep(0)
    assert protocol.lost == [None]
    return weakref.ref(protocol)
