"""A worker's way to the provider of its node, which lives in another process.

What was answered once is remembered here and kept true by what the provider process
tells. While that is away, what is remembered goes on being served; other names wait for
it a moment, and are then refused as when the store gives no answer.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import socket
import time
from contextlib import AsyncExitStack, aclosing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, assert_never, cast
from weakref import WeakValueDictionary

import msgspec
from cryptography import x509

from centcert.audience import Audience
from centcert.background import Background
from centcert.credential import Credential
from centcert.errors import StoreUnavailable
from centcert.names import HostName
from centcert.provider.answering import Answer
from centcert.provider.cache import Cache, CacheLimits, Entry
from centcert.provider.decoder import MAX_SHARED_ISSUERS
from centcert.provider.events import Asked, Elsewhere, Found, Hit
from centcert.provider.flights import Flights
from centcert.provider.messages import (
    NAMES,
    Answered,
    Ask,
    Changed,
    Follow,
    Forgot,
    Frames,
    FromProvider,
    Hello,
    Holds,
    Overheard,
    Refused,
    Report,
    Told,
    Unfollow,
    Used,
    Welcome,
    Withdrawn,
    digest_of,
    encode,
    error_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from centcert.credential import Parts
    from centcert.provider.messages import FromWorker
    from centcert.provider.policy import Policy

AWAY_S: Final = 3.0
"""How long a name that is not in memory waits for the provider process: another one takes its
place in half a second."""

CONNECT_AGAIN_S: Final = (0.02, 1.0)
"""The first and the longest pause before connecting anew."""

WELCOME_S: Final = 30.0
"""How long the provider process may take to welcome: it may be starting."""

TELL_EVERY_S: Final = 1.0
"""How often the provider process is told which names were used, and how this worker does."""


class _Question(NamedTuple):
    name: HostName
    policy: Policy
    default: HostName | None


class _Lost(Exception):
    """The connection has ended before the answer came."""


class RemoteProvider:
    """Answers names as the node's provider does; an async context manager.

    All methods belong to the event loop it was entered in.

    Args:
        address: the Unix socket of the provider process, as ``bind`` takes it.
        token: what the supervisor gave to both.
        limits: what may be remembered here.
        audience: counts answers, and hears of them while somebody follows.

    Attributes:
        report: tells how this worker does, for the node's status.
        trace: tells what happens here, for who follows the node; told a name or pattern.
    """

    def __init__(
        self,
        address: str | bytes,
        token: bytes,
        *,
        limits: CacheLimits | None = None,
        audience: Audience | None = None,
    ) -> None:
        self._address = address
        self._hello = Hello(token, os.getpid())
        self._audience = audience or Audience()
        self._counters = self._audience.counters
        self.report: Callable[[], Report] = Report
        self.trace: Callable[[str | None], AsyncGenerator[bytes, None]] = _nothing
        self._cache = Cache(limits or CacheLimits())
        self._credentials: WeakValueDictionary[bytes, Credential] = WeakValueDictionary()
        self._load_issuer = lru_cache(MAX_SHARED_ISSUERS)(x509.load_der_x509_certificate)
        self._used: dict[HostName, None] = {}
        self._reported = b""
        self._store = "the store"
        self._link: _Link | None = None
        self._linked = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(Background())
            self._tasks = tasks
            self._flights: Flights[_Question, Answer] = Flights(tasks)
            tasks.create_task(self._keep_linked())
            tasks.create_task(self._keep_telling())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    # --- what a front end asks ---------------------------------------------------------

    def known(self, name: HostName, *, copies: bool = True) -> Credential | None:
        """Return the credential of ``name`` if it is in memory here, without waiting.

        ``copies`` makes no difference: a last-good copy is sent for one handshake only.
        """
        del copies
        entry = self._cache.touch(name)
        if entry is None:
            return None
        self._used[name] = None
        self._counters.hits += 1
        if (steps := self._audience.steps) is not None:
            steps(Asked(name))
            steps(Hit(name, entry.key, stale=False))
        return entry.credential

    async def answer(self, name: HostName, policy: Policy, default: HostName | None) -> Answer:
        """Return what a handshake for ``name`` gets, by the provider process.

        One question is asked however many wait for it.

        Raises:
            StoreUnavailable: the provider process is away.
            CentcertError: as the provider says.
        """
        return await self._flights.join(_Question(name, policy, default), self._ask)

    def source(self, name: HostName) -> str | None:
        """Return the key of the file that answers ``name`` from memory, if one does."""
        entry = self._cache.peek(name)
        return None if entry is None else entry.key

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    # --- questions ---------------------------------------------------------------------

    async def _ask(self, question: _Question) -> Answer:
        whole, began = False, time.perf_counter()
        while True:
            link = await self._until_linked()
            try:
                answer = await link.ask(question, whole=whole)
            except _Lost:
                continue
            if answer is not None:
                if (steps := self._audience.steps) is not None:
                    took_s = time.perf_counter() - began
                    steps(Found(question.name, answer.credential.key, took_s))
                return answer
            whole = True

    async def _until_linked(self) -> _Link:
        try:
            async with asyncio.timeout(AWAY_S):
                while self._link is None:
                    await self._linked.wait()
        except TimeoutError:
            raise StoreUnavailable(
                self._store,
                f"The process that reads {self._store} for this worker does not answer: the log"
                " says why; another one takes its place.",
            ) from None
        return self._link

    # --- what the link brings ------------------------------------------------------------

    def answered(self, message: Answered) -> Answer | None:
        """Take an answer, at once: the next message may tell of its change.

        ``None``: it refers to a credential that was forgotten here while it was on its way.
        """
        name = HostName(message.name)
        credential = self._credential(message.digest, message.parts)
        if credential is None:
            self._forgot([name])
            return None
        if message.keep:
            self._remember(name, credential)
        return Answer(name, credential)

    def take(self, message: Changed | Withdrawn) -> None:
        """Take what the provider process tells by itself."""
        name = HostName(message.name)
        if self._cache.peek(name) is None:  # forgotten meanwhile, which is on its way there
            return
        if isinstance(message, Withdrawn):
            self._cache.forget(name)
            return
        credential = self._credential(message.digest, message.parts)
        if credential is None:
            self._cache.forget(name)
            self._forgot([name])
        else:
            self._remember(name, credential)

    def overheard(self, message: Overheard) -> None:
        """Tell who follows what was done for a name that is waited for."""
        if (steps := self._audience.steps) is not None:
            name = HostName(message.name)
            steps(Elsewhere(name, message.step, message.text, message.duration_s))

    def follow(self, link: _Link, number: int, pattern: str | None) -> asyncio.Task[None]:
        """Tell ``link`` what happens here until the task is cancelled."""
        return self._tasks.create_task(self._tell(link, number, pattern))

    async def _tell(self, link: _Link, number: int, pattern: str | None) -> None:
        async with aclosing(self.trace(pattern)) as messages:
            async for message in messages:
                link.send(Told(number, message))
                await link.writable.wait()  # what finds no room meanwhile is left out, and counted

    def joined(self, link: _Link, store: str) -> None:
        """Go on with a connection that the provider process has welcomed."""
        self._store = store
        self._link = link
        self._reported = b""
        self._linked.set()

    def left(self, link: _Link) -> None:
        """Go on without a connection."""
        if self._link is link:
            self._link = None
            self._linked.clear()

    def _remember(self, name: HostName, credential: Credential) -> None:
        entry = Entry(credential.key, credential, (), math.inf, used=True)
        self._forgot(self._cache.remember(name, entry))

    def _forgot(self, names: list[HostName]) -> None:
        for start in range(0, len(names), NAMES):
            if self._link is not None:
                self._send(Forgot(tuple(names[start : start + NAMES]), self._link.read))

    def _credential(self, digest: bytes, parts: Parts | None) -> Credential | None:
        """Return the credential that is meant; ``None``: it is not here any more."""
        credential = self._credentials.get(digest)
        if credential is None and parts is not None:
            credential = Credential.from_parts(parts, load_issuer=self._load_issuer)
            self._credentials[digest] = credential
        return credential

    def _send(self, message: FromWorker) -> None:
        if self._link is not None:
            self._link.send(message)

    # --- the connection --------------------------------------------------------------------

    async def _keep_linked(self) -> None:
        pause_s, longest_s = CONNECT_AGAIN_S
        while True:
            link = _Link(self)
            try:
                async with asyncio.timeout(WELCOME_S):
                    await self._connect(link)
                pause_s = CONNECT_AGAIN_S[0]
                await self._tell_held(link)
                await link.lost.wait()
            except (OSError, TimeoutError, _Lost):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)
            finally:
                link.end()

    async def _connect(self, link: _Link) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, self._address)
            await loop.create_unix_connection(lambda: link, sock=sock)
        except BaseException:
            sock.close()
            raise
        link.send(self._hello)
        await link.welcomed()

    async def _tell_held(self, link: _Link) -> None:
        """Have everything compared that is remembered from before this connection."""
        entries = list(self._cache.entries())
        digests: dict[Credential, bytes] = {}
        for start in range(0, len(entries), NAMES):
            held: list[tuple[str, bytes]] = []
            for name, _ in entries[start : start + NAMES]:
                entry = self._cache.peek(name)
                if entry is None:
                    continue
                credential = entry.credential
                if credential not in digests:
                    digests[credential] = digest_of(credential)
                held.append((name, digests[credential]))
            link.send(Holds(tuple(held)))
            await asyncio.sleep(0)

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if self._link is None:
                continue
            used, self._used = tuple(self._used), {}
            for start in range(0, len(used), NAMES):
                self._send(Used(used[start : start + NAMES]))
            report = encode(self.report())
            if report != self._reported:
                self._reported = report
                self._link.send_encoded(report)


async def _nothing(pattern: str | None) -> AsyncGenerator[bytes, None]:
    """Be what nobody traces."""
    del pattern
    never: tuple[bytes, ...] = ()
    for message in never:
        yield message


class _Link(asyncio.Protocol):
    """One connection to the provider process."""

    def __init__(self, provider: RemoteProvider) -> None:
        self._provider = provider
        self._frames = Frames()
        self._decode = msgspec.msgpack.Decoder(FromProvider).decode
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[Answer | None]] = {}
        self.read = 0
        """How many messages have been read."""
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._telling: dict[int, asyncio.Task[None]] = {}

    # --- the transport's calls -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._provider.left(self)
        self.lost.set()
        for task in self._telling.values():
            task.cancel()
        waiting: list[asyncio.Future[Any]] = [self._welcome, *self._questions.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(_Lost())
                future.exception()  # perhaps nobody waits any more

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self.read += 1
                self._take(self._decode(message))
        except ValueError:  # msgspec's errors are among them
            self.end()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # --- questions -------------------------------------------------------------------------

    async def welcomed(self) -> None:
        """Wait until the provider process has welcomed this worker.

        Raises:
            _Lost: it has not.
        """
        await self._welcome

    async def ask(self, question: _Question, *, whole: bool) -> Answer | None:
        """Ask and wait for the answer, as ``RemoteProvider.answered`` returns it.

        Raises:
            _Lost: the connection has ended.
            CentcertError: that is the answer.
        """
        if self.lost.is_set():
            raise _Lost
        number = next(self._numbers)
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self.send(Ask(number, *question, whole))
        try:
            return await answer
        finally:
            del self._questions[number]

    def send(self, message: FromWorker) -> None:
        """Send ``message``; what was lost with the connection is lost."""
        self.send_encoded(encode(message))

    def send_encoded(self, message: bytes) -> None:
        """Likewise, of a message that ``encode`` has returned."""
        if self._transport is not None:
            self._transport.write(message)

    def end(self) -> None:
        """End the connection, if there is one."""
        if self._transport is not None:
            self._transport.abort()

    def _take(self, message: FromProvider) -> None:  # noqa: C901  one for each
        match message:
            case Answered(number=number):
                answer = self._provider.answered(message)
                asked = self._questions.get(number)
                if asked is not None and not asked.done():
                    asked.set_result(answer)
            case Refused(number=number):
                asked = self._questions.get(number)
                if asked is not None and not asked.done():
                    asked.set_exception(error_of(message))
            case Changed() | Withdrawn():
                self._provider.take(message)
            case Overheard():
                self._provider.overheard(message)
            case Follow(number=number, pattern=pattern):
                self._telling[number] = self._provider.follow(self, number, pattern)
            case Unfollow(number=number):
                self._telling.pop(number).cancel()
            case Welcome(store=store):
                self._provider.joined(self, store)
                if not self._welcome.done():
                    self._welcome.set_result(None)
            case _:
                assert_never(message)
