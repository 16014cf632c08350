"""The front end: it listens, bounds, and lets connections finish."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final

from centcert.errors import Overloaded, SettingsError
from centcert.frontend.addresses import reason_of
from centcert.frontend.connection import ClientConnection
from centcert.frontend.events import Full
from centcert.frontend.listener import Limits
from centcert.tls.contexts import ServerContexts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from centcert.frontend.addresses import TcpAddress
    from centcert.frontend.events import Listener as EventListener
    from centcert.frontend.listener import Listener
    from centcert.provider import Provider

    _Work = Callable[[], Awaitable[None]]

READ_BYTES: Final = 64 * 1024
"""The most that is read from a socket at once: four full TLS records."""

BACKLOG: Final = 1024
"""Connections that the kernel holds while the loop is busy; it caps this at net.core.somaxconn."""


class _Door:
    """An open listener; what it offers can change while it stays open."""

    def __init__(self, front_end: FrontEnd, listener: Listener) -> None:
        self.listener = listener
        self._front_end = front_end
        self.server: asyncio.Server

    async def open(self) -> None:
        address = self.listener.address
        try:
            self.server = await self._front_end.loop.create_server(
                self._connection, address.host or None, address.port, backlog=BACKLOG
            )
        except OSError as error:
            raise SettingsError(f"Cannot listen on {address}: {reason_of(error)}.") from error

    def _connection(self) -> ClientConnection:
        return self._front_end.connection(self.listener)


class FrontEnd:
    """Listeners that answer TLS with credentials from a provider and relay to backends.

    Args:
        provider: what answers names; entered by the caller, who also leaves it.
        tasks: where the tasks of connections run.
        limits: what strangers may take.
        listener: is told each step; see ``centcert.frontend.events``.
    """

    def __init__(
        self,
        provider: Provider,
        tasks: asyncio.TaskGroup,
        *,
        limits: Limits | None = None,
        listener: EventListener | None = None,
    ) -> None:
        self.provider = provider
        self.limits = limits or Limits()
        self.listener = listener
        self.contexts = ServerContexts()
        self.loop = asyncio.get_running_loop()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._tasks = tasks
        self._doors: dict[TcpAddress, _Door] = {}
        self._connections: set[ClientConnection] = set()
        self.numbers = itertools.count(1)
        self._waiting = 0
        self._emptied = asyncio.Event()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every open socket, with the ports that the kernel chose."""
        return [
            socket.getsockname()[:2]
            for door in self._doors.values()
            for socket in door.server.sockets
        ]

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def listen(self, listeners: Sequence[Listener]) -> None:
        """Open, change and close listeners so that exactly ``listeners`` are open.

        A listener whose address stays is never closed, and connections go on with what
        they began with. If an address cannot be opened, nothing is changed.

        Raises:
            SettingsError: an address cannot be listened on.
        """
        wanted = {listener.address: listener for listener in listeners}
        opened: dict[TcpAddress, _Door] = {}
        try:
            for address, listener in wanted.items():
                if address not in self._doors:
                    door = _Door(self, listener)
                    await door.open()
                    opened[address] = door
        except BaseException:
            for door in opened.values():
                door.server.close()
            raise
        for address in self._doors.keys() - wanted.keys():
            self._doors.pop(address).server.close()
        self._doors |= opened
        for address, listener in wanted.items():
            self._doors[address].listener = listener

    async def close(self, grace_s: float) -> None:
        """Accept nobody any more; give connections ``grace_s`` seconds, then end the rest."""
        await self.listen([])
        try:
            async with asyncio.timeout(grace_s):
                await self._until_empty()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
            await self._until_empty()

    async def _until_empty(self) -> None:
        while self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    # --- what connections ask of their front end ---------------------------------

    def connection(self, listener: Listener) -> ClientConnection:
        """Make the protocol for the next client of ``listener``."""
        return ClientConnection(self, listener, next(self.numbers))

    def admit(self, connection: ClientConnection) -> bool:
        """Count a connection in, unless the front end is full."""
        if not self._doors:  # accepted just before the last one was closed
            return False
        if len(self._connections) >= self.limits.connections:
            if self.listener is not None:
                self.listener(Full(connection.shown_client))
            return False
        self._connections.add(connection)
        return True

    def dismiss(self, connection: ClientConnection) -> bool:
        """Count a connection out; say whether it was in."""
        if connection not in self._connections:
            return False
        self._connections.remove(connection)
        if not self._connections:
            self._emptied.set()
        return True

    def spawn(self, connection: ClientConnection, work: _Work) -> asyncio.Task[None]:
        """Run a connection's work in a task."""
        return self._tasks.create_task(self._contain(connection, work))

    def wait_for(self, connection: ClientConnection, look_up: _Work) -> asyncio.Task[None]:
        """Run a handshake's look-up in a task, unless too many wait already.

        Raises:
            Overloaded: they do.
        """
        if self._waiting >= self.limits.waiting:
            raise Overloaded(f"{self._waiting} handshakes wait for the store already.")
        self._waiting += 1
        task = self.spawn(connection, look_up)
        task.add_done_callback(self._waited)
        return task

    def _waited(self, task: asyncio.Task[None]) -> None:
        del task
        self._waiting -= 1

    async def _contain(self, connection: ClientConnection, work: _Work) -> None:
        """Let a fault of Centcert itself end one connection, never the node.

        The loop does the same for a fault in a protocol's method.
        """
        try:
            await work()
        except Exception as error:  # noqa: BLE001  the top of the task
            self.loop.call_exception_handler(
                {"message": "A connection has failed", "exception": error, "protocol": connection}
            )
            connection.abort()
