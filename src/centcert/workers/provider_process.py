"""What the provider process does: it reads the store for the workers, and answers commands."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from centcert.admin.units import Size
from centcert.audience import Audience
from centcert.background import Background
from centcert.control import NodeStatus, ReadSettings, SettingsRead, Trace, control_answering
from centcert.counters import added_up
from centcert.errors import CentcertError, SettingsError
from centcert.node import Node
from centcert.provider.events import Found
from centcert.provider.service import Service
from centcert.scrapes import metrics_page
from centcert.steps import step_of
from centcert.tracing import Backlog, Traced, Tracer, Tracing
from centcert.workers.processes import HaveRead, ReadAgain, Ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path
    from socket import socket

    from centcert.admin.settings import Settings
    from centcert.control import Reply, Request, Stream
    from centcert.frontend import TcpAddress
    from centcert.workers.processes import Channel, Log

    Answering: TypeAlias = Callable[[Request], Awaitable[Reply | Stream]]

METRICS_AGAIN_S: Final = 0.5

_LAST_WORDS_S: Final = 0.2
"""For the answer to the command that has had the settings read, and so has ended this process."""


class ProviderNode(Node):
    """A node without listeners of its own: its clients are its workers'.

    Args:
        settings: the whole node's; half of its memory is for the workers.
        listener: as for ``Node``.
        token: what workers prove themselves by.
    """

    def __init__(self, settings: Settings, listener: Audience, token: bytes) -> None:
        half = Size(settings.store.max_memory // 2)
        store = msgspec.structs.replace(settings.store, max_memory=half)
        super().__init__(msgspec.structs.replace(settings, store=store, listen=()), listener)
        self._token = token
        self._traces = 0
        self._ears = ExitStack()  # open while there are any
        self._service: Service

    @asynccontextmanager
    async def serving(self, listening: socket) -> AsyncIterator[Service]:
        """Answer workers that connect to ``listening`` while the block runs."""
        self._service = Service(self._provider, self._token)
        async with self._service.serving(listening):
            yield self._service

    async def answer(self, request: Request) -> Reply | Stream:
        """As ``Node.answer``; a trace tells of the handshakes of all workers."""
        if isinstance(request, Trace):
            return self._traced(request.pattern)
        return await super().answer(request)

    async def _traced(self, pattern: str | None) -> Stream:
        backlog, decode = Backlog(), msgspec.json.Decoder(Traced).decode
        tracer = Tracer(pattern, backlog.put, elsewhere=self._service.overhearing)
        with (
            self._audience.following(tracer),
            self._service.following(pattern, lambda message: backlog.put(decode(message))),
            self._overhearing(),
        ):
            yield Tracing()
            while True:
                yield await backlog.take()

    @contextmanager
    def _overhearing(self) -> Iterator[None]:
        """Tell workers the steps of their look-ups, once however many traces there are."""
        self._traces += 1
        if self._traces == 1:
            self._ears.enter_context(self._audience.following(self._overhear))
        try:
            yield
        finally:
            self._traces -= 1
            if not self._traces:
                self._ears.close()

    def _overhear(self, event: object) -> None:
        asking = self._service.overhearing.concerned(event)
        step = step_of(event, 0.0) if asking else None
        if step is not None and not isinstance(event, Found):  # which workers tell themselves
            for tell in asking:
                tell(step.step, step.text, step.duration_s)

    async def status(self) -> NodeStatus:
        """Tell how the whole node does; what workers add is up to a second old."""
        own, workers = await super().status(), self._service.total()
        return msgspec.structs.replace(
            own,
            connections=workers.connections,
            waiting=workers.waiting,
            counters=added_up([own.counters, workers.counters]),
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """What the supervisor gives to a provider process.

    Attributes:
        listening: where workers connect.
        token: what they prove themselves by.
        control: where commands connect, if they can.
        succeeds: whether another one still serves, with other settings of the store.
    """

    listening: socket
    token: bytes
    control: socket | None
    succeeds: bool


async def provide(settings: Settings, shared: Shared, log: Log, channel: Channel) -> None:
    """Answer workers and commands until SIGTERM, then workers until the last has left.

    Raises:
        SettingsError: the store's URL is wrong, or a password file cannot be read.
    """
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(log.fault)
    rereading = Rereading(channel)
    async with (
        ProviderNode(settings, Audience(log), shared.token) as node,
        node.serving(shared.listening) as service,
    ):

        async def answer(request: Request) -> Reply | Stream:
            if isinstance(request, ReadSettings):
                return await rereading.ask()
            return await node.answer(request)

        metrics = _metrics(settings, node, log, succeeds=shared.succeeds)
        async with _answering(shared.control, answer), metrics:
            loop.add_signal_handler(signal.SIGTERM, ending.set)
            channel.tell(Ready())
            await ending.wait()
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if rereading.was_asked:
                await asyncio.sleep(_LAST_WORDS_S)
        await service.until_left()


@asynccontextmanager
async def _answering(control: socket | None, answer: Answering) -> AsyncIterator[None]:
    if control is None:
        yield
        return
    async with control_answering(control, answer):
        yield


@asynccontextmanager
async def _metrics(
    settings: Settings, node: Node, log: Log, *, succeeds: bool
) -> AsyncIterator[None]:
    """Answer Prometheus, if that is wanted; for that, wait for a predecessor to end."""
    address = settings.metrics.address()

    async def answer_later(address: TcpAddress | Path) -> None:
        while True:
            with suppress(SettingsError):
                async with metrics_page(address, node.status):
                    await asyncio.Event().wait()
            await asyncio.sleep(METRICS_AGAIN_S)

    async with AsyncExitStack() as stack:
        if address is not None and succeeds:
            tasks = await stack.enter_async_context(Background())
            tasks.create_task(answer_later(address))
        elif address is not None:
            where = await stack.enter_async_context(metrics_page(address, node.status))
            log.say("metrics", f"Metrics are at {where}.")
        yield


class Rereading:
    """Has the supervisor read the settings again, for who asks through the control socket."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._one_at_a_time = asyncio.Lock()
        self.was_asked = False

    async def ask(self) -> SettingsRead:
        """Have the settings read and carried out.

        Raises:
            CentcertError: they stay as they are.
        """
        loop = asyncio.get_running_loop()
        self.was_asked = True
        async with self._one_at_a_time:
            answer: asyncio.Future[HaveRead] = loop.create_future()

            def read() -> None:
                note = self._channel.read()
                if isinstance(note, HaveRead) and not answer.done():
                    answer.set_result(note)

            loop.add_reader(self._channel.end, read)
            try:
                self._channel.tell(ReadAgain())
                note = await answer
            finally:
                loop.remove_reader(self._channel.end)
        if note.refusal is not None:
            raise CentcertError(note.refusal)
        return SettingsRead(note.file, note.store, note.enabled)
