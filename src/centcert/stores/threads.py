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
        self._idle = 0
        self._closed = False
        self._waiting: deque[_Job[Any]] = deque()
        self._running: set[_Job[Any]] = set()
        self._wake = threading.Condition()  # guards all of the above

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
        alarm = loop.call_at(deadline, job.settle, None, Late())
        try:
            return await job.future
        finally:
            alarm.cancel()
            job.forget()

    def close(self) -> None:
        """End every call with ``Closed`` and let the idle threads go."""
        with self._wake:
            self._closed = True
            jobs = (*self._waiting, *self._running)
            self._waiting.clear()
            self._wake.notify_all()
        for job in jobs:
            job.settle(None, Closed())

    def _submit(self, job: _Job[Any], now: float) -> None:
        with self._wake:
            if self._closed:
                raise Closed
            hanging = sum(job.deadline <= now for job in self._running)
            if hanging >= self._most or len(self._waiting) >= MAX_WAITING:
                raise Full
            if self._idle <= len(self._waiting) and self._count < self._most:
                self._start_thread()
            self._waiting.append(job)
            self._wake.notify()

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
        while True:
            with self._wake:
                self._idle += 1
                self._wake.wait_for(lambda: self._waiting or self._closed)
                self._idle -= 1
                if self._closed:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
            job.run()
            with self._wake:
                self._running.discard(job)
            del job  # and what its call holds open


class _Job(Generic[T]):
    """One call, and the future that its caller waits for."""

    def __init__(
        self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, deadline: float
    ) -> None:
        self.deadline = deadline
        self.future: asyncio.Future[T] = loop.create_future()
        self._call = call
        self._loop = loop

    def run(self) -> None:
        """Make the call, in a thread."""
        if self.future.done():
            return
        value, error = None, None
        try:
            value = self._call()
        except BaseException as raised:  # noqa: BLE001  it is the caller's, not the thread's
            error = raised
        with suppress(RuntimeError):  # the loop has ended in the meantime
            self._loop.call_soon_threadsafe(self.settle, value, error)

    def settle(self, value: T | None, error: BaseException | None) -> None:
        """Tell the caller, in the loop; one who has gone is not told."""
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)  # type: ignore[arg-type]  # T may be None itself

    def forget(self) -> None:
        """Wait no longer; asyncio must not complain of an error that nobody awaits."""
        if not self.future.cancel():
            self.future.exception()
