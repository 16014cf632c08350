import asyncio

import pytest

from centcert.background import Background
from centcert.errors import Closing
from centcert.provider.flights import Flights


async def test_many_wait_for_one_piece_of_work():
    started = []
    done = asyncio.Event()

    async def work(key: str) -> str:
        started.append(key)
        await done.wait()
        return key.upper()

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        waiters = [asyncio.ensure_future(flights.join("a", work)) for _ in range(100)]
        other = asyncio.ensure_future(flights.join("b", work))
        await asyncio.sleep(0)
        assert "a" in flights
        assert len(flights) == 2
        done.set()
        assert await asyncio.gather(*waiters) == ["A"] * 100
        assert await other == "B"
        assert started == ["a", "b"]
        assert await flights.join("a", work) == "A"
    assert started == ["a", "b", "a"]
    assert len(flights) == 0


async def test_a_cancelled_waiter_leaves_the_work_and_the_others_alone():
    done = asyncio.Event()

    async def work(key: str) -> str:
        await done.wait()
        return key

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        first, second = (asyncio.ensure_future(flights.join("a", work)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        done.set()
        assert await second == "a"


async def test_an_error_goes_to_every_waiter_and_is_not_remembered():
    attempts = 0

    async def work(key: str) -> str:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0)
        if attempts == 1:
            raise KeyError(key)
        return key

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        results = await asyncio.gather(
            *(flights.join("a", work) for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [KeyError] * 3
        assert await flights.join("a", work) == "a"


async def test_detached_work_is_joined_by_nobody_else():
    gates = [asyncio.Event(), asyncio.Event()]
    begun = 0

    async def work(key: str) -> str:
        nonlocal begun
        begun += 1
        turn = begun
        await gates[turn - 1].wait()
        return f"{key}{turn}"

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        early = asyncio.ensure_future(flights.join("a", work))
        await asyncio.sleep(0)
        flights.detach("a")
        late = asyncio.ensure_future(flights.join("a", work))
        await asyncio.sleep(0)
        gates[0].set()
        assert await early == "a1"
        assert "a" in flights, "the end of the detached work is not the end of the other"
        gates[1].set()
        assert await late == "a2"


@pytest.mark.parametrize("begun", [False, True])
async def test_waiters_are_told_when_the_work_is_cancelled(begun: bool):  # noqa: FBT001
    async def work(key: str) -> str:
        await asyncio.Event().wait()
        return key

    background = Background()
    async with background as tasks:
        flights: Flights[str, str] = Flights(tasks)
        waiter = asyncio.ensure_future(flights.join("a", work))
        flights.start("a", work)
        if begun:
            await asyncio.sleep(0)
    with pytest.raises(Closing):
        await waiter


async def test_who_leads_does_the_work_itself_for_all():
    started: list[object] = []
    done = asyncio.Event()

    async def work(key: str) -> str:
        started.append(asyncio.current_task())
        await done.wait()
        if key == "bad":
            raise LookupError(key)
        return key.upper()

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        for key, outcome in (("a", "A"), ("bad", LookupError)):
            started.clear()
            done.clear()
            callers = [asyncio.ensure_future(flights.lead(key, work)) for _ in range(3)]
            await asyncio.sleep(0)
            assert key in flights
            callers[1].cancel()
            done.set()
            first, cancelled, last = await asyncio.gather(*callers, return_exceptions=True)
            assert started == callers[:1]
            assert first == last == outcome or type(first) is type(last) is outcome
            assert isinstance(cancelled, asyncio.CancelledError)
            assert len(flights) == 0


async def test_who_waits_for_a_leader_that_is_cancelled_is_told():
    async def work(key: str) -> str:
        await asyncio.Event().wait()
        return key

    async with asyncio.TaskGroup() as tasks:
        flights: Flights[str, str] = Flights(tasks)
        leader, other = (asyncio.ensure_future(flights.lead("a", work)) for _ in range(2))
        await asyncio.sleep(0)
        leader.cancel()
        outcomes = await asyncio.gather(leader, other, return_exceptions=True)
        assert [type(one) for one in outcomes] == [asyncio.CancelledError, Closing]
        assert len(flights) == 0
