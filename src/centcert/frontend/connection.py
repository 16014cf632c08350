"""One client's connection: hello, look-up, handshake, relay, end.

A warm handshake runs through here without a task and without waiting: bytes in,
bytes out, from ``buffer_updated``. Only a name that is not in memory and the way to
the backend cost a task.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, cast

from centcert.errors import (
    Alert,
    CentcertError,
    HandshakeFailed,
    HelloRefused,
    NameRefused,
    UnknownName,
)
from centcert.frontend.addresses import TcpAddress
from centcert.frontend.events import (
    Accepted,
    BackendFailed,
    Closed,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.frontend.proxy_protocol import header
from centcert.frontend.relay import BackendConnection
from centcert.names import HostName
from centcert.tls.contexts import choose_alpn
from centcert.tls.hello import ClientHello, HelloReader, alert_record

if TYPE_CHECKING:
    from centcert.credential import Credential
    from centcert.frontend.frontend import FrontEnd
    from centcert.frontend.listener import Listener, Site
    from centcert.tls.session import Session

LINGER_S: Final = 2.0
"""How long a refused client may go on sending, so that its system does not throw the alert away
with a reset (nginx: lingering_close)."""


class Phase(Enum):
    """How far a connection has come."""

    HELLO = auto()
    LOOK_UP = auto()
    HANDSHAKE = auto()
    CONNECTING = auto()
    RELAY = auto()
    ENDING = auto()


class ClientConnection(asyncio.BufferedProtocol):
    """The client's side of a relayed connection.

    The front end makes it, the transport drives it, and ``BackendConnection`` calls
    ``send``, ``backend_ended`` and ``backend_lost``.
    """

    def __init__(self, front_end: FrontEnd, listener: Listener, number: int) -> None:
        self._front_end = front_end
        self._listener = listener
        self._number = number
        self._phase = Phase.HELLO
        self._reader = HelloReader()
        self._asked: str | None = None
        self._name: HostName
        self._site: Site
        self._alpn: bytes | None = None
        self._session: Session | None = None
        self._backend: BackendConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_active = 0.0

    # --- the transport's calls -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the ClientHello, for a bounded time."""
        self._transport = cast("asyncio.Transport", transport)
        front_end = self._front_end
        self.client = _address(self._transport.get_extra_info("peername"))
        self._timer = front_end.loop.call_later(front_end.limits.handshake_s, self._time_out)
        if not front_end.admit(self):
            self._phase = Phase.ENDING
            self._transport.abort()
        elif front_end.listener is not None:
            front_end.listener(Accepted(self._number, self.shown_client))

    @property
    def buffer(self) -> memoryview:
        """The buffer that all connections of the loop share.

        What is read into it is used up before ``buffer_updated`` returns.
        """
        return self._front_end.buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what the client sends."""
        del sizehint
        return self._front_end.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the client has sent."""
        data = self._front_end.buffer[:nbytes]
        try:
            if self._phase is Phase.RELAY:
                self._relay(data)
            elif self._phase is Phase.HELLO:
                self._read_hello(data)
            elif self._phase is Phase.HANDSHAKE:
                self._shake_hands(data)
        except CentcertError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """End the connection: a client with more to hear says close_notify (RFC 8446 §6.1)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._phase = Phase.ENDING
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._backend is not None:
            self._backend.client_lost()
        if self._front_end.dismiss(self) and self._front_end.listener is not None:
            self._front_end.listener(Closed(self._number))

    def pause_writing(self) -> None:
        """Let the backend wait: the client reads slower than the backend sends."""
        if self._backend is not None:
            self._backend.pause_reading()

    def resume_writing(self) -> None:
        """Let the backend go on."""
        if self._backend is not None:
            self._backend.resume_reading()

    # --- hello and look-up -----------------------------------------------------

    def _read_hello(self, data: memoryview) -> None:
        hello = self._reader.feed(data)
        if hello is None:
            return
        self._asked = hello.server_name
        self._name = self._name_to_answer(hello)
        self._site = self._listener.site_of(self._name)
        self._alpn = choose_alpn(hello.alpn, self._site.alpn)
        if self._front_end.listener is not None:
            size = len(self._reader.raw)
            self._front_end.listener(HelloRead(self._number, self._name, size))
        credential = self._front_end.provider.known(self._name)
        if credential is not None:
            self._answer(credential)
            return
        self._phase = Phase.LOOK_UP
        self._transport.pause_reading()
        self._task = self._front_end.wait_for(self._look_up())

    def _name_to_answer(self, hello: ClientHello) -> HostName:
        default = self._listener.default_name
        if hello.server_name is None:
            if default is None:
                # RFC 8446 §9.2: a server that needs the extension says so with this alert.
                raise HelloRefused(Alert.MISSING_EXTENSION, "The client sent no server name.")
            return default
        try:
            return HostName.parse(hello.server_name)
        except NameRefused:
            if default is None:
                raise
            return default

    async def _look_up(self) -> None:
        provider, default = self._front_end.provider, self._listener.default_name
        try:
            try:
                credential = await provider.credential(self._name)
            except UnknownName:
                if default is None:
                    raise
                self._name = default
                credential = await provider.credential(default)
            self._transport.resume_reading()
            self._answer(credential)
        except CentcertError as error:
            self._refuse(error)

    def _answer(self, credential: Credential) -> None:
        self._phase = Phase.HANDSHAKE
        self._session = self._front_end.contexts.session(credential, self._alpn)
        self._shake_hands(self._reader.raw)
        del self._reader

    # --- handshake -------------------------------------------------------------

    def _shake_hands(self, data: bytes | memoryview) -> None:
        session = self._tls
        session.receive(data)
        done = session.handshake()
        sent = self._flush()
        listener = self._front_end.listener
        if sent and not done and listener is not None:
            listener(ServerHelloSent(self._number, self._name, sent))
        if done:
            self._begin_relay(session)

    def _begin_relay(self, session: Session) -> None:
        self._phase = Phase.CONNECTING
        self._transport.pause_reading()
        self._task = self._front_end.spawn(self._connect(session.read()))
        if self._front_end.listener is not None:
            self._front_end.listener(
                HandshakeDone(
                    connection=self._number,
                    name=self._name,
                    key=self._front_end.provider.source(self._name),
                    version=session.version,
                    cipher=session.cipher,
                    group=session.group,
                    alpn=None if session.alpn is None else session.alpn.decode("latin-1"),
                )
            )

    async def _connect(self, early: bytes) -> None:
        """Reach the backend, then hand it ``early``: what the client has sent already."""
        front_end = self._front_end
        try:
            async with asyncio.timeout(front_end.limits.connect_s):
                backend = await self._site.backend.connect(lambda: BackendConnection(self))
        except TimeoutError:
            self.backend_lost(f"not reached within {front_end.limits.connect_s:g} s")
            return
        except OSError as error:
            self.backend_lost(error.strerror or str(error))
            return
        self._backend = backend
        self._phase = Phase.RELAY
        self.touch()
        self._timer.cancel()
        self._timer = front_end.loop.call_later(front_end.limits.idle_s, self._time_out)
        if self._site.proxy_protocol:
            backend.write(self._proxy_header())
        self._transport.resume_reading()
        self._pass_on(early)

    def _proxy_header(self) -> bytes:
        server = self._transport.get_extra_info("sockname")[:2]
        key = self._front_end.provider.source(self._name)
        return header(self.client, server, self._name, key, self._tls)

    # --- relay -----------------------------------------------------------------

    def touch(self) -> None:
        """Note that a byte has passed, in whichever direction."""
        self._last_active = self._front_end.loop.time()

    def _relay(self, data: memoryview) -> None:
        self.touch()
        session = self._tls
        session.receive(data)
        self._pass_on(session.read())
        self._flush()  # what TLS itself answers: a key update, a close_notify

    def _pass_on(self, plaintext: bytes) -> None:
        backend = self._backend
        if backend is None:
            return
        if plaintext:
            backend.write(plaintext)
        if self._tls.ended:
            backend.write_eof()
            if backend.ended:
                self._transport.close()

    def send(self, plaintext: memoryview) -> None:
        """Seal what the backend has sent and send it to the client."""
        if self._phase is not Phase.RELAY:
            return
        try:
            self._tls.write(plaintext)
        except CentcertError as error:
            self._refuse(error)
        self.touch()
        self._flush()

    def pause_reading(self) -> None:
        """Let the client wait: the backend reads slower than the client sends."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the client go on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def backend_ended(self) -> None:
        """Pass the backend's end on: close_notify, and the end of TCP's own stream."""
        if self._phase is not Phase.RELAY:
            return
        self._tls.close()
        self._flush()
        if self._tls.ended:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def backend_lost(self, reason: str | None) -> None:
        """End the connection: the backend is gone; ``reason`` if that was not in order.

        Without close_notify then, so that the client knows that something is missing.
        """
        if reason is not None and self._front_end.listener is not None:
            backend = str(self._site.backend)
            self._front_end.listener(BackendFailed(self._number, self._name, backend, reason))
        self._phase = Phase.ENDING
        self._transport.close()

    # --- ends ------------------------------------------------------------------

    def abort(self) -> None:
        """End the connection at once: its time is up."""
        self._transport.abort()

    def _refuse(self, error: CentcertError) -> None:
        """End a connection that TLS forbids to go on, with the alert that says why."""
        if self._phase in (Phase.HELLO, Phase.LOOK_UP, Phase.HANDSHAKE):
            self._tell_refused(error)
        if self._session is None:
            self._transport.write(alert_record(error.alert))
        else:
            self._flush()
        self._phase = Phase.ENDING
        self._timer.cancel()
        self._timer = self._front_end.loop.call_later(LINGER_S, self._transport.abort)
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _time_out(self) -> None:
        """End what takes too long; called when the handshake's or the idle time may be up."""
        loop, limits = self._front_end.loop, self._front_end.limits
        if self._phase is Phase.RELAY:
            idle_until = self._last_active + limits.idle_s
            if loop.time() < idle_until:
                self._timer = loop.call_at(idle_until, self._time_out)
                return
            self._tls.close()
            self._flush()
            self._transport.close()
            return
        if self._phase in (Phase.HELLO, Phase.LOOK_UP, Phase.HANDSHAKE):
            self._tell_refused(
                HandshakeFailed(f"The handshake took longer than {limits.handshake_s:g} s.")
            )
        self._transport.abort()

    def _tell_refused(self, error: CentcertError) -> None:
        if self._front_end.listener is not None:
            self._front_end.listener(
                HandshakeRefused(self._number, self.shown_client, self._asked, error)
            )

    @property
    def shown_client(self) -> str:
        """The client's address for people: ``192.0.2.7:51234``."""
        return str(TcpAddress(*self.client))

    @property
    def _tls(self) -> Session:
        assert self._session is not None  # noqa: S101  every phase after LOOK_UP has one
        return self._session

    def _flush(self) -> int:
        out = self._tls.outgoing()
        if out:
            self._transport.write(out)
        return len(out)


def _address(peername: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    return peername[0], peername[1]
