"""A node's events put together, handshake by handshake, while somebody follows them.

Several handshakes go on at once, and a file is fetched once for all that wait for it: what
happens to a file is a step of each handshake that waits for one of its names.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from centcert.frontend import events as front_end
from centcert.lines import Line, line_of, printable
from centcert.provider import events as provider
from centcert.steps import Step, step_of
from centcert.waiting import Waiting, is_wanted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from centcert.audience import Audience
    from centcert.names import HostName

MAX_BACKLOG: Final = 1_000
"""Told and not yet taken: some 2 MB, and a second of a busy node."""

MAX_STEPS: Final = 64
"""Of one handshake: a connection to a share takes five, and its look-up two for each key."""


class TracedHandshake(msgspec.Struct, frozen=True, omit_defaults=True, tag="handshake"):
    """A handshake that is over. Times in seconds.

    Attributes:
        began: when the client connected, since the epoch.
        duration_s: from then until TLS stood, or the end.
        client: its address and port.
        outcome: ``done``, ``refused``, or ``left``: the client did, before TLS stood.
        steps: in order.
        name: what was answered for; if it came to no answer, what was asked for.
        key: the file that answered.
        version: in OpenSSL's words, as the next three: ``TLSv1.3``.
        cipher: ``TLS_AES_256_GCM_SHA384``.
        group: ``X25519MLKEM768``.
        alpn: ``h2``.
        reason: ``CentcertError.code`` of the refusal.
        alert: what the client was told, where Centcert chose it.
    """

    began: float
    duration_s: float
    client: str
    outcome: Literal["done", "refused", "left"]
    steps: tuple[Step, ...]
    name: str | None = None
    key: str | None = None
    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str | None = None
    reason: str | None = None
    alert: str | None = None


class TracedLine(msgspec.Struct, frozen=True, tag="line"):
    """What else happened meanwhile; ``at`` is in seconds since the epoch."""

    at: float
    line: Line


class LeftOut(msgspec.Struct, frozen=True, tag="left-out"):
    """So many of the above were not told: they were not taken fast enough."""

    count: int


Traced: TypeAlias = TracedHandshake | TracedLine | LeftOut


class Tracing(msgspec.Struct, frozen=True, tag="tracing"):
    """From now on handshakes are told."""


class _Open:
    """A handshake under way."""

    __slots__ = ("began", "client", "name", "started", "steps")

    def __init__(self, client: str) -> None:
        self.client = client
        self.name: HostName | None = None
        self.began = time.time()
        self.started = time.perf_counter()
        self.steps: list[Step] = []

    def note(self, event: object) -> None:
        """Add the step that ``event`` is, if it is one."""
        if len(self.steps) < MAX_STEPS:
            step = step_of(event, time.perf_counter() - self.started)
            if step is not None:
                self.steps.append(step)


class Tracer:
    """Listens to store, provider and front end, and tells each handshake when it is over.

    Args:
        pattern: only of this name, or of those that this wildcard covers; ``None``: of all.
        tell: is told, at once.
        elsewhere: who waits in other processes: what concerns them is told as steps there.
    """

    def __init__(
        self,
        pattern: str | None,
        tell: Callable[[Traced], None],
        *,
        elsewhere: Waiting[Any] | None = None,
    ) -> None:
        self._pattern = pattern
        self._tell = tell
        self._open: dict[int, _Open] = {}
        self._waiting: Waiting[_Open] = Waiting()
        self._elsewhere = elsewhere
        self._asking: int | None = None  # whose hello came last: a hit follows at once

    def __call__(self, event: object) -> None:
        """Take an event."""
        match event:
            case front_end.Accepted(connection=number, client=client):
                self._open[number] = _Open(client)
            case front_end.HelloRead():
                self._read(event)
            case front_end.ServerHelloSent(connection=number):
                self._waiting.remove(number)
                self._note(number, event)
            case front_end.HandshakeDone():
                self._done(event)
            case front_end.HandshakeRefused():
                self._refused(event)
            case front_end.Closed(connection=number):
                self._left(number)
            case _:
                self._look_up(event)

    # --- one connection ------------------------------------------------------------

    def _read(self, event: front_end.HelloRead) -> None:
        number, name = event.connection, event.name
        opened = self._open.get(number)
        self._asking = None
        if opened is None:  # it began before we listened
            return
        if not self._wants(name):
            del self._open[number]
            return
        self._asking = number
        opened.name = name
        opened.note(event)
        self._waiting.add(number, name, opened)

    def _note(self, number: int, event: object) -> None:
        opened = self._open.get(number)
        if opened is not None:
            opened.note(event)

    def _end(self, number: int) -> _Open | None:
        self._waiting.remove(number)
        return self._open.pop(number, None)

    def _done(self, event: front_end.HandshakeDone) -> None:
        self._note(event.connection, event)
        opened = self._end(event.connection)
        if opened is not None:
            self._tell(
                TracedHandshake(
                    opened.began,
                    time.perf_counter() - opened.started,
                    opened.client,
                    "done",
                    tuple(opened.steps),
                    name=str(event.name),
                    key=None if event.key is None else printable(event.key),
                    version=event.version,
                    cipher=event.cipher,
                    group=event.group,
                    alpn=None if event.alpn is None else printable(event.alpn),
                )
            )

    def _refused(self, event: front_end.HandshakeRefused) -> None:
        self._note(event.connection, event)
        opened = self._end(event.connection)
        asked = None if event.asked is None else printable(event.asked)
        # Without a name it has read no hello: it passed no filter yet.
        if opened is None or (opened.name is None and not self._wants((asked or "").lower())):
            return
        self._tell(
            TracedHandshake(
                opened.began,
                time.perf_counter() - opened.started,
                opened.client,
                "refused",
                tuple(opened.steps),
                name=asked or (None if opened.name is None else str(opened.name)),
                reason=event.error.code,
                alert=event.error.alert_name,
            )
        )

    def _left(self, number: int) -> None:
        opened = self._end(number)
        if opened is not None and (opened.name is not None or self._pattern is None):
            after_s = time.perf_counter() - opened.started
            opened.steps.append(Step(after_s, "left", "the client closed the connection"))
            self._tell(
                TracedHandshake(
                    opened.began,
                    after_s,
                    opened.client,
                    "left",
                    tuple(opened.steps),
                    name=None if opened.name is None else str(opened.name),
                )
            )

    # --- what connections wait for ---------------------------------------------------

    def _look_up(self, event: object) -> None:
        if isinstance(event, provider.Hit):
            if self._asking is not None:
                self._note(self._asking, event)
            return
        concerned = self._waiting.concerned(event)
        for opened in concerned:
            opened.note(event)
        if not concerned and not (self._elsewhere is not None and self._elsewhere.concerned(event)):
            self._tell_line(event)

    def _tell_line(self, event: object) -> None:
        name = getattr(event, "name", None)
        line = line_of(event)
        if line is not None and (self._pattern is None or (name and self._wants(name))):
            self._tell(TracedLine(time.time(), line))

    def _wants(self, name: str) -> bool:
        return is_wanted(name, self._pattern)


class Backlog:
    """What is told and not yet taken, bounded."""

    def __init__(self) -> None:
        self._messages: deque[Traced] = deque()
        self._more = asyncio.Event()

    def put(self, message: Traced) -> None:
        """Add a message; where there is no room for it, count it in its place."""
        messages = self._messages
        if len(messages) < MAX_BACKLOG:
            messages.append(message)
        elif isinstance(last := messages[-1], LeftOut):
            messages[-1] = LeftOut(last.count + 1)
        else:
            messages.append(LeftOut(1))
        self._more.set()

    async def take(self) -> Traced:
        """Wait for the next message."""
        while not self._messages:
            self._more.clear()
            await self._more.wait()
        return self._messages.popleft()


async def traced(audience: Audience, pattern: str | None) -> AsyncGenerator[Tracing | Traced, None]:
    """Tell what ``audience`` hears, put together by a ``Tracer``, for as long as it is asked for.

    Who asks slowly slows nobody: what finds no room is left out, and told to have been.
    """
    backlog = Backlog()
    with audience.following(Tracer(pattern, backlog.put)):
        yield Tracing()
        while True:
            yield await backlog.take()
