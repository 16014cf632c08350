"""The listeners of a node whose connections an application of this process serves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from centcert.asgi import Application
from centcert.errors import SettingsError
from centcert.frontend.addresses import reason_of
from centcert.frontend.crowd import Crowd
from centcert.frontend.server import ServerLimits, TlsServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping, Sequence
    from socket import socket

    from centcert.frontend.addresses import TcpAddress
    from centcert.frontend.events import Listener as EventListener
    from centcert.frontend.listener import AppListener, Limits
    from centcert.provider.answering import Answers
    from centcert.tls.contexts import ServerContexts


@dataclass(frozen=True, slots=True)
class _Door:
    tls: TlsServer
    servers: tuple[asyncio.Server, ...]

    def close(self) -> None:
        """Accept nobody any more."""
        for server in self.servers:
            server.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every socket, but each once."""
        sockets = [one for server in self.servers for one in server.sockets]
        return list(dict.fromkeys(one.getsockname()[:2] for one in sockets))


class Applications:
    """Applications and the listeners that lead to them; one of each name, however many lead there.

    Args:
        tasks: where applications end that are no longer wanted.
        numbers: the numbers of connections in events.
        listener: is told each step of a connection.
        contexts: as for ``FrontEnd``, like ``inherited``.
        crowd: who is counted, if others serve clients within the same limits.
        inherited: sockets that listen already.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        numbers: Iterator[int],
        listener: EventListener | None,
        *,
        contexts: ServerContexts | None = None,
        inherited: Mapping[TcpAddress, Sequence[socket]] | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        self._tasks = tasks
        self._crowd = crowd or Crowd()
        self._contexts = contexts
        self._inherited = {} if inherited is None else inherited
        self._numbers = numbers
        self._listener = listener
        self._running: dict[str, Application] = {}
        self._doors: dict[TcpAddress, _Door] = {}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every open socket, with the ports that the kernel chose."""
        return [address for door in self._doors.values() for address in door.addresses]

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return sum(door.tls.connections for door in self._doors.values())

    @property
    def waiting(self) -> int:
        """How many handshakes wait for the store."""
        return sum(door.tls.waiting for door in self._doors.values())

    async def start(self, names: Sequence[str], grace_s: float) -> None:
        """Start the applications of ``names`` that do not run yet, all or none.

        Raises:
            SettingsError: one cannot be started.
        """
        async with AsyncExitStack() as stack:
            started = {
                name: await stack.enter_async_context(Application(name, grace_s=grace_s))
                for name in dict.fromkeys(names)
                if name not in self._running
            }
            stack.pop_all()
        self._running |= started

    async def listen(
        self, listeners: Sequence[AppListener], provider: Answers, limits: Limits
    ) -> None:
        """Open, change and close listeners so that exactly ``listeners`` are open.

        Their applications have been started. If an address cannot be opened, nothing is
        changed. What no listener leads to any more may finish, and ends.

        Raises:
            SettingsError: an address cannot be listened on.
        """
        opened: dict[TcpAddress, _Door] = {}
        try:
            for listener in listeners:
                if listener.address not in self._doors:
                    opened[listener.address] = await self._open(listener, provider)
        except BaseException:
            for door in opened.values():
                door.close()
            raise
        for address in self._doors.keys() - {listener.address for listener in listeners}:
            self._doors.pop(address).close()
        self._doors |= opened
        for listener in listeners:
            tls, application = self._doors[listener.address].tls, self._running[listener.app]
            tls.protocol_factory = application.protocol
            tls.offer(application.alpn, listener.default_name, listener.policy)
            tls.provider = provider
            tls.limits = ServerLimits(
                connections=limits.connections,
                waiting=limits.waiting,
                handshake_s=limits.handshake_s,
            )
        for name in self._running.keys() - {listener.app for listener in listeners}:
            self._tasks.create_task(self._running.pop(name).__aexit__(None, None, None))

    def accept_nobody(self) -> None:
        """Close every listener; connections go on."""
        for door in self._doors.values():
            door.close()

    async def close(self) -> None:
        """Accept nobody any more, and end every application within its grace."""
        self.accept_nobody()
        async with AsyncExitStack() as stack:
            for application in self._running.values():
                stack.push_async_exit(application)
        self._running = {}
        self._doors = {}

    async def _open(self, listener: AppListener, provider: Answers) -> _Door:
        application, address = self._running[listener.app], listener.address
        tls = TlsServer(
            application.protocol,
            provider,
            listener=self._listener,
            numbers=self._numbers,
            contexts=self._contexts,
            crowd=self._crowd,
        )
        tls.offer(application.alpn, listener.default_name, listener.policy)
        inherited = self._inherited.get(address, ())
        try:
            if not inherited:
                return _Door(tls, (await tls.listen(address.host or None, address.port),))
            servers = [await tls.listen(None, None, sock=one.dup()) for one in inherited]
        except OSError as error:
            raise SettingsError(f"Cannot listen on {address}: {reason_of(error)}.") from error
        return _Door(tls, tuple(servers))
