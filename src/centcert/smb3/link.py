"""The asyncio side of a connection: a transport, the core behind it, and who waits for what."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from centcert.smb3.errors import ConnectionLost, DeadlineMissed, ProtocolViolation, SmbError
from centcert.smb3.wire import Frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from centcert.smb3.core import Core, Exchange
    from centcert.smb3.wire import Reply, Request

_RECEIVE_BYTES: Final = 256 * 1024


class Link(asyncio.BufferedProtocol):
    """One TCP connection: at first frame by frame, then for any number of tasks at once.

    Attributes:
        lost: why the connection is gone; ``None`` while it lives.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: ConnectionLost | None = None
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        # One buffer for the connection's life: no allocation for each read, and the
        # frames are opened straight out of it.
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._core: Core | None = None
        self._frames = Frames()
        self._unread: deque[bytes] = deque()  # frames of the handshake
        self._reader: asyncio.Future[None] | None = None
        # A waiter's result is why it was let down, or None. Not set as an exception:
        # one that nobody is left to retrieve would be logged as forgotten.
        self._waiters: dict[Exchange, asyncio.Future[ConnectionLost | None]] = {}
        self._acknowledged: dict[Exchange, asyncio.Future[ConnectionLost | None]] = {}
        self._ended: asyncio.Future[None] = loop.create_future()

    # --- the handshake: one frame at a time -----------------------------------

    async def converse(self, request: bytes) -> bytes:
        """Send a frame, if there is one to send, and wait for the next one to arrive.

        Raises:
            ConnectionLost: there is none to come.
        """
        if self.lost:
            raise _again(self.lost)
        if request:
            self._write(request)
        if not self._unread:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._unread:
            raise _again(self.lost or ConnectionLost("The server closed the connection."))
        return self._unread.popleft()

    def use(self, core: Core) -> None:
        """Leave all further bytes to ``core``.

        Raises:
            ProtocolViolation: bytes are here already that nobody has asked for.
        """
        if self._unread or not self._frames.empty:
            raise ProtocolViolation("The server sent more than it was asked for.")
        self._core = core

    # --- the session: many exchanges at once ----------------------------------

    async def exchange(self, compound: Sequence[Request]) -> list[Reply]:
        """Send requests in one frame and wait for the reply to each.

        A cancelled wait leaves the connection and its other users alone.

        Raises:
            ConnectionLost: the connection is gone.
            QueueFull: too many wait already.
        """
        exchange, answered = self.start(compound)
        try:
            lost = await answered
        except asyncio.CancelledError:
            self.forget(exchange)
            raise
        if lost:
            raise _again(lost)
        return exchange.replies

    def start(
        self, compound: Sequence[Request], *, lasting: bool = False
    ) -> tuple[Exchange, asyncio.Future[ConnectionLost | None]]:
        """Send requests in one frame; the future is done when they are answered.

        Its result says why they never will be.

        Raises:
            ConnectionLost: the connection is gone.
            QueueFull: too many wait already.
        """
        if self.lost:
            raise _again(self.lost)
        core = cast("Core", self._core)
        try:
            exchange = core.submit(compound, lasting=lasting)
        except ConnectionLost as error:
            self.abort(error)
            raise
        answered = self._waiters[exchange] = self._loop.create_future()
        self._flush(core)
        return exchange, answered

    async def acknowledged(self, exchange: Exchange) -> None:
        """Wait until the server has acknowledged the request or answered it.

        Raises:
            ConnectionLost: the connection is gone.
        """
        if exchange.pending or exchange.done:
            return
        if self.lost:
            raise _again(self.lost)
        waiter = self._acknowledged[exchange] = self._loop.create_future()
        try:
            lost = await waiter
        finally:
            self._acknowledged.pop(exchange, None)
        if lost:
            raise _again(lost)

    def send_and_forget(self, compound: Sequence[Request]) -> None:
        """Send requests whose answers nobody needs; nothing at all if that is impossible."""
        if self.lost:
            return
        try:
            exchange, _ = self.start(compound)
        except SmbError:
            return
        self.forget(exchange)

    def forget(self, exchange: Exchange, *, cancel: bool = False) -> None:
        """Wait no more for ``exchange``; with ``cancel``, ask the server to drop it."""
        self._waiters.pop(exchange, None)
        if self.lost or self._core is None:
            return
        try:
            if cancel:
                self._core.cancel(exchange)
            self._core.abandon(exchange)
            self._flush(self._core)
        except ConnectionLost as error:
            self.abort(error)

    # --- the end --------------------------------------------------------------

    def miss(self, timeout_s: float) -> None:
        """Abort, because an answer did not come in time: what comes later is worth nothing."""
        self.abort(DeadlineMissed(f"The server did not answer within {timeout_s:g} s."))

    def abort(self, reason: ConnectionLost) -> None:
        """Cut the connection at once and let all waiters down with ``reason``."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    async def close(self) -> None:
        """Close the connection once what was written is sent; waiters are let down."""
        if self._transport is not None:
            self._transport.close()
        self._end(ConnectionLost("The connection was closed by this side."))
        await self.ended()

    def when_ended(self, tell: Callable[[ConnectionLost], None]) -> None:
        """Have ``tell`` called with the reason, once the connection is gone."""
        self._ended.add_done_callback(lambda _: tell(cast("ConnectionLost", self.lost)))

    async def ended(self) -> None:
        """Wait until the transport is gone."""
        await asyncio.shield(self._ended)

    def _end(self, reason: ConnectionLost) -> None:
        if self.lost:
            return
        self.lost = reason
        waiters = [*self._waiters.values(), *self._acknowledged.values()]
        self._waiters.clear()
        self._acknowledged.clear()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(reason)
        self._wake_reader()

    # --- called by the event loop ---------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the loop's own wish
        """Lend the buffer: its content is used up whenever this is called."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes."""
        if self.lost:
            return
        try:
            if self._core is None:
                self._take_frames(nbytes)
            else:
                self._take_replies(self._core, nbytes)
        except ConnectionLost as error:
            self.abort(error)

    def eof_received(self) -> None:
        """Let the transport close: a server that says no more hears no more."""

    def connection_lost(self, error: Exception | None) -> None:
        """Let everybody down who still waits."""
        why = f": {error}." if error else "."
        self._end(ConnectionLost(f"The server closed the connection{why}"))
        if not self._ended.done():
            self._ended.set_result(None)

    def _take_frames(self, nbytes: int) -> None:
        for received in self._frames.feed(self._buffer[:nbytes]):
            # The handshake is a dialogue: at most one frame is on its way.
            if self._unread:
                raise ProtocolViolation("The server sent more than it was asked for.")
            self._unread.append(bytes(received))
        if self._unread:
            self._wake_reader()

    def _take_replies(self, core: Core, nbytes: int) -> None:
        for exchange in core.receive(self._buffer[:nbytes]):
            if exchange.done:
                waiter = self._waiters.pop(exchange, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            if self._acknowledged:
                acknowledged = self._acknowledged.pop(exchange, None)
                if acknowledged is not None and not acknowledged.done():
                    acknowledged.set_result(None)
        self._flush(core)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _flush(self, core: Core) -> None:
        data = core.outgoing()
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        # What can pile up here is bounded by the core: exchanges in flight.
        if self._transport is not None:
            self._transport.write(data)


def _again(reason: ConnectionLost) -> ConnectionLost:
    """Copy an error, so that each waiter raises its own with its own traceback."""
    return type(reason)(*reason.args)
