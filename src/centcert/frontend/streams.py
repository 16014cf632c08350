"""Sockets on the shortest way through the event loop: one epoll(7) instance inside it.

A transport of asyncio's costs three times the system calls that it makes. A ``Stream`` is
one for a ``BufferedProtocol`` with just what a relay needs: its methods mean what those of
``asyncio.Transport`` mean. Interest in reading is given up lazily, when something arrives
that is not wanted yet: a pause that ends before costs no system call.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EVENTS_AT_ONCE: Final = 64
ROUNDS: Final = 4
"""How many sockets are served, and how often what has become ready meanwhile, before the loop's
timers and other callbacks have their turn: a turn of the loop costs what serving a socket does."""

ACCEPTED_AT_ONCE: Final = 16
"""Clients that are accepted before those that are connected have their turn."""

FULL_S: Final = 1.0
"""How long nobody is accepted after the system has run out of descriptors or memory."""

HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
"""Between them the protocol is paused, as asyncio's own defaults are."""

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class Polled(Protocol):
    """What a poller calls."""

    def ready(self, mask: int) -> None:
        """Look at the socket: ``mask`` is a hint and may be about its predecessor."""

    def failed(self, error: Exception) -> None:
        """End: ``ready`` has raised an exception that nobody foresaw."""


class Poller:
    """Tells its sockets when they are ready, on the event loop it was made in.

    What streams write while several are served is sent once all are: sent one by one, each
    would wake its receiver anew, which costs the sender more than all the rest of it.

    Attributes:
        now: the loop's time when the sockets that are served had become ready.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._polled: dict[int, Polled] = {}
        self._unsent: list[Stream] = []
        self._lost: list[tuple[Callable[[Exception | None], None], Exception | None]] = []
        self._serving = False
        self.now = self.loop.time()
        self.loop.add_reader(self._epoll.fileno(), self._poll)

    def close(self) -> None:
        """Tell nobody any more."""
        if not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def want(self, descriptor: int, polled: Polled, mask: int, held: int) -> None:
        """Change what is waited for from ``held`` to ``mask``; 0 is nothing, not even an end."""
        if not mask:
            self._epoll.unregister(descriptor)
            del self._polled[descriptor]
            return
        if held:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
        self._polled[descriptor] = polled

    def forget(self, descriptor: int) -> None:
        """Tell nothing more of a socket that is about to be closed, by its only descriptor.

        The system then forgets it too (epoll(7)), which costs no call.
        """
        self._polled.pop(descriptor, None)

    def report(self, message: str, error: Exception) -> None:
        """Tell the loop's exception handler of an exception that nobody foresaw."""
        self.loop.call_exception_handler({"message": message, "exception": error})

    def send_soon(self, stream: Stream) -> None:
        """Have ``stream`` send once those that are served now have been."""
        self._unsent.append(stream)
        if not self._serving and len(self._unsent) == 1:
            self.loop.call_soon(self._send)

    def tell_soon(self, lost: Callable[[Exception | None], None], error: Exception | None) -> None:
        """Call ``lost`` with ``error``, but not from within this call."""
        if self._serving:
            self._lost.append((lost, error))
        else:
            self.loop.call_soon(lost, error)

    def _poll(self) -> None:
        for _ in range(ROUNDS):
            ready = self._epoll.poll(0, EVENTS_AT_ONCE)
            if not ready:
                return
            self.now = self.loop.time()
            self._serving = True
            try:
                self._serve(ready)
                while self._unsent:  # who is told to write on may do so at once
                    self._send()
            finally:
                self._serving = False
            if self._lost:
                self._tell()
            if self._epoll.closed:  # by one who was told
                return

    def _serve(self, ready: Iterable[tuple[int, int]]) -> None:
        for descriptor, mask in ready:
            polled = self._polled.get(descriptor)
            if polled is None:  # closed by one that was served before it
                continue
            try:
                polled.ready(mask)
            except Exception as error:  # noqa: BLE001  the top of a callback: one ends, not all
                polled.failed(error)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        for stream in unsent:
            try:
                stream.send()
            except Exception as error:  # noqa: BLE001  as above
                stream.failed(error)

    def _tell(self) -> None:
        lost, self._lost = self._lost, []
        for call, error in lost:
            try:
                call(error)
            except Exception as failure:  # noqa: BLE001  as above
                self.report("The end of a connection has failed", failure)


class Stream(asyncio.Transport):
    """A connected socket that drives a ``BufferedProtocol``. Takes the socket over.

    The protocol is asked once for its buffer, which has to serve for every reading.
    """

    def __init__(
        self,
        poller: Poller,
        connected: socket.socket,
        protocol: asyncio.BufferedProtocol,
        peer: tuple[Any, ...] = (),
        *,
        interest: int = 0,
    ) -> None:
        """Tell the protocol that the connection is made, and begin to read.

        Args:
            poller: whose loop it belongs to.
            connected: non-blocking.
            protocol: what is to be driven.
            peer: the other end's address, if it is known.
            interest: what the poller waits for already on behalf of a predecessor.
        """
        self._poller = poller
        self._socket = connected
        self._descriptor = connected.fileno()
        self._protocol = protocol
        self._buffer = protocol.get_buffer(-1)
        self.peer = peer
        self._interest = interest
        self._reading = True
        self._read_all = False  # the other end has said all
        self._out: bytes | bytearray = b""
        self._choked = False
        self._ends_writing = False
        self._closing = False
        self._gone = False
        protocol.connection_made(self)
        if not self._closing:
            self._want(_IN if self._reading else 0)

    # --- the protocol's calls --------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return ``peername``, ``sockname`` or ``socket``, as asyncio's transports do."""
        if name == "peername":
            return self.peer
        if name == "sockname":
            return self.name
        return self._socket if name == "socket" else default

    @property
    def name(self) -> tuple[Any, ...]:
        """This end's address."""
        return tuple(self._socket.getsockname())

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""
        return self._closing

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read on."""
        if self._reading or self._read_all or self._closing:
            return
        self._reading = True
        self._want(self._interest | _IN)

    @property
    def is_choked(self) -> bool:
        """Whether the protocol is to write no more for now."""
        return self._choked

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the system has not taken yet."""
        return len(self._out)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` soon."""
        if self._closing or self._ends_writing or not data:
            return
        if not self._out:
            self._out = bytes(data)  # no copy of what is bytes
            self._poller.send_soon(self)
            return
        if isinstance(self._out, bytes):
            self._out = bytearray(self._out)
        self._out += data
        self._choke_if_much()

    def write_eof(self) -> None:
        """End writing, after what is still to be sent.

        Raises:
            OSError: the connection is broken.
        """
        if self._closing or self._ends_writing:
            return
        self._ends_writing = True
        if not self._out:
            self._socket.shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Read no more, and end after what is still to be sent."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self._out:
            self._end(None)

    def abort(self) -> None:
        """End at once."""
        self._end(None)

    # --- the poller's ----------------------------------------------------------

    def ready(self, mask: int) -> None:
        """See ``Polled.ready``."""
        if mask & _OUT:
            self.send()
            if mask == _OUT or self._gone:
                return
        if not self._reading:
            self._want(self._interest & ~_IN)
            return
        try:
            count = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if count:
            self._protocol.buffer_updated(count)
            return
        self._reading, self._read_all = False, True
        if not self._protocol.eof_received():
            self.close()

    def send(self) -> None:
        """Send what there is, as far as the system takes it."""
        if self._gone or not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._end(error)
            return
        if sent == len(self._out):
            self._out = b""
            if self._closing or self._ends_writing or self._choked or self._interest & _OUT:
                self._sent_all()
            return
        if isinstance(self._out, bytes):
            self._out = bytearray(memoryview(self._out)[sent:])
        else:
            del self._out[:sent]
        self._want(self._interest | _OUT)
        self._choke_if_much()
        if self._choked and len(self._out) <= LOW_WATER_BYTES:
            self._choked = False
            self._protocol.resume_writing()

    def _choke_if_much(self) -> None:
        if not self._choked and len(self._out) > HIGH_WATER_BYTES:
            self._choked = True
            self._protocol.pause_writing()

    def _sent_all(self) -> None:
        self._want(self._interest & ~_OUT)
        if self._closing:
            self._end(None)
            return
        if self._ends_writing:
            self._socket.shutdown(socket.SHUT_WR)
        if self._choked:
            self._choked = False
            self._protocol.resume_writing()

    def failed(self, error: Exception) -> None:
        """See ``Polled.failed``."""
        self._poller.report("A connection has failed", error)
        self._end(error)

    def _want(self, mask: int) -> None:
        if mask != self._interest:
            self._poller.want(self._descriptor, self, mask, self._interest)
            self._interest = mask

    def _end(self, error: Exception | None) -> None:
        """Let go of the socket now, and of the protocol soon."""
        if self._gone:
            return
        self._gone = self._closing = True
        self._reading = False
        self._poller.forget(self._descriptor)
        self._socket.close()
        self._poller.tell_soon(self._protocol.connection_lost, error)
        # The protocol holds this stream, often to its own end: no cycle for the collector.
        del self._protocol


class Acceptor:
    """Accepts clients from a listening socket, which it takes over."""

    def __init__(
        self,
        poller: Poller,
        listening: socket.socket,
        protocol: Callable[[], asyncio.BufferedProtocol],
    ) -> None:
        """Begin to accept.

        Args:
            poller: whose loop the connections belong to.
            listening: non-blocking.
            protocol: makes each connection's.
        """
        self._poller = poller
        self._listening = listening
        self._protocol = protocol
        self._rest: asyncio.TimerHandle | None = None
        self._descriptor = listening.fileno()
        self._poller.want(self._descriptor, self, _IN, 0)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port."""
        host, port = self._listening.getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Accept nobody any more."""
        if self._rest is None:
            self._poller.want(self._descriptor, self, 0, _IN)
        else:
            self._rest.cancel()
        self._listening.close()

    def ready(self, mask: int) -> None:
        """See ``Polled.ready``."""
        del mask
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it has left before it was accepted
                continue
            except OSError as error:
                self._run_out(error)
                return
            accepted.setblocking(False)
            Stream(self._poller, accepted, self._protocol(), peer)

    def failed(self, error: Exception) -> None:
        """See ``Polled.failed``."""
        self._poller.report("A client could not be accepted", error)

    def _run_out(self, error: OSError) -> None:
        """Let the system recover: it has no descriptor or no memory left (accept(2))."""
        self.failed(error)
        self._poller.want(self._descriptor, self, 0, _IN)
        self._rest = self._poller.loop.call_later(FULL_S, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        self._poller.want(self._descriptor, self, _IN, 0)
