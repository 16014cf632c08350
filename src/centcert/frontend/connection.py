"""One client's connection: hello, look-up, handshake, relay, end.

A warm handshake runs through here without a task, a timer or waiting: bytes in, bytes
out, from ``buffer_updated``. Only a name that is not in memory, and a backend whose
name has to be resolved, cost a task.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, cast

from centcert.errors import CentcertError, HandshakeFailed
from centcert.frontend.addresses import TcpAddress, reason_of
from centcert.frontend.dialling import Dial
from centcert.frontend.events import (
    Accepted,
    BackendFailed,
    Closed,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.frontend.handshake import Handshake
from centcert.frontend.proxy_protocol import header
from centcert.frontend.relay import BackendConnection, end_writing
from centcert.frontend.streams import Stream

if TYPE_CHECKING:
    from socket import socket

    from centcert.credential import Credential
    from centcert.frontend.addresses import SocketAddress
    from centcert.frontend.frontend import FrontEnd
    from centcert.frontend.listener import Listener
    from centcert.tls.session import Session

LINGER_S: Final = 2.0
"""How long a refused client may go on sending, so that its system does not throw the alert away
with a reset (nginx: lingering_close)."""

MAX_UNREAD_BYTES: Final = 1024 * 1024
"""What TLS itself may have to say to a client that does not listen. Data never come near it: the
backend waits at 64 KiB. Without it, a TLS 1.2 client that asks for renegotiation again and again,
each time to be told no, would fill the memory."""


MAX_EARLY_BYTES: Final = 16 * 1024
"""What a client may send before its backend is reached and it has to wait: a record, so that the
first request of most comes with no wait."""


class Phase(Enum):
    """How far a connection has come."""

    HELLO = auto()
    LOOK_UP = auto()
    HANDSHAKE = auto()
    CONNECTING = auto()
    RELAY = auto()
    ENDING = auto()
    LOST = auto()
    """The client is gone; the backend may still have to take what it had sent."""


_UNTIL_TLS_STANDS: Final = (Phase.HELLO, Phase.LOOK_UP, Phase.HANDSHAKE)


class ClientConnection(asyncio.BufferedProtocol):
    """The client's side of a relayed connection.

    The front end makes it, the transport drives it, and ``BackendConnection`` calls
    ``backend_made``, ``send``, ``backend_ended`` and ``backend_lost``. It counts as a
    connection until both sides are gone. In every phase there is a ``deadline``, by the
    loop's clock: the front end calls ``time_out`` soon after.
    """

    def __init__(self, front_end: FrontEnd, listener: Listener, number: int) -> None:
        self._front_end = front_end
        self._poller = front_end.poller
        self._buffer = front_end.buffer
        self._number = number
        self.deadline = 0.0
        self._phase = Phase.HELLO
        self._handshake = Handshake(front_end.contexts, listener)
        self._tls: Session  # from the phase HANDSHAKE on
        self._early = b""
        self._client_left = False  # before its backend was reached, without close_notify
        self._client_ended = False  # its side of TCP: nothing more will come from it
        self._backend: BackendConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._dial: Dial | None = None
        self._last_active = 0.0
        self._write_ended = False

    # --- the transport's calls -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the ClientHello, for a bounded time."""
        self._transport = cast("Stream", transport)
        host, port, *_ = self._transport.peer  # IPv6 brings two values more
        self.client: tuple[str, int] = (host, port)
        if not self._front_end.admit(self):
            self.abort()
            return
        self._end_after(self._front_end.limits.handshake_s)
        if (steps := self._front_end.audience.steps) is not None:
            steps(Accepted(self._number, self.shown_client))

    @property
    def buffer(self) -> memoryview:
        """The buffer that all connections of the loop share.

        What is read into it is used up before ``buffer_updated`` returns.
        """
        return self._buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what the client sends."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the client has sent."""
        data = self._buffer[:nbytes]
        try:
            if self._phase is Phase.RELAY:
                self._last_active = self._poller.now
                self._pass_on(self._tls.read(data))
                if answers := self._tls.outgoing():
                    self._answer_by_tls(answers)
            elif self._phase is Phase.HELLO:
                self._read_hello(data)
            elif self._phase is Phase.HANDSHAKE:
                self._go_on(self._handshake.go_on(data))
            elif self._phase is Phase.CONNECTING:
                self._keep(data)
        except CentcertError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """End the connection, unless the client has said close_notify and may hear on.

        Without it, a client has nothing more to hear (RFC 8446 §6.1).
        """
        self._client_ended = True
        if self._phase is Phase.RELAY and self._tls.ended:
            return True
        if self._phase is Phase.CONNECTING:
            self._client_left = not self._tls.ended
            return True
        self._count_if_abandoned()
        if self._phase is not Phase.ENDING:
            self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._count_if_abandoned()
        self._phase = Phase.LOST
        self._seek_no_more()
        if self._backend is None:
            self._over()
        else:
            self._end_after(self._front_end.limits.idle_s)
            self._backend.client_lost()

    def pause_writing(self) -> None:
        """Let the backend wait: the client reads slower than the backend sends."""
        if self._backend is not None:
            self._backend.pause_reading()

    def resume_writing(self) -> None:
        """Let the backend go on."""
        self.touch()  # a slow reader is not an idle one
        if self._backend is not None:
            self._backend.resume_reading()

    # --- hello and look-up -----------------------------------------------------

    def _read_hello(self, data: memoryview) -> None:
        handshake, front_end = self._handshake, self._front_end
        if not handshake.read_hello(data):
            return
        if (steps := front_end.audience.steps) is not None:
            steps(HelloRead(self._number, handshake.name, handshake.hello_bytes))
        credential = handshake.from_memory(front_end.provider)
        if credential is not None:
            self._answer(credential)
            return
        self._phase = Phase.LOOK_UP
        self._transport.pause_reading()
        self._task = front_end.wait_for(self, self._look_up)

    async def _look_up(self) -> None:
        try:
            credential = await self._handshake.look_up(lambda: self._front_end.provider)
            if self._phase is Phase.LOOK_UP:
                self._transport.resume_reading()
                self._answer(credential)
        except CentcertError as error:
            self._refuse(error)

    # --- handshake -------------------------------------------------------------

    def _answer(self, credential: Credential) -> None:
        self._phase = Phase.HANDSHAKE
        done = self._handshake.answer(credential)
        self._tls = self._handshake.session
        self._go_on(done)

    def _go_on(self, done: bool) -> None:  # noqa: FBT001
        sent = self._flush()
        steps = self._front_end.audience.steps
        if self._handshake.note_flight(sent) and steps is not None:
            steps(ServerHelloSent(self._number, self._handshake.name, sent))
        if done:
            self._seek_backend(self._tls)

    def _seek_backend(self, session: Session) -> None:
        self._phase = Phase.CONNECTING
        self._end_after(self._front_end.limits.connect_s)
        version = session.version
        self._front_end.counters.completed(version)
        if (steps := self._front_end.audience.steps) is not None:
            steps(
                HandshakeDone(
                    connection=self._number,
                    name=self._handshake.name,
                    key=self._front_end.provider.source(self._handshake.name),
                    version=version,
                    cipher=session.cipher,
                    group=session.group,
                    alpn=None if session.alpn is None else session.alpn.decode("latin-1"),
                )
            )
        self._early = session.read()  # what the client has sent already
        backend = self._handshake.site.backend
        if backend.numeric is None:
            self._task = self._front_end.spawn(self, self._resolve)
        else:
            self._dial_to([backend.numeric])

    async def _resolve(self) -> None:
        try:
            addresses = await self._handshake.site.backend.resolve()
        except OSError as error:
            self.not_reached(error)
        else:
            self._dial_to(addresses)

    def _dial_to(self, addresses: list[SocketAddress]) -> None:
        if self._phase is Phase.CONNECTING:
            self._dial = Dial(self._poller, addresses, self)
            self._dial.begin()

    def _keep(self, data: memoryview) -> None:
        """Keep what the client sends for the backend, and read no more if that is much."""
        self._early += self._tls.read(data)
        if answers := self._tls.outgoing():
            self._answer_by_tls(answers)
        if len(self._early) >= MAX_EARLY_BYTES:
            self._transport.pause_reading()

    def reached(self, connected: socket, interest: int) -> None:
        """Begin to relay: the backend has accepted."""
        self._dial = None
        Stream(self._poller, connected, BackendConnection(self), interest=interest)

    def not_reached(self, error: OSError) -> None:
        """End: the backend accepts nobody."""
        self._dial = None
        if self._phase is Phase.CONNECTING:
            self.backend_lost(reason_of(error))

    def _seek_no_more(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._dial is not None:
            self._dial.cancel()

    def backend_made(self, backend: BackendConnection) -> bool:
        """Begin to relay; say whether ``backend`` is still wanted.

        Called before the backend's first bytes, which may come in the same breath.
        """
        if self._phase is not Phase.CONNECTING or self._transport.is_closing():
            return False
        self._backend = backend
        self._phase = Phase.RELAY
        self.touch()
        self._end_after(self._front_end.limits.idle_s)
        if self._handshake.site.proxy_protocol:
            backend.write(self._proxy_header())
        if self._transport.is_choked:  # by what TLS itself has answered
            backend.pause_reading()
        self._transport.resume_reading()
        early, self._early = self._early, b""
        self._pass_on(early)
        if self._client_left:
            self._close()
        return True

    def _proxy_header(self) -> bytes:
        server = self._transport.name[:2]
        key = self._front_end.provider.source(self._handshake.name)
        return header(self.client, server, self._handshake.name, key, self._tls)

    # --- relay -----------------------------------------------------------------

    def touch(self) -> None:
        """Note that a byte has passed, in whichever direction."""
        self._last_active = self._poller.now

    def _answer_by_tls(self, answers: bytes) -> None:
        """Send what TLS itself answers: a key update, a refusal to renegotiate."""
        self._send(answers)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.abort()

    def _pass_on(self, plaintext: bytes) -> None:
        backend = self._backend
        if backend is None:
            return
        if plaintext:
            backend.write(plaintext)
        if self._tls.ended:
            backend.write_eof()
            if backend.ended:
                self._close()

    def send(self, plaintext: memoryview) -> None:
        """Seal what the backend has sent and send it to the client."""
        if self._phase is not Phase.RELAY:
            return
        self._last_active = self._poller.now
        try:
            self._tls.write(plaintext)
        except CentcertError as error:
            self._refuse(error)
        else:
            self._send(self._tls.outgoing())

    def pause_reading(self) -> None:
        """Let the client wait: the backend reads slower than the client sends."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the client go on."""
        self.touch()
        self._transport.resume_reading()

    def backend_ended(self) -> None:
        """Pass the backend's end on: close_notify, and the end of TCP's own stream."""
        if self._phase is not Phase.RELAY:
            return
        self._tls.close()
        self._flush()
        if self._tls.ended:
            self._close()
        else:
            self._write_eof()

    def backend_lost(self, reason: str | None) -> None:
        """End the connection: the backend is gone; ``reason`` if that was not in order.

        Without close_notify then, so that the client knows that something is missing.
        """
        self._backend = None
        if reason is not None:
            self._front_end.counters.backend_failures += 1
            backend = str(self._handshake.site.backend)
            self._front_end.audience(
                BackendFailed(self._number, self._handshake.name, backend, reason)
            )
        if self._phase is Phase.LOST:
            self._over()
        elif self._phase is not Phase.ENDING:
            self._linger(self._front_end.limits.idle_s)

    # --- ends ------------------------------------------------------------------

    def abort(self) -> None:
        """End the connection at once, on both sides."""
        if self._phase is not Phase.LOST:
            self._phase = Phase.ENDING
        self._transport.abort()
        if self._backend is not None:
            self._backend.abort()

    def _over(self) -> None:
        """Both sides are gone."""
        steps = self._front_end.audience.steps
        if self._front_end.dismiss(self) and steps is not None:
            steps(Closed(self._number))

    def _close(self) -> None:
        """End in order: what is on its way to the client still leaves, if it takes it."""
        self._phase = Phase.ENDING
        self._end_after(self._front_end.limits.idle_s)
        self._transport.close()

    def _refuse(self, error: CentcertError) -> None:
        """End a connection that TLS forbids to go on, with the alert that says why."""
        if self._phase in (Phase.ENDING, Phase.LOST):
            return
        if self._phase in _UNTIL_TLS_STANDS:
            self._tell_refused(error)
        self._send(self._handshake.refusal(error))
        self._linger(LINGER_S)

    def _linger(self, within_s: float) -> None:
        """Say no more, and throw away what the client still says, until it leaves.

        To close while it sends would reset the connection, and its system would throw
        away what it has not read yet: the alert, or the end of an answer.
        """
        if self._client_ended:  # it sends no more, and its leaving would not be noticed again
            self._close()
            return
        self._phase = Phase.ENDING
        self._end_after(within_s)
        self._transport.resume_reading()
        self._write_eof()

    def time_out(self) -> None:
        """End what takes too long; called once ``deadline`` has passed."""
        limits = self._front_end.limits
        if self._phase is Phase.RELAY:
            idle_s = self._front_end.loop.time() - self._last_active
            if idle_s < limits.idle_s:
                self._end_after(limits.idle_s - idle_s)
            elif self._transport.get_write_buffer_size():
                self.abort()  # close_notify would claim that this was all
            else:
                self._tls.close()
                self._flush()
                self._linger(LINGER_S)
        elif self._phase is Phase.CONNECTING:
            self._seek_no_more()
            self.backend_lost(f"not reached within {limits.connect_s:g} s")
        else:
            if self._phase in _UNTIL_TLS_STANDS:
                self._tell_refused(
                    HandshakeFailed(f"The handshake took longer than {limits.handshake_s:g} s.")
                )
            self.abort()

    def _end_after(self, seconds: float) -> None:
        """Set the connection's one deadline anew."""
        self.deadline = self._front_end.loop.time() + seconds

    def _tell_refused(self, error: CentcertError) -> None:
        self._front_end.counters.refused(error)
        self._front_end.audience(
            HandshakeRefused(self._number, self.shown_client, self._handshake.asked, error)
        )

    def _count_if_abandoned(self) -> None:
        """Count the client as gone before TLS stood, if that is so."""
        if self._phase in _UNTIL_TLS_STANDS:
            self._front_end.counters.abandoned += 1

    @property
    def shown_client(self) -> str:
        """The client's address for people: ``192.0.2.7:51234``."""
        return str(TcpAddress(*self.client))

    def _flush(self) -> int:
        out = self._tls.outgoing()
        self._send(out)
        return len(out)

    def _send(self, out: bytes) -> None:
        if out and not self._write_ended:
            self._transport.write(out)

    def _write_eof(self) -> None:
        self._write_ended = True
        end_writing(self._transport)
