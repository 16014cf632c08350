"""Signs of life: who gives none for too many rounds hangs."""

from __future__ import annotations

import asyncio

from centcert.workers.signs import Alive, Rhythm, Signs, giving_signs

RHYTHM = Rhythm(every_s=5.0, rounds=3, first_rounds=10)


def silent(signs: Signs, rounds: int) -> list[tuple[bool, bool]]:
    """What is said of it after each of so many rounds."""
    said = []
    for _ in range(rounds):
        signs.count_round()
        said.append((signs.is_hung, signs.is_stuck))
    return said


def test_whoever_is_silent_for_too_many_rounds_hangs_and_then_is_stuck():
    signs = Signs(RHYTHM)
    signs.begun()
    lives, hangs, sticks = (False, False), (True, False), (True, True)
    assert silent(signs, 7) == [lives] * 2 + [hangs] * 3 + [sticks] * 2
    assert signs.limit_s == 15.0


def test_each_sign_of_life_counts_from_the_beginning():
    signs = Signs(RHYTHM)
    signs.begun()
    for _ in range(100):
        assert not any(hung for hung, _ in silent(signs, 2))
        signs.heard()


def test_a_beginning_may_take_longer():
    signs = Signs(RHYTHM)
    assert signs.limit_s == 50.0
    assert [hung for hung, _ in silent(signs, 10)] == [False] * 9 + [True]


def test_signs_come_from_the_event_loop_to_its_last_turn():
    given: list[Alive] = []

    async def until(number: int) -> None:
        while len(given) < number:
            await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        runner.run(giving_signs(until(3), given.append, 0.0))
        runner.run(until(6))  # as what is left to do at the end: threads are waited for
