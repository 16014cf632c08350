"""Decode blobs in child processes: it takes 1 to 50 ms and holds the GIL meanwhile.

It decides how many may wait, how long one may take, and what becomes of a child that a
file has brought down. What is right or wrong with a file, ``credential`` decides.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self, cast

import msgspec
from cryptography import x509

from centcert.credential import MAX_BLOB_BYTES, Credential
from centcert.decoder_process import HEADER_BYTES, Refused, Reply, Request, frame
from centcert.errors import BadBlob, BlobTooCostly, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from centcert.stores.base import Blob

START_S: Final = 30.0
"""How long a child may take to start: 0.2 s as a rule, more on a machine under load."""

MAX_SHARED_ISSUERS: Final = 256
"""CA certificates that credentials share; the web's own number is a few dozen."""

AHEAD: Final = 8
"""Files that a child is sent before it has answered the first: under load both sides then do
several each time they wake, which costs half of one at a time."""

_COMMAND: Final = ("-P", "-m", "centcert.decoder_process")  # -P: not from the working directory
_ATTEMPTS: Final = 2  # a child may have ended for a reason of its own, such as the OOM killer
_MAX_REPLY_BYTES: Final = 4 * MAX_BLOB_BYTES
_END_S: Final = 5.0
_REFUSALS: Final = {kind.__name__: kind for kind in BadBlob.__subclasses__()}


class Decoder:
    """Decodes blobs, each in one of ``processes`` children; an async context manager.

    Concurrency: any number of ``decode`` calls at once, of which ``max_waiting`` wait for
    a child. Cancellation: a cancelled call leaves the others and the children alone.
    Works with asyncio's loops and with uvloop. To be entered after any fork.
    """

    def __init__(
        self, *, processes: int = 1, max_waiting: int = 256, deadline_s: float = 10.0
    ) -> None:
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._waiting: dict[_Job, None] = {}  # for a child, the first in front
        self._unanswered: set[_Job] = set()
        self._wanted = asyncio.Event()  # some wait, and not every child runs
        self._children: list[_Child | None] = [None] * processes
        self._workers: list[asyncio.Task[None]] = []
        self._replies = msgspec.msgpack.Decoder[Reply](Reply)
        self._load_issuer = lru_cache(MAX_SHARED_ISSUERS)(x509.load_der_x509_certificate)

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        """Return the credential in ``blob``; the first of ``passwords`` that fits opens it.

        Raises:
            BadBlob: as ``credential.decode``; also ``BlobTooCostly``: not decoded within
                ``deadline_s`` of its turn, or a child ended over it twice.
            Overloaded: ``max_waiting`` blobs wait already, no child can be started, or
                the decoder is closed.
        """
        if not self._workers:
            raise _closed()
        if len(self._unanswered) >= self._max_waiting + len(self._children):
            raise Overloaded(f"{self._max_waiting} certificate files wait to be decoded already.")
        request = Request(blob.key, blob.data, tuple(passwords), self._deadline_s)
        job = _Job(
            blob.key,
            frame(msgspec.msgpack.encode(request)),
            self._deadline_s,
            asyncio.get_running_loop().create_future(),
        )
        self._unanswered.add(job)
        self._waiting[job] = None
        self._hand_out()
        try:
            return await job.answer
        finally:
            self._unanswered.discard(job)
            self._waiting.pop(job, None)

    async def close(self) -> None:
        """End the children, within seconds. Calls under way end with ``Overloaded``."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        for job in self._unanswered:
            job.fail(_closed())
        await asyncio.gather(*workers, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in self._children if child is not None))

    async def __aenter__(self) -> Self:
        starts = (self._start(number) for number in range(len(self._children)))
        try:
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        failure = next(filter(None, outcomes), None)
        if failure is not None:
            await self.close()
            raise failure
        self._workers = [
            asyncio.create_task(self._keep_running(number), name="centcert decoder")
            for number in range(len(self._children))
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- while all is well: callbacks of the event loop, no task ---------------------

    def _hand_out(self) -> None:
        while self._waiting:
            if None in self._children:
                self._wanted.set()
            free = [child for child in self._children if child is not None and child.is_free]
            if not free:
                return
            job = next(iter(self._waiting))
            del self._waiting[job]
            min(free, key=_load).send(job)

    def _answer(self, job: _Job, reply: bytes) -> None:
        """Take what a child says of a file.

        Raises:
            ValueError: it is nonsense.
        """
        match self._replies.decode(reply):
            case Refused(error, sentence):
                job.fail(_REFUSALS.get(error, BadBlob)(job.key, sentence))
            case decoded:
                credential = Credential.from_parts(decoded.parts, load_issuer=self._load_issuer)
                if not job.answer.done():
                    job.answer.set_result(credential)
        self._hand_out()

    # --- when a child ends -------------------------------------------------------------

    async def _keep_running(self, number: int) -> None:
        """Replace a child that has ended, once somebody wants one."""
        while True:
            child = self._children[number]
            if child is not None:
                failure = await child.failure
                self._take_back(child.unanswered, failure)
                self._hand_out()  # to the other children
                await child.end()
                self._children[number] = None
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                await self._start(number)
            except Overloaded as error:
                if self._waiting:
                    job = next(iter(self._waiting))
                    del self._waiting[job]
                    job.fail(error)
            else:
                self._hand_out()

    async def _start(self, number: int) -> None:
        child = self._children[number] = _Child(self._answer)
        try:
            await child.start()
        except BaseException:
            await child.end()
            self._children[number] = None
            raise

    def _take_back(self, unanswered: deque[_Job], failure: Exception) -> None:
        """Let what a child has left wait again, but for a file that has ended children twice.

        It answers in order, so only the first of these can have brought it down.
        """
        if unanswered:
            job = unanswered[0]
            job.crashes += 1
            if isinstance(failure, TimeoutError):
                job.fail(
                    BlobTooCostly(
                        job.key,
                        f"it is not decoded within {job.deadline_s:g} s: export it again with"
                        " fewer iterations",
                    )
                )
            elif job.crashes == _ATTEMPTS:
                job.fail(
                    BlobTooCostly(
                        job.key,
                        "it brought down the process that decodes it, twice: export it again",
                    )
                )
        left = (job for job in unanswered if not job.answer.done())
        self._waiting = dict.fromkeys((*left, *self._waiting))


@dataclass(slots=True, eq=False)
class _Job:
    """A file, and who waits for it. ``crashes``: how often a child has ended over it."""

    key: str
    request: bytes = field(repr=False)
    deadline_s: float
    answer: asyncio.Future[Credential]
    crashes: int = 0

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Child(asyncio.SubprocessProtocol):
    """One process and its two pipes, from its start to its end.

    Args:
        answered: is given each job with its reply, in order; raises ``ValueError`` if that is
            nonsense.

    Attributes:
        unanswered: what was sent to it; the first is what it works on.
        failure: why it is of no use any more: ``TimeoutError``: the deadline of the first has
            passed; anything else: it has ended, or talks nonsense.
    """

    def __init__(self, answered: Callable[[_Job, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.unanswered: deque[_Job] = deque()
        self.failure: asyncio.Future[Exception] = loop.create_future()
        self._answered = answered
        self._received = bytearray()
        self._transport: asyncio.SubprocessTransport | None = None
        self._to_child: asyncio.WriteTransport | None = None
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_free(self) -> bool:
        """Whether it may be sent one more."""
        return self._ready.is_set() and not self.failure.done() and len(self.unanswered) < AHEAD

    async def start(self) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            Overloaded: it does not start: no memory or no process is left.
        """
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                sys.executable,
                *_COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent
            )
            async with asyncio.timeout(START_S):
                await self._ready.wait()
        except Exception as error:  # loops differ in what they raise without memory or threads
            raise _not_started(error) from error
        if self.failure.done():
            raise _not_started(self.failure.result())

    def send(self, job: _Job) -> None:
        """Send it one more; it ``is_free``."""
        assert self._to_child is not None  # noqa: S101  it is ready
        self.unanswered.append(job)
        self._to_child.write(job.request)
        if len(self.unanswered) == 1:
            self._begin_turn()

    async def end(self) -> None:
        """Kill the process, if there is one, and wait for its end: it holds no state."""
        self._fail(EOFError())
        if self._transport is None:
            return
        with suppress(ProcessLookupError):
            self._transport.kill()
        self._transport.close()
        with suppress(TimeoutError):  # a process in the kernel's hands is left to it
            async with asyncio.timeout(_END_S):
                await self._ended.wait()

    # --- as asyncio.SubprocessProtocol ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what leads to the process."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._to_child = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002  there is one
        """Take apart what the process says: it is ready, then a reply to each request."""
        self._received += data
        try:
            while not self.failure.done() and (message := self._next_message()) is not None:
                if self._ready.is_set():
                    self._take(message)
                else:
                    self._ready.set()
        except (ValueError, IndexError) as error:
            self._fail(error)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """Take it for the end: whoever lives holds on to its pipes."""
        self._fail(EOFError())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Take note that the process has ended, and is no more."""
        self._fail(EOFError())
        self._ended.set()

    def _next_message(self) -> bytes | None:
        end = HEADER_BYTES + int.from_bytes(self._received[:HEADER_BYTES])
        if end > _MAX_REPLY_BYTES:
            raise ValueError(end)
        if len(self._received) < max(end, HEADER_BYTES):
            return None
        message = bytes(self._received[HEADER_BYTES:end])
        del self._received[:end]
        return message

    def _take(self, reply: bytes) -> None:
        job = self.unanswered.popleft()
        self._begin_turn()
        try:
            self._answered(job, reply)
        except ValueError:
            self.unanswered.appendleft(job)
            raise
        except Exception as error:  # noqa: BLE001  it belongs to who waits; the child is well
            job.fail(error)

    def _begin_turn(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.unanswered and not self.failure.done():
            loop = asyncio.get_running_loop()
            deadline_s = self.unanswered[0].deadline_s
            self._alarm = loop.call_later(deadline_s, self._fail, TimeoutError())

    def _fail(self, error: Exception) -> None:
        if not self.failure.done():
            self.failure.set_result(error)
        self._ready.set()  # whoever waits for it looks at that
        self._begin_turn()


def _load(child: _Child) -> int:
    return len(child.unanswered)


def _not_started(error: Exception) -> Overloaded:
    return Overloaded(f"The process that decodes certificate files does not start: {error!r}.")


def _closed() -> Overloaded:
    return Overloaded("The decoder of certificate files is not running.")
