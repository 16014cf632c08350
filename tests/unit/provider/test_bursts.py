"""Notifications of one change are one change."""

from __future__ import annotations

import pytest

from centcert.provider.bursts import LONGEST_S, QUIET_S, Bursts


def test_a_key_is_due_once_nothing_more_is_told_of_it():
    bursts = Bursts()
    for now in (100.0, 100.02, 100.04):
        bursts.note("www", now)
        assert not bursts.take(now)
    assert bursts.next_due() == pytest.approx(100.04 + QUIET_S)
    assert not bursts.take(100.04 + QUIET_S - 0.001)
    assert len(bursts) == 1
    assert bursts.take(100.04 + QUIET_S + 0.001) == ["www"], "once"
    assert not bursts
    assert not bursts.take(200.0)


def test_a_writer_that_is_never_done_does_not_put_it_off():
    bursts = Bursts()
    now, taken = 0.0, list[float]()
    while len(taken) < 3:
        bursts.note("www", now)
        taken += [now] * len(bursts.take(now))
        now += QUIET_S / 5
        assert now < 4 * LONGEST_S
    assert taken[0] == pytest.approx(LONGEST_S, abs=QUIET_S)


def test_others_are_neither_hurried_nor_kept_waiting():
    bursts = Bursts()
    bursts.note("one", 0.0)
    bursts.note("other", 0.01)
    bursts.note("one", 0.03)
    assert bursts.next_due() == pytest.approx(0.01 + QUIET_S)
    assert bursts.take(0.02 + QUIET_S) == ["other"]
    assert bursts.take(0.04 + QUIET_S) == ["one"]
