"""A connection with a session, without I/O: requests in, frames out; frames in, replies out.

The core numbers, seals and pays for requests, holds back what cannot be sent yet, and
sorts the server's frames to the requests that they answer. After an error of
``receive`` or ``submit`` other than ``QueueFull`` the connection has to be aborted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from centcert.smb3 import replies, requests
from centcert.smb3.credits import TARGET
from centcert.smb3.errors import ConnectionLost, ProtocolViolation, QueueFull
from centcert.smb3.sealing import Opener, Sealer
from centcert.smb3.status import Status
from centcert.smb3.wire import (
    ASYNC,
    RELATED,
    Command,
    Frames,
    Octets,
    Reply,
    Request,
    cancel_header,
    header,
    replies_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from centcert.smb3.handshake import Session

MAX_IN_FLIGHT: Final = 64
"""Exchanges sent and not answered; more only lengthen the server's own queue."""

MAX_QUEUED: Final = 512
"""Exchanges held back; a server answers as many in about 150 ms."""

_MAX_FRUITLESS_ECHOES: Final = 4


class Exchange:
    """One frame of requests and what came back for it. Compared by identity.

    Attributes:
        done: every request is answered; ``replies`` is whole.
        pending: the server has acknowledged the request and will answer later.

    The other attributes are the core's own.
    """

    __slots__ = (
        "abandoned",
        "answers",
        "asked",
        "async_id",
        "charge",
        "done",
        "first_id",
        "lasting",
        "missing",
        "pending",
        "requests",
    )

    def __init__(self, compound: Sequence[Request], *, lasting: bool) -> None:
        self.requests = compound
        self.charge = sum([request.charge for request in compound])
        self.lasting = lasting
        self.answers: list[Reply | None] = [None] * len(compound)
        self.missing = len(compound)
        self.asked = [0] * len(compound)  # credits asked for and not yet answered
        self.first_id = -1  # not sent yet
        self.async_id = 0
        self.abandoned = False
        self.pending = False
        self.done = False

    @property
    def replies(self) -> list[Reply]:
        """One for each request, in order; fewer until ``done``."""
        return [reply for reply in self.answers if reply is not None]


class Core:
    """The requests of one session. Not thread-safe; every call returns at once."""

    def __init__(
        self,
        session: Session,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._session_id = session.session_id
        self._credits = session.credits
        self._sealer = Sealer(session.keys.client_to_server, session.session_id)
        self._opener = Opener(session.keys.server_to_client, session.session_id)
        self._frames = Frames()
        self._max_in_flight = max_in_flight
        self._max_queued = max_queued
        self._tree_id = 0
        self._in_flight = 0  # lasting exchanges do not count
        self._fruitless_echoes = 0
        self._queue: deque[Exchange] = deque()
        # message id -> the exchange and which of its requests; each id once, ever
        self._open: dict[int, tuple[Exchange, int]] = {}
        self._outgoing: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is sent and unanswered, and nothing waits."""
        return not self._open and not self._queue

    def use_tree(self, tree_id: int) -> None:
        """Send all further requests to this tree ([MS-SMB2] 3.2.5.5)."""
        self._tree_id = tree_id

    def submit(self, compound: Sequence[Request], *, lasting: bool = False) -> Exchange:
        """Take requests that go into one frame and refer to one file.

        They are sent at once if credits and room allow, else in the order of arrival.
        ``outgoing`` has the bytes.

        Args:
            compound: at least one.
            lasting: the answer may take for ever, as CHANGE_NOTIFY's; it does not
                count as in flight.

        Raises:
            QueueFull: too many wait already; nothing was taken.
            ConnectionLost: the session's key is used up.
        """
        exchange = Exchange(compound, lasting=lasting)
        if exchange.charge > TARGET:
            raise QueueFull("The request is larger than the server will ever have room for.")
        if len(self._queue) >= self._max_queued:
            raise QueueFull(f"{self._max_queued} requests wait for the server already.")
        self._queue.append(exchange)
        self._send_what_may_go()
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """Say that nobody waits for this exchange any more.

        What was not sent never is; what was sent is answered and forgotten, and a
        file that it opened is closed. So it is if the answer is there but was not
        taken.
        """
        exchange.abandoned = True
        if exchange.done:
            self._close_what_it_opened(exchange)
        elif exchange.first_id < 0:
            self._queue.remove(exchange)

    def cancel(self, exchange: Exchange) -> None:
        """Ask the server to end an exchange early ([MS-SMB2] 3.2.4.24); it is answered still."""
        if exchange.done or exchange.first_id < 0:
            return
        message = (
            cancel_header(
                message_id=exchange.first_id,
                async_id=exchange.async_id,
                session_id=self._session_id,
            )
            + requests.cancel_body()
        )
        self._outgoing.append(self._sealer.seal(message))

    def outgoing(self) -> bytes:
        """Take the bytes that are to be sent now; empty if there are none."""
        if not self._outgoing:
            return b""
        if len(self._outgoing) == 1:
            return self._outgoing.pop()
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: Octets) -> list[Exchange]:
        """Take bytes from the server, cut anyhow.

        Returns:
            The exchanges that are now ``done`` or newly ``pending``, in order, without
            abandoned ones. ``outgoing`` may have bytes afterwards.

        Raises:
            SecurityViolation: a frame is not sealed for this session, or was changed.
            ProtocolViolation: a frame is malformed, or answers nothing that was asked.
            ConnectionLost: the session's key is used up.
        """
        news: list[Exchange] = []
        for sealed in self._frames.feed(data):
            for reply in replies_in(self._opener.open(sealed)):
                self._sort(reply, news)
        if self._queue:
            self._send_what_may_go()
        return news

    def _sort(self, reply: Reply, news: list[Exchange]) -> None:
        found = self._open.get(reply.message_id)
        # Nothing is ever answered twice: this is a replayed frame, or a server gone
        # astray. Oplock breaks, the only news without a request, are never asked for.
        if found is None:
            raise ProtocolViolation("The server answered a request that was not made.")
        exchange, index = found
        if (
            reply.command != exchange.requests[index].command
            or reply.session_id != self._session_id
        ):
            raise ProtocolViolation("The server's answer does not fit its request.")
        self._credits.settle(exchange.asked[index], reply.credits)
        exchange.asked[index] = 0
        if reply.status == Status.PENDING and reply.flags & ASYNC:
            exchange.async_id = reply.async_id
            if not exchange.pending:
                exchange.pending = True
                if not exchange.abandoned:
                    news.append(exchange)
            return
        del self._open[reply.message_id]
        exchange.answers[index] = reply
        exchange.missing -= 1
        if not exchange.missing:
            self._finish(exchange, news)

    def _finish(self, exchange: Exchange, news: list[Exchange]) -> None:
        exchange.done = True
        if not exchange.lasting:
            self._in_flight -= 1
        if exchange.abandoned:
            self._close_what_it_opened(exchange)
        else:
            news.append(exchange)

    def _close_what_it_opened(self, exchange: Exchange) -> None:
        first = exchange.replies[0]
        opened = first.command == Command.CREATE and first.status == Status.SUCCESS
        if opened and exchange.requests[-1].command != Command.CLOSE:
            self._queue.append(_orphan((requests.close(replies.create(first).file_id),)))

    def _send_what_may_go(self) -> None:
        while self._queue:
            head = self._queue[0]
            if not head.lasting and self._in_flight >= self._max_in_flight:
                return
            if head.charge > self._credits.available:
                self._ask_for_credits()
                return
            self._queue.popleft()
            self._send(head)
            self._fruitless_echoes = 0

    def _ask_for_credits(self) -> None:
        """Break the deadlock of a purse that is too small while nothing will fill it."""
        if self._credits.expecting:
            return
        self._fruitless_echoes += 1
        if self._fruitless_echoes > _MAX_FRUITLESS_ECHOES:
            raise ConnectionLost("The server lends too few credits for a single request.")
        self._send(_orphan((requests.echo(),)))

    def _send(self, exchange: Exchange) -> None:
        compound = exchange.requests
        last = len(compound) - 1
        parts = []
        for index, (command, body, charge) in enumerate(compound):
            message_id, asked = self._credits.take(charge)
            self._open[message_id] = exchange, index
            exchange.asked[index] = asked
            if not index:
                exchange.first_id = message_id
            # Each message of a compound begins on an 8-byte boundary ([MS-SMB2] 3.2.4.1.4).
            padding = 0 if index == last else -len(body) % 8
            parts.append(
                header(
                    command,
                    message_id=message_id,
                    charge=charge,
                    credits_asked=asked,
                    flags=RELATED if index else 0,
                    next_command=0 if index == last else 64 + len(body) + padding,
                    tree_id=self._tree_id,
                    session_id=self._session_id,
                )
            )
            parts.append(body)
            if padding:
                parts.append(bytes(padding))
        if not exchange.lasting:
            self._in_flight += 1
        self._outgoing.append(self._sealer.seal(b"".join(parts)))


def _orphan(compound: Sequence[Request]) -> Exchange:
    exchange = Exchange(compound, lasting=False)
    exchange.abandoned = True
    return exchange
