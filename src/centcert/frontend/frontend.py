"""The front end: it listens, bounds, and lets connections finish."""

from __future__ import annotations

import asyncio
import itertools
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Final

from centcert.audience import Audience
from centcert.errors import Overloaded, SettingsError
from centcert.frontend.addresses import reason_of
from centcert.frontend.connection import ClientConnection
from centcert.frontend.crowd import Crowd
from centcert.frontend.events import Full
from centcert.frontend.listener import Limits
from centcert.frontend.sockets import BACKLOG
from centcert.frontend.streams import Acceptor, Poller
from centcert.tls.contexts import ServerContexts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from socket import socket

    from centcert.frontend.addresses import TcpAddress
    from centcert.frontend.events import Listener as EventListener
    from centcert.frontend.listener import Listener
    from centcert.provider.answering import Answers

    _Work = Callable[[], Awaitable[None]]

READ_BYTES: Final = 64 * 1024
"""The most that is read from a socket at once: four full TLS records."""

SWEEP_S: Final = (0.05, 1.0)
"""How often it is looked whose deadline has passed: a quarter of the shortest limit, within these
bounds. For 20,000 connections that takes a millisecond, a timer of its own for each much more."""


class _Door:
    """An open listener; what it offers can change while it stays open."""

    def __init__(self, front_end: FrontEnd, listener: Listener) -> None:
        self.listener = listener
        self._front_end = front_end
        self._acceptors: list[Acceptor] = []

    def open(self, sockets: Sequence[socket]) -> None:
        """Accept clients from duplicates of ``sockets``."""
        try:
            for one in sockets:
                listening = one.dup()
                listening.listen(BACKLOG)
                listening.setblocking(False)
                # Accepted sockets inherit it: small answers leave at once.
                listening.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                self._acceptors.append(
                    Acceptor(self._front_end.poller, listening, self._connection)
                )
        except OSError as error:
            self.close()
            address = self.listener.address
            raise SettingsError(f"Cannot listen on {address}: {reason_of(error)}.") from error

    def close(self) -> None:
        """Accept nobody any more."""
        for acceptor in self._acceptors:
            acceptor.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every socket, but each once."""
        return list(dict.fromkeys(acceptor.address for acceptor in self._acceptors))

    def _connection(self) -> ClientConnection:
        return self._front_end.connection(self.listener)


class FrontEnd:
    """Listeners that answer TLS with credentials from a provider and relay to backends.

    Args:
        provider: what answers names; entered by the caller, who also leaves it.
        tasks: where the tasks of connections run.
        limits: what strangers may take.
        listener: is told each step; see ``centcert.frontend.events``. An ``Audience`` is told
            steps while somebody follows them.
        contexts: what TLS sessions begin on; made here unless other processes share them.
        inherited: bound sockets by the listener's address they are for: every one that is
            to be listened on, now or later. They stay the caller's to close.
    """

    def __init__(
        self,
        provider: Answers,
        tasks: asyncio.TaskGroup,
        *,
        limits: Limits | None = None,
        listener: EventListener | None = None,
        contexts: ServerContexts | None = None,
        inherited: Mapping[TcpAddress, Sequence[socket]],
    ) -> None:
        self.provider = provider
        self.limits = limits or Limits()
        self.audience = Audience.of(listener)
        self.counters = self.audience.counters
        self.contexts = contexts or ServerContexts()
        self._inherited = inherited
        self.loop = asyncio.get_running_loop()
        self.poller = Poller()
        self._sweeping: asyncio.TimerHandle | None = None
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._tasks = tasks
        self._doors: dict[TcpAddress, _Door] = {}
        self._connections: set[ClientConnection] = set()
        self.numbers = itertools.count(1)
        self.waiting = 0  # handshakes, for the store
        self.crowd = Crowd()  # with what applications serve
        self._closed = False
        self._emptied = asyncio.Event()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every open socket, with the ports that the kernel chose."""
        return [address for door in self._doors.values() for address in door.addresses]

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def listen(self, listeners: Sequence[Listener]) -> None:
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
                    door.open(self._inherited[address])
                    opened[address] = door
        except BaseException:
            for door in opened.values():
                door.close()
            raise
        for address in self._doors.keys() - wanted.keys():
            self._doors.pop(address).close()
        self._doors |= opened
        for address, listener in wanted.items():
            self._doors[address].listener = listener

    async def close(self, grace_s: float) -> None:
        """Accept nobody any more; give connections ``grace_s`` seconds, then end the rest."""
        self.listen([])
        try:
            async with asyncio.timeout(grace_s):
                await self._until_empty()
        except TimeoutError:
            self._closed = True
            for connection in tuple(self._connections):
                connection.abort()
            await self._until_empty()
        finally:
            if self._sweeping is not None:
                self._sweeping.cancel()
            self.poller.close()

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
        if self._closed:
            return False
        if self.crowd.connections >= self.limits.connections:
            self.counters.turned_away += 1
            self.audience(Full(connection.shown_client))
            return False
        self.counters.accepted += 1
        self._connections.add(connection)
        self.crowd.connections += 1
        if self._sweeping is None:
            self._sweep_later()
        return True

    def dismiss(self, connection: ClientConnection) -> bool:
        """Count a connection out; say whether it was in."""
        if connection not in self._connections:
            return False
        self._connections.remove(connection)
        self.crowd.connections -= 1
        if not self._connections:
            self._emptied.set()
        return True

    def _sweep_later(self) -> None:
        limits = self.limits
        shortest_s = min(limits.handshake_s, limits.connect_s, limits.idle_s)
        pause_s = min(max(shortest_s / 4, SWEEP_S[0]), SWEEP_S[1])
        self._sweeping = self.loop.call_later(pause_s, self._sweep)

    def _sweep(self) -> None:
        """End what has passed its deadline, now and again while there are connections."""
        now = self.loop.time()
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.time_out()
        self._sweeping = None
        if self._connections:
            self._sweep_later()

    def spawn(self, connection: ClientConnection, work: _Work) -> asyncio.Task[None]:
        """Run a connection's work in a task."""
        return self._tasks.create_task(self._contain(connection, work))

    def wait_for(self, connection: ClientConnection, look_up: _Work) -> asyncio.Task[None]:
        """Run a handshake's look-up in a task, unless too many wait already.

        Raises:
            Overloaded: they do.
        """
        if self.crowd.waiting >= self.limits.waiting:
            raise Overloaded(f"{self.crowd.waiting} handshakes wait for the store already.")
        self.waiting += 1
        self.crowd.waiting += 1
        task = self.spawn(connection, look_up)
        task.add_done_callback(self._waited)
        return task

    def _waited(self, task: asyncio.Task[None]) -> None:
        del task
        self.waiting -= 1
        self.crowd.waiting -= 1

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
