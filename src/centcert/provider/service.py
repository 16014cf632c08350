"""The provider process's end: answers the workers of this node, and tells them of changes.

Each worker has one connection. What the provider has sent it and goes on remembering
itself, the worker *holds*: if the answer for such a name changes, the worker is told at
once. What a worker held before this process began is compared with the store behind.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never, cast
from weakref import WeakKeyDictionary

import msgspec

from centcert.background import Background
from centcert.counters import Counters, added_up
from centcert.errors import CentcertError, NameRefused, Overloaded, UnknownName
from centcert.names import HostName
from centcert.provider.answering import Answer, answer_from_memory
from centcert.provider.messages import (
    Answered,
    Ask,
    Changed,
    Follow,
    Forgot,
    Frames,
    FromProvider,
    FromWorker,
    Hello,
    Holds,
    Overheard,
    Report,
    Told,
    Unfollow,
    Used,
    Welcome,
    Withdrawn,
    digest_of,
    encode,
    refusal,
)
from centcert.waiting import Waiting, is_wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from centcert.credential import Credential, Parts
    from centcert.provider.provider import Provider

HELLO_S: Final = 5.0
"""How long a connection may take to say who it is."""

MAX_QUESTIONS: Final = 4_096
"""Of one worker, under way at once: twice what its clients may wait for by default."""

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""What a worker may leave unread: 20,000 renewals at once. It connects anew and catches up."""

MAX_PROCESSES: Final = 1_024
"""Workers whose counters are told apart: more than there are at once, after some reloads."""

COMPARERS: Final = 4
"""Look-ups under way for what workers held before: first visits must not wait for them."""

COMPARE_AGAIN_S: Final = 1.0

MAX_OVERHEARD: Final = 256
"""Questions under way whose workers are told each step, while somebody follows: what a person can
read. Beyond them a handshake is told without the steps of its look-up."""

_PEER: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Service:
    """Answers workers for as long as ``serving`` runs.

    Args:
        provider: is entered; nobody else follows it.
        token: what workers prove themselves by.

    Attributes:
        overhearing: who of the workers wants to be told what is done for which question.
    """

    def __init__(self, provider: Provider, token: bytes) -> None:
        self.provider = provider
        self._token = token
        self._workers: set[_Worker] = set()
        self._digests: WeakKeyDictionary[Credential, bytes] = WeakKeyDictionary()
        self._counters: dict[int, Counters] = {}  # by process
        self._past = Counters()  # of those that came before them
        self._doubted: dict[HostName, None] = {}  # held by workers, not by the provider
        self._doubt = asyncio.Event()
        self._emptied = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._numbers = itertools.count(1)
        self.follows: dict[int, tuple[Follow, Callable[[bytes], None]]] = {}
        self.overhearing: Waiting[Callable[[str, str, float | None], None]] = Waiting()

    @asynccontextmanager
    async def serving(self, listening: socket.socket) -> AsyncIterator[None]:
        """Answer the workers that connect to ``listening`` while the block runs."""
        loop = asyncio.get_running_loop()
        self.provider.follow(self._changed)
        async with Background() as tasks:
            self._tasks = tasks
            for _ in range(COMPARERS):
                tasks.create_task(self._compare())
            server = await loop.create_unix_server(lambda: _Worker(self), sock=listening)
            try:
                yield
            finally:
                server.close()
                for worker in tuple(self._workers):
                    worker.close()

    async def until_left(self) -> None:
        """Wait until no worker is connected."""
        while self._workers:
            self._emptied.clear()
            await self._emptied.wait()

    def total(self) -> Report:
        """Return what all workers have last told of themselves, added up.

        What was counted by a worker that has gone stays in the counters.
        """
        here = [worker.report for worker in self._workers]
        return Report(
            sum(report.connections for report in here),
            sum(report.waiting for report in here),
            added_up([self._past, *self._counters.values()]),
        )

    @contextmanager
    def following(self, pattern: str | None, told: Callable[[bytes], None]) -> Iterator[None]:
        """Have all workers tell ``told`` what happens, while the block runs."""
        number = next(self._numbers)
        self.follows[number] = Follow(number, pattern), told
        for worker in tuple(self._workers):
            worker.follow()
        try:
            yield
        finally:
            del self.follows[number]
            for worker in tuple(self._workers):
                worker.follow()

    # --- what connections ask of the service -------------------------------------

    def is_admitted(self, token: bytes) -> bool:
        """Say whether ``token`` is the supervisor's."""
        return hmac.compare_digest(token, self._token)

    def joined(self, worker: _Worker) -> None:
        """Count a worker in."""
        self._workers.add(worker)

    def left(self, worker: _Worker) -> None:
        """Count a worker out."""
        self._workers.discard(worker)
        if not self._workers:
            self._emptied.set()

    def spawn(self, worker: _Worker, question: Ask, default: HostName | None) -> None:
        """Answer a question that memory cannot answer."""
        answering = self._tasks.create_task(self._answer(worker, question, default))
        if self.follows:
            self._overhear(worker, HostName(question.name), answering)

    def digest(self, credential: Credential) -> bytes:
        """Return ``digest_of`` a credential, computed once."""
        digest = self._digests.get(credential)
        if digest is None:
            digest = self._digests[credential] = digest_of(credential)
        return digest

    def doubt(self, name: HostName) -> None:
        """Have a name compared with the store that a worker holds and the provider does not."""
        self._doubted[name] = None
        self._doubt.set()

    def counted(self, process: int, counters: Counters) -> None:
        """Note what a worker has counted so far; it goes on from there if it connects anew."""
        self._counters.pop(process, None)  # so that the oldest are those that say nothing more
        self._counters[process] = counters
        if len(self._counters) > MAX_PROCESSES:
            oldest = next(iter(self._counters))
            self._past = added_up([self._past, self._counters.pop(oldest)])

    # --- behind --------------------------------------------------------------------

    def _overhear(self, worker: _Worker, name: HostName, answering: asyncio.Task[None]) -> None:
        wanted = any(is_wanted(name, follow.pattern) for follow, _ in self.follows.values())
        if wanted and len(self.overhearing) < MAX_OVERHEARD:
            number = next(self._numbers)
            self.overhearing.add(number, name, partial(worker.overheard, name))
            answering.add_done_callback(lambda _: self.overhearing.remove(number))

    async def _answer(self, worker: _Worker, question: Ask, default: HostName | None) -> None:
        try:
            answer = await self.provider.answer(HostName(question.name), question.policy, default)
        except CentcertError as error:
            worker.refuse(question.number, error)
        except Exception as error:  # noqa: BLE001  the top of a task
            worker.refuse(question.number, CentcertError("The provider process has failed."))
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"A look-up of {question.name} has failed", "exception": error}
            )
        else:
            worker.answer(question, answer)

    def _changed(self, name: HostName) -> None:
        for worker in tuple(self._workers):
            worker.tell(name)

    async def _compare(self) -> None:
        while True:
            while not self._doubted:
                self._doubt.clear()
                await self._doubt.wait()
            name = next(iter(self._doubted))
            del self._doubted[name]
            try:
                await self.provider.credential(name)
            except UnknownName:
                self._changed(name)  # the provider itself need not have known it
            except Overloaded:
                await asyncio.sleep(COMPARE_AGAIN_S)
                if any(name in worker.holds for worker in self._workers):
                    self.doubt(name)
            except CentcertError:
                pass  # what is held is as good as ever; its next use asks again
            except Exception as error:  # noqa: BLE001  the top of a task
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"A look-up of {name} has failed", "exception": error}
                )


class _Hold(NamedTuple):
    """What a worker holds for a name, and the number of the message that has brought it."""

    digest: bytes
    number: int


class _Worker(asyncio.Protocol):
    """The connection of one worker."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._provider = service.provider
        self._frames = Frames()
        self._decode = msgspec.msgpack.Decoder(FromWorker).decode
        self._transport: asyncio.Transport
        self._welcome = False
        self._process = 0
        self._under_way = 0
        self._sent = 0  # messages
        self.holds: dict[HostName, _Hold] = {}
        self._sharing: dict[HostName, set[HostName]] = {}  # what it holds, by wildcard
        self._credentials: Counter[bytes] = Counter()  # names held by digest
        self.report = Report()
        self._following: set[int] = set()

    # --- the transport's calls -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not _is_own_user(transport.get_extra_info("socket")):
            self._transport.abort()
            return
        self._service.joined(self)
        self._timer = asyncio.get_running_loop().call_later(HELLO_S, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._service.left(self)
        self.holds.clear()
        self._sharing.clear()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._take(self._decode(message))
        except (ValueError, NameRefused):  # msgspec's errors are among them
            self._transport.abort()  # no worker of ours

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    # --- what it says -----------------------------------------------------------------

    def _take(self, message: FromWorker) -> None:
        if not self._welcome:
            self._greet(message)
            return
        match message:
            case Ask():
                self._asked(message)
            case Used(names=names):
                self._used([HostName.parse(name) for name in names])
            case Forgot(names=names, read=read):
                self._forgot([HostName.parse(name) for name in names], read)
            case Holds(credentials=credentials):
                for text, digest in credentials:
                    self._compare(HostName.parse(text), digest)
            case Told():
                self._told(message)
            case Report():
                self.report = message
                self._service.counted(self._process, message.counters)
            case Hello():
                raise ValueError(message)
            case _:
                assert_never(message)

    def _greet(self, message: FromWorker) -> None:
        if not isinstance(message, Hello) or not self._service.is_admitted(message.token):
            raise ValueError(message)
        self._timer.cancel()
        self._process = message.process
        self._welcome = True
        self._send(Welcome(self._provider.store_url))
        self.follow()

    def _asked(self, question: Ask) -> None:
        name = HostName.parse(question.name)
        default = None if question.default is None else HostName.parse(question.default)
        try:
            credential = answer_from_memory(self._provider, name, question.policy)
        except CentcertError as expired:
            self._send(refusal(question.number, expired))
            return
        if credential is not None:
            self._send_answer(question, Answer(name, credential))
        elif self._under_way >= MAX_QUESTIONS:
            error = Overloaded(
                f"{MAX_QUESTIONS} handshakes of a worker wait for the store already."
            )
            self._send(refusal(question.number, error))
        else:
            self._under_way += 1
            self._service.spawn(self, question, default)

    def _used(self, names: list[HostName]) -> None:
        self._provider.note_used(names)
        for name in names:
            if name in self.holds and self._provider.held(name) is None:
                self._service.doubt(name)

    def _told(self, told: Told) -> None:
        follow = self._service.follows.get(told.number)
        if follow is not None:
            follow[1](told.message)

    def _forgot(self, names: list[HostName], read: int) -> None:
        for name in names:
            if name in self.holds and self.holds[name].number <= read:
                self._let_go(name)

    def _compare(self, name: HostName, digest: bytes) -> None:
        held = self._let_go(name)
        self._hold(name, digest, number=0 if held is None else held.number)
        if self._provider.held(name) is None:
            self._service.doubt(name)
        else:
            self.tell(name)

    # --- what it is told --------------------------------------------------------------

    def answer(self, question: Ask, answer: Answer) -> None:
        """Answer a question that took its time."""
        self._under_way -= 1
        self._send_answer(question, answer)

    def refuse(self, number: int, error: CentcertError) -> None:
        """Likewise, with an error."""
        self._under_way -= 1
        self._send(refusal(number, error))

    def overheard(self, name: HostName, step: str, text: str, duration_s: float | None) -> None:
        """Tell the worker of a step that was done for a question of its own."""
        self._send(Overheard(name, step, text, duration_s))

    def tell(self, name: HostName) -> None:
        """Tell the worker what answers ``name`` now, if it holds something else.

        Of a ``HostName.wildcard``: likewise for each name that may share it.
        """
        for sharing in tuple(self._sharing.get(name, ())):
            self._tell(sharing)
        self._tell(name)

    def _tell(self, name: HostName) -> None:
        held = self.holds.get(name)
        if held is None:
            return
        credential = self._provider.held(name)
        if credential is None:
            self._let_go(name)
            self._send(Withdrawn(name))
            return
        digest = self._service.digest(credential)
        if digest == held.digest:
            return
        self._let_go(name)
        parts = self._parts(credential, digest)
        self._hold(name, digest, number=self._sent + 1)
        self._send(Changed(name, digest, parts))

    def follow(self) -> None:
        """Tell the worker what is to be followed now."""
        if not self._welcome:
            return
        follows = self._service.follows
        for number in self._following - follows.keys():
            self._send(Unfollow(number))
        for number in follows.keys() - self._following:
            self._send(follows[number][0])
        self._following = set(follows)

    def _send_answer(self, question: Ask, answer: Answer) -> None:
        name, credential = answer
        keep = self._provider.held(name) is credential
        if keep:
            self._let_go(name)
        digest = self._service.digest(credential)
        parts = credential.to_parts() if question.whole else self._parts(credential, digest)
        if keep:
            self._hold(name, digest, number=self._sent + 1)
        self._send(Answered(question.number, name, keep, digest, parts))

    def _parts(self, credential: Credential, digest: bytes) -> Parts | None:
        """Return what is to be sent of a credential: nothing, if another name has brought it."""
        return None if self._credentials[digest] else credential.to_parts()

    def _hold(self, name: HostName, digest: bytes, *, number: int) -> None:
        self.holds[name] = _Hold(digest, number)
        if name.wildcard is not None:
            self._sharing.setdefault(name.wildcard, set()).add(name)
        self._credentials[digest] += 1

    def _let_go(self, name: HostName) -> _Hold | None:
        held = self.holds.pop(name, None)
        if held is None:
            return None
        self._credentials[held.digest] -= 1
        if not self._credentials[held.digest]:
            del self._credentials[held.digest]
        if name.wildcard is not None:
            sharing = self._sharing[name.wildcard]
            sharing.remove(name)
            if not sharing:
                del self._sharing[name.wildcard]
        return held

    def _send(self, message: FromProvider) -> None:
        if self._transport.is_closing():
            return
        self._sent += 1
        self._transport.write(encode(message))
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()


def _is_own_user(peer: socket.socket) -> bool:
    """Ask the kernel who is at the other end (unix(7), SO_PEERCRED)."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(credentials)
    return int(uid) == os.geteuid()
