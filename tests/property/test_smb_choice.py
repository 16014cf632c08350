"""Which server is asked, when again, and when a second one: for every history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from centcert.stores.smb.choice import (
    HEDGE_BURST,
    HEDGE_SHARE,
    CoolDown,
    HedgeBudget,
    Standing,
    choose,
)

JITTER = st.floats(1.0, 1.2)
STEPS = st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["failed", "succeeded"]), JITTER))


@given(st.lists(st.sampled_from(list(Standing)), max_size=8))
def test_servers_are_asked_by_standing_and_then_by_preference(standings: list[Standing]):
    choice = choose(standings)
    assert set(choice.ask) == {i for i, s in enumerate(standings) if s is not Standing.RESTING}
    order = [(standings[i] is not Standing.CONNECTED, i) for i in choice.ask]
    assert order == sorted(order)


@given(st.lists(st.sampled_from(list(Standing)), max_size=8))
def test_only_what_has_no_connection_is_connected_behind_the_request(standings: list[Standing]):
    choice = choose(standings)
    ready = [i for i, s in enumerate(standings) if s is Standing.READY]
    asked_first = choice.ask[:1]
    assert [*choice.connect] == [i for i in ready if i not in asked_first]


@given(STEPS)
def test_a_rest_doubles_up_to_its_bound_and_ends(steps: list[tuple[float, str, float]]):
    rest, now, failures = CoolDown(1.0, 30.0), 0.0, 0
    for pause_s, what, jitter in steps:
        now += pause_s
        if what == "succeeded":
            rest.succeeded()
            failures = 0
            assert not rest.rests(now)
        elif rest.rests(now):
            left_s = rest.left_s(now)
            rest.failed(now, jitter)
            assert rest.left_s(now) == left_s, "a failure within a rest is the same failure"
        else:
            rest.failed(now, jitter)
            least_s = min(2.0**failures, 30.0)
            assert least_s * 0.999 <= rest.left_s(now) <= least_s * 1.2001
            failures += 1
        assert not rest.rests(now + 36.001)


@given(st.lists(st.booleans(), max_size=500))
def test_a_second_server_is_asked_for_no_more_than_its_share(wants: list[bool]):
    budget, hedges = HedgeBudget(), 0
    for requests, wanted in enumerate(wants, 1):
        budget.asked()
        hedges += wanted and budget.take()
        assert hedges <= HEDGE_BURST + HEDGE_SHARE * requests + 1e-6


def test_the_share_comes_back_with_requests():
    budget = HedgeBudget()
    assert sum(1 for _ in iter(budget.take, False)) == HEDGE_BURST
    for _ in range(11):
        budget.asked()
    assert budget.take()
    assert not budget.take()
