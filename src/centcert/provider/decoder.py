"""Decode blobs in child processes: it takes 1 to 50 ms and holds the GIL meanwhile.

It decides how many may wait, how long one may take, and what becomes of a child that a
file has brought down. What is right or wrong with a file, ``credential`` decides.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self

import msgspec
from cryptography import x509

from centcert.credential import MAX_BLOB_BYTES, Credential
from centcert.decoder_process import HEADER_BYTES, Refused, Reply, Request, frame
from centcert.errors import BadBlob, BlobTooCostly, CentcertError, Overloaded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from centcert.stores.base import Blob

START_S: Final = 30.0
"""How long a child may take to start: 0.2 s as a rule, more on a machine under load."""

MAX_SHARED_ISSUERS: Final = 256
"""CA certificates that credentials share; the web's own number is a few dozen."""

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
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(max_waiting)
        self._unanswered: set[asyncio.Future[Credential]] = set()
        self._children = [_Child() for _ in range(processes)]
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
        request = Request(blob.key, blob.data, tuple(passwords), self._deadline_s)
        job = _Job(
            blob.key,
            frame(msgspec.msgpack.encode(request)),
            asyncio.get_running_loop().create_future(),
        )
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            raise Overloaded(
                f"{self._jobs.maxsize} certificate files wait to be decoded already."
            ) from None
        self._unanswered.add(job.answer)
        try:
            return await job.answer
        finally:
            self._unanswered.discard(job.answer)

    async def close(self) -> None:
        """End the children, within seconds. Calls under way end with ``Overloaded``."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(_closed())
        await asyncio.gather(*workers, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in self._children))

    async def __aenter__(self) -> Self:
        starts = (child.start() for child in self._children)
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
            asyncio.create_task(self._work(child), name="centcert decoder")
            for child in self._children
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _work(self, child: _Child) -> None:
        while True:
            job = await self._jobs.get()
            if job.answer.done():  # its waiter has gone
                continue
            try:
                credential = await self._decode(job, child)
            except CentcertError as error:
                job.fail(error)
            except Exception as error:  # noqa: BLE001  the top of a task: the next job must go on
                await child.end()
                job.fail(error)
            else:
                if not job.answer.done():
                    job.answer.set_result(credential)

    async def _decode(self, job: _Job, child: _Child) -> Credential:
        for _ in range(_ATTEMPTS):
            await child.start()
            try:
                async with asyncio.timeout(self._deadline_s):
                    reply = await child.exchange(job.request)
                return self._credential(reply, job.key)
            except TimeoutError:
                await child.end()
                raise BlobTooCostly(
                    job.key,
                    f"it is not decoded within {self._deadline_s:g} s: export it again with fewer"
                    " iterations",
                ) from None
            except (OSError, EOFError, ValueError):  # it ended, or talks nonsense
                await child.end()
        raise BlobTooCostly(
            job.key, "it brought down the process that decodes it, twice: export it again"
        )

    def _credential(self, reply: bytes, key: str) -> Credential:
        match self._replies.decode(reply):
            case Refused(error, sentence):
                raise _REFUSALS.get(error, BadBlob)(key, sentence)
            case decoded:
                return Credential.from_parts(decoded.parts, load_issuer=self._load_issuer)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    key: str
    request: bytes = field(repr=False)
    answer: asyncio.Future[Credential]

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Child:
    """One process and its two pipes; started again when it has ended."""

    def __init__(self) -> None:
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process unless it runs, and wait until it is ready.

        Raises:
            Overloaded: it does not start: no memory or no process is left.
        """
        if self._process is not None:
            if self._process.returncode is None:
                return
            await self.end()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent
            )
            async with asyncio.timeout(START_S):
                await self._receive(self._process)
        except (OSError, EOFError, ValueError) as error:
            await self.end()
            raise Overloaded(
                f"The process that decodes certificate files does not start: {error!r}."
            ) from error

    async def exchange(self, request: bytes) -> bytes:
        """Send a framed request and return the reply.

        Raises:
            OSError, EOFError: the process has ended.
            ValueError: the reply is larger than any right one.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError
        process.stdin.write(request)
        await process.stdin.drain()
        return await self._receive(process)

    async def end(self) -> None:
        """Kill the process, if there is one, and wait for its end: it holds no state."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        with suppress(OSError):  # TimeoutError too: a process in the kernel's hands is left to it
            async with asyncio.timeout(_END_S):
                await process.stdout.read()
                await process.wait()

    @staticmethod
    async def _receive(process: Process) -> bytes:
        if process.stdout is None:
            raise EOFError
        length = int.from_bytes(await process.stdout.readexactly(HEADER_BYTES))
        if length > _MAX_REPLY_BYTES:
            raise ValueError(length)
        return await process.stdout.readexactly(length)


def _closed() -> Overloaded:
    return Overloaded("The decoder of certificate files is not running.")
