"""Threads that may hang: deadlines, bounds, and an end of the process all the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from centcert.stores import threads
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[Threads]:
    pool = Threads("test", most=2)
    yield pool
    pool.close()


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def later(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def until_begun(event: threading.Event) -> None:
    async with asyncio.timeout(20):
        while not event.is_set():
            await asyncio.sleep(0.001)


async def test_results_and_errors_come_back(pool: Threads):
    def fail() -> None:
        raise LookupError("lost")

    nothing: list[int | None] = [None]
    assert await pool.run(lambda: 7, deadline=later(20)) == 7
    assert await pool.run(lambda: nothing[0], deadline=later(20)) is None
    with pytest.raises(LookupError, match="lost"):
        await pool.run(fail, deadline=later(20))
    assert await pool.run(threading.get_ident, deadline=later(20)) != threading.get_ident()


async def test_no_more_threads_than_allowed(pool: Threads):
    running, most, lock = 0, 0, threading.Lock()

    def count() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
        return threading.get_ident()

    calls = [pool.run(count, deadline=later(20)) for _ in range(100)]
    assert len(set(await asyncio.gather(*calls))) == 2
    assert most == 2


async def test_a_call_past_its_deadline_is_given_up(pool: Threads, hanging: threading.Event):
    with pytest.raises(Late):
        await pool.run(hanging.wait, deadline=later(0.02))
    assert await pool.run(lambda: 7, deadline=later(20)) == 7


async def test_a_timeout_of_the_call_is_not_that_of_the_deadline(pool: Threads):
    def time_out() -> None:
        raise TimeoutError  # as os.read does with ETIMEDOUT

    with pytest.raises(TimeoutError):
        await pool.run(time_out, deadline=later(20))


async def test_all_threads_hanging_is_said_at_once(pool: Threads, hanging: threading.Event):
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        hanging.wait()

    late = [asyncio.ensure_future(pool.run(hang, deadline=later(1))) for _ in range(2)]
    for _ in late:
        await asyncio.to_thread(begun.acquire)
    assert [type(error) for error in await asyncio.gather(*late, return_exceptions=True)] == [
        Late,
        Late,
    ]
    with pytest.raises(Full):
        await pool.run(lambda: 7, deadline=later(20))
    hanging.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await pool.run(lambda: 7, deadline=later(20)) == 7
                break
            except Full:
                await asyncio.sleep(0.001)


async def test_a_cancelled_caller_that_hangs_is_counted_too(
    pool: Threads, hanging: threading.Event
):
    for _ in range(2):
        begun = threading.Event()
        call = asyncio.ensure_future(
            pool.run(lambda begun=begun: (begun.set(), hanging.wait()), deadline=later(1))  # type: ignore[misc]
        )
        await until_begun(begun)
        call.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(Full):  # noqa: PT012  once their deadline has passed; it waits until then
            while True:
                with suppress(Late):
                    await pool.run(lambda: 7, deadline=later(0.05))


async def test_calls_wait_for_a_thread_until_their_deadline(
    pool: Threads, hanging: threading.Event
):
    slow = [asyncio.ensure_future(pool.run(hanging.wait, deadline=later(20))) for _ in range(2)]
    await asyncio.sleep(0)
    made: list[int] = []
    with pytest.raises(Late):
        await pool.run(lambda: made.append(1), deadline=later(0.02))
    hanging.set()
    assert await asyncio.gather(*slow) == [True, True]
    assert await pool.run(lambda: 7, deadline=later(20)) == 7
    assert made == []  # a call that was given up before it began is never made


async def test_too_many_waiting_calls_are_refused(
    pool: Threads, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "MAX_WAITING", 3)
    calls = [asyncio.ensure_future(pool.run(hanging.wait, deadline=later(20))) for _ in range(10)]
    answers = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.05)
    hanging.set()
    outcomes = await answers
    assert sum(isinstance(outcome, Full) for outcome in outcomes) in range(5, 8)
    assert all(outcome is True or isinstance(outcome, Full) for outcome in outcomes)


async def test_closing_ends_every_call(pool: Threads, hanging: threading.Event):
    calls = [asyncio.ensure_future(pool.run(hanging.wait, deadline=later(20))) for _ in range(5)]
    await asyncio.sleep(0.01)
    pool.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, Closed) for outcome in outcomes)
    with pytest.raises(Closed):
        await pool.run(lambda: 7, deadline=later(20))


async def test_closing_lets_the_threads_go():
    pool = Threads("short-lived", most=4)
    await asyncio.gather(*(pool.run(lambda: None, deadline=later(20)) for _ in range(20)))
    pool.close()
    async with asyncio.timeout(20):
        while any(thread.name == "short-lived" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)


async def test_no_thread_to_be_had(pool: Threads, monkeypatch: pytest.MonkeyPatch):
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(Full):
            await pool.run(lambda: 7, deadline=later(20))
    assert await pool.run(lambda: 7, deadline=later(20)) == 7


def test_a_hanging_thread_does_not_keep_the_process():
    program = """
        import asyncio, threading
        from centcert.stores.threads import Late, Threads

        async def main():
            try:
                deadline = asyncio.get_running_loop().time() + 0.05
                await Threads("hangs", most=1).run(threading.Event().wait, deadline=deadline)
            except Late:
                print("late")

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True, text=True)
    assert done.stdout == "late\n"
    assert done.stderr == ""
