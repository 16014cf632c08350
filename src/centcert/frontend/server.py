"""TLS from a central store for any asyncio protocol: the counterpart of ``create_server``."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, cast

from centcert.audience import Audience
from centcert.errors import CentcertError, HandshakeFailed, Overloaded
from centcert.frontend.addresses import TcpAddress
from centcert.frontend.crowd import Crowd
from centcert.frontend.events import (
    Accepted,
    Closed,
    Full,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.frontend.handshake import Handshake
from centcert.frontend.relay import end_writing
from centcert.frontend.tls_object import TlsObject
from centcert.frontend.transport import LINGER_S, TlsTransport
from centcert.provider.policy import DEFAULT_POLICY, Policy
from centcert.tls.contexts import ServerContexts

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from centcert.credential import Credential
    from centcert.frontend.events import Listener
    from centcert.names import HostName
    from centcert.provider import Provider
    from centcert.provider.answering import Answers

READ_BYTES: Final = 64 * 1024
"""The most that is read from a socket at once: four full TLS records."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What strangers may take of a server. Times are in seconds.

    Attributes:
        connections: clients connected at once; one more is closed at once.
        waiting: handshakes that wait for the store at once; one more is refused.
        handshake_s: from accepting a client until TLS stands.
        shutdown_s: what is written may take so long to leave after ``close``.
    """

    connections: int = 20_000
    waiting: int = 2_000
    handshake_s: float = 10.0
    shutdown_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Terms:
    alpn: tuple[bytes, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class _Sites:
    """One site under every name."""

    site: _Terms
    default_name: HostName | None

    def site_of(self, name: HostName) -> _Terms:
        del name
        return self.site


class SocketOptions(TypedDict, total=False):
    """What ``start_server`` passes to ``loop.create_server`` unchanged; see there."""

    sock: socket.socket
    family: int
    flags: int
    backlog: int
    reuse_address: bool
    reuse_port: bool
    start_serving: bool


async def start_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    provider: Provider,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    alpn: Sequence[str] = (),
    default_name: HostName | None = None,
    limits: ServerLimits | None = None,
    listener: Listener | None = None,
    **options: Unpack[SocketOptions],
) -> asyncio.Server:
    """Serve protocols over TLS; each client gets the credential of the name it asks for.

    The counterpart of ``loop.create_server(…, ssl=context)``. A protocol is made when
    TLS stands, so that a refused client never meets one; its transport is a
    ``TlsTransport``. A name that is in memory is answered without a task and without
    waiting; while the store is asked for another, all other connections go on.

    Args:
        protocol_factory: makes a ``Protocol`` or ``BufferedProtocol`` for each client.
        provider: what answers names; entered, and left after the server is closed.
        host: as for ``loop.create_server``; ``None``: every address of the machine.
        port: 0 lets the system choose.
        alpn: the protocols that are spoken, most wanted first; none: ALPN is not
            answered. A client that offers only others is refused (RFC 7301 §3.2).
        default_name: whose certificate a client gets that sends no host name, or one the
            store has no file for; ``None``: it is refused.
        limits: what strangers may take.
        listener: is told each step; see ``centcert.frontend.events``.
        **options: for ``loop.create_server``.

    Returns:
        The loop's own server. Closing it leaves the connections alone.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = TlsServer(protocol_factory, provider, limits=limits, listener=listener)
    server.offer(alpn, default_name)
    return await server.listen(host, port, **options)


class TlsServer:
    """What the connections of one server share. ``start_server`` is the usual way to one.

    ``provider``, ``limits`` and ``protocol_factory`` can be replaced for clients to come.
    """

    def __init__(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        provider: Answers,
        *,
        limits: ServerLimits | None = None,
        listener: Listener | None = None,
        numbers: Iterator[int] | None = None,
        contexts: ServerContexts | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """Serve nobody yet: see ``listen``.

        Args:
            protocol_factory: as for ``start_server``, like most arguments.
            provider: is asked for credentials.
            limits: what strangers may take.
            listener: is told each step, or news only; see ``FrontEnd``.
            numbers: the numbers of connections in events, if others count as well.
            contexts: what TLS sessions begin on, if others begin theirs on it as well.
            crowd: who is counted, if ``limits`` are for others as well.
        """
        self.provider = provider
        self.limits = limits or ServerLimits()
        self.protocol_factory = protocol_factory
        self.contexts = contexts or ServerContexts()
        self.loop = asyncio.get_running_loop()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.numbers = numbers or itertools.count(1)
        self.connections = 0
        self.waiting = 0
        self.crowd = crowd or Crowd()
        self._sites = _Sites(_Terms((), DEFAULT_POLICY), None)
        self.audience = Audience.of(listener)
        self.counters = self.audience.counters

    def offer(
        self,
        alpn: Sequence[str],
        default_name: HostName | None,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        """Set what clients to come are offered, and what a name without a good answer gets."""
        protocols = tuple(protocol.encode("ascii") for protocol in alpn)
        self._sites = _Sites(_Terms(protocols, policy), default_name)

    async def listen(
        self,
        host: str | Sequence[str] | None,
        port: int | None,
        **options: Unpack[SocketOptions],
    ) -> asyncio.Server:
        """Open sockets; several may be open at once. See ``start_server``."""
        options.setdefault("backlog", 1024)
        create_server = cast(
            "Callable[..., asyncio.Future[asyncio.Server]]", self.loop.create_server
        )
        return await create_server(lambda: _Connection(self), host, port, **options)

    def handshake(self) -> Handshake[_Terms]:
        """Begin a client's handshake."""
        return Handshake(self.contexts, self._sites)


class _Connection(asyncio.BufferedProtocol):
    """What the loop's transport drives: the handshake, then the client's ``TlsTransport``.

    A timer ends a handshake that takes too long. One protocol for both: loops stop and
    begin reading anew for another one.
    """

    def __init__(self, server: TlsServer) -> None:
        self._server = server
        self._number = next(server.numbers)
        self._handshake = server.handshake()
        self._raw: asyncio.Transport
        self._peer: object = None
        self._credential: Credential | None = None
        self._transport: TlsTransport | None = None  # once TLS stands
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._counted = False
        self._ending = False

    # --- the loop's transport calls ---------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the ClientHello, for a bounded time."""
        self._raw = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer is None:  # it has reset the connection before it was accepted
            self._abort()
            return
        server = self._server
        self._peer = peer
        if server.crowd.connections >= server.limits.connections:
            server.counters.turned_away += 1
            server.audience(Full(self._shown_client))
            self._abort()
            return
        self._counted = True
        server.connections += 1
        server.crowd.connections += 1
        server.counters.accepted += 1
        self._timer = server.loop.call_later(server.limits.handshake_s, self._time_out)
        if (steps := server.audience.steps) is not None:
            steps(Accepted(self._number, self._shown_client))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all connections share."""
        del sizehint
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the client has sent."""
        data = self._server.buffer[:nbytes]
        if self._transport is not None:
            self._transport.received(data)
            return
        if self._ending:
            return
        try:
            if self._credential is None:
                self._read_hello(data)
            else:
                self._go_on(self._handshake.go_on(data))
        except CentcertError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """End with the client: nobody leaves a handshake half open."""
        return self._transport is not None and self._transport.ended()

    def pause_writing(self) -> None:
        """Tell the protocol."""
        if self._transport is not None:
            self._transport.full()

    def resume_writing(self) -> None:
        """Tell the protocol."""
        if self._transport is not None:
            self._transport.empty()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        if self._transport is not None:
            self._transport.lost(exc)
            self._transport = None  # it refers back: no cycle for the collector
            return
        if self._counted and not self._ending:
            self._server.counters.abandoned += 1
        self._ending = True
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        if self._counted:
            self._closed()

    # --- until TLS stands ---------------------------------------------------------

    def _read_hello(self, data: memoryview) -> None:
        handshake, server = self._handshake, self._server
        if not handshake.read_hello(data):
            return
        if (steps := server.audience.steps) is not None:
            steps(HelloRead(self._number, handshake.name, handshake.hello_bytes))
        credential = handshake.from_memory(server.provider)
        if credential is not None:
            self._answer(credential)
            return
        if server.crowd.waiting >= server.limits.waiting:
            raise Overloaded(f"{server.crowd.waiting} handshakes wait for the store already.")
        self._raw.pause_reading()
        server.waiting += 1
        server.crowd.waiting += 1
        # The connection owns the task: it ends it when it ends.
        self._task = server.loop.create_task(self._look_up())
        self._task.add_done_callback(self._waited)

    async def _look_up(self) -> None:
        server = self._server
        try:
            credential = await self._handshake.look_up(lambda: server.provider)
            self._task = None
            self._raw.resume_reading()
            self._answer(credential)
        except CentcertError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001  the top of the task
            server.loop.call_exception_handler(
                {"message": "A connection has failed", "exception": error, "transport": self._raw}
            )
            self._raw.abort()

    def _waited(self, task: asyncio.Task[None]) -> None:
        del task
        self._server.waiting -= 1
        self._server.crowd.waiting -= 1

    def _answer(self, credential: Credential) -> None:
        self._credential = credential
        self._go_on(self._handshake.answer(credential))

    def _go_on(self, done: bool) -> None:  # noqa: FBT001
        if done:
            self._hand_over()
            return
        out = self._handshake.session.outgoing()
        if out:
            self._raw.write(out)
        steps = self._server.audience.steps
        if self._handshake.note_flight(len(out)) and steps is not None:
            steps(ServerHelloSent(self._number, self._handshake.name, len(out)))

    def _hand_over(self) -> None:
        assert self._credential is not None  # noqa: S101  TLS stands
        self._stop_timer()
        server, name, session = self._server, self._handshake.name, self._handshake.session
        version = session.version
        server.counters.completed(version)
        if (steps := server.audience.steps) is not None:
            steps(
                HandshakeDone(
                    connection=self._number,
                    name=name,
                    key=self._credential.key,
                    version=version,
                    cipher=session.cipher,
                    group=session.group,
                    alpn=None if session.alpn is None else session.alpn.decode("latin-1"),
                )
            )
        protocol = server.protocol_factory()  # if that fails, it is still a client without one
        self._transport = TlsTransport(
            self._raw,
            TlsObject(server.contexts, session, self._credential, name),
            session,
            shutdown_s=server.limits.shutdown_s,
        )
        self._transport.start(protocol, self._closed)

    # --- ends -----------------------------------------------------------------------

    def _refuse(self, error: CentcertError) -> None:
        """End with the alert that says why; wait for the client to take it."""
        if self._ending:
            return
        self._ending = True
        self._tell_refused(error)
        out = self._handshake.refusal(error)
        if out:
            self._raw.write(out)
        self._stop_timer()
        self._timer = self._server.loop.call_later(LINGER_S, self._raw.abort)
        self._raw.resume_reading()  # to throw it away
        end_writing(self._raw)

    def _time_out(self) -> None:
        within_s = self._server.limits.handshake_s
        self._tell_refused(HandshakeFailed(f"The handshake took longer than {within_s:g} s."))
        self._abort()

    def _abort(self) -> None:
        self._ending = True
        self._raw.abort()

    def _tell_refused(self, error: CentcertError) -> None:
        asked = self._handshake.asked
        self._server.counters.refused(error)
        self._server.audience(HandshakeRefused(self._number, self._shown_client, asked, error))

    @property
    def _shown_client(self) -> str:
        """The client's address for people."""
        peer = self._peer
        return str(TcpAddress(*peer[:2])) if isinstance(peer, tuple) else "a local socket"

    def _closed(self) -> None:
        self._server.connections -= 1
        self._server.crowd.connections -= 1
        if (steps := self._server.audience.steps) is not None:
            steps(Closed(self._number))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
