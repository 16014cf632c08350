"""A few threads for calls that may hang, as those on a dead network mount do.

A thread that hangs in the kernel can be neither ended nor joined. So each call has a
deadline after which nobody waits for it, the threads that hang are counted and
bounded, and none of them keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_WAITING: Final = 4096
"""Calls that wait for a thread; above the number of handshakes a node has in waiting."""


class Late(Exception):
    """The call had not returned at its deadline; it goes on and nobody waits for it."""


class Full(Exception):
    """Every thread hangs in a call past its deadline, or too many calls wait."""


class Closed(Exception):
    """The threads were closed before the call returned."""


class Threads:
    """Runs blocking calls for one event loop.

    Not ``concurrent.futures``: its threads are joined when the interpreter ends, which
    a hanging mount would turn into a process that never does.
    """

    def __init__(self, name: str, *, most: int) -> None:
        self._name = name
        self._most = most
        self._count = 0
        self._closed = False
        self._waiting: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._jobs: set[_Job[Any]] = set()  # that somebody waits for
        self._unfinished = 0  # calls of which it is not known here that they have ended
        # Threads change what follows, each by one operation that is whole by itself.
        self._running: set[_Job[Any]] = set()
        self._ended: deque[_Job[Any]] = deque()
        self._woken: asyncio.AbstractEventLoop | None = None  # to see to those that have ended

    async def run(self, call: Callable[[], T], *, deadline: float) -> T:
        """Return what ``call`` returns, or raise what it raises.

        A cancelled caller leaves the call to its thread; one that has not begun is
        dropped.

        Args:
            call: closes what it opens itself, as its result may be dropped.
            deadline: in the event loop's time.

        Raises:
            Late: the deadline passed.
            Full: there is no thread to be had; raised at once.
            Closed: ``close`` was called.
        """
        loop = asyncio.get_running_loop()
        job = _Job(call, loop, deadline)
        self._submit(job, loop.time())
        alarm = loop.call_at(deadline, job.settle, Late())
        try:
            return await job.future
        finally:
            alarm.cancel()
            self._jobs.discard(job)
            job.forget()

    def close(self) -> None:
        """End every call with ``Closed`` and let the idle threads go."""
        self._closed = True
        for job in self._jobs:
            job.settle(Closed())
        for _ in range(self._count):
            self._waiting.put(None)

    def _submit(self, job: _Job[Any], now: float) -> None:
        if self._closed:
            raise Closed
        hanging = sum(job.deadline <= now for job in self._running.copy())
        if hanging >= self._most or self._waiting.qsize() >= MAX_WAITING:
            raise Full
        if self._unfinished >= self._count and self._count < self._most:
            self._start_thread()
        self._unfinished += 1
        self._jobs.add(job)
        self._waiting.put(job)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process may have no more of them
            if self._count == 0:
                raise Full from None
        else:
            self._count += 1

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._running.add(job)
            job.run()
            self._running.discard(job)
            self._ended.append(job)
            if self._woken is not job.loop:  # one call of the loop sees to many
                self._woken = job.loop
                with suppress(RuntimeError):  # the loop has ended in the meantime
                    job.loop.call_soon_threadsafe(self._settle_ended)
            del job  # and what its call holds open

    def _settle_ended(self) -> None:
        self._woken = None  # first: what ends from now on wakes the loop again
        while self._ended:
            self._unfinished -= 1
            job = self._ended.popleft()
            job.settle(job.error)


class _Job(Generic[T]):
    """One call, and the future that its caller waits for."""

    def __init__(
        self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, deadline: float
    ) -> None:
        self.deadline = deadline
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.error: BaseException | None = None
        self._value: T | None = None
        self._call = call

    def run(self) -> None:
        """Make the call, in a thread."""
        if self.future.done():
            return
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001  it is the caller's, not the thread's
            self.error = error

    def settle(self, error: BaseException | None) -> None:
        """Tell the caller what the call came to, in the loop; one who has gone is not told."""
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._value)  # type: ignore[arg-type]  # T may be None itself

    def forget(self) -> None:
        """Wait no longer; asyncio must not complain of an error that nobody awaits."""
        if not self.future.cancel():
            self.future.exception()
