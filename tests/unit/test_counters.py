"""Counters of several processes, added up; and who is told what is counted."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from centcert.audience import Audience
from centcert.counters import BOUNDS_S, Counters, Histogram, added_up
from centcert.errors import (
    CentcertError,
    HandshakeFailed,
    NoServerName,
    Overloaded,
    StoreUnavailable,
    UnknownName,
    WrongPassword,
)


def busy(times: int) -> Counters:
    counters = Counters(accepted=times, hits=2 * times)
    for _ in range(times):
        counters.completed("TLSv1.3")
        counters.refused(UnknownName("a.example"))
        counters.looked_up("store")
        counters.fetched("found", 1 / 256)
        counters.decodes.observe(20.0)
    return counters


def test_what_several_processes_counted_adds_up_and_they_stay_as_they_are():
    one, other = busy(2), busy(3)
    other.completed("TLSv1.2")
    other.fetched("failed", 0.0)
    total = added_up([one, other, Counters()])
    expected = busy(5)
    expected.completed("TLSv1.2")
    expected.fetched("failed", 0.0)
    assert total == expected
    assert one == busy(2)
    assert added_up([]) == Counters()


def test_they_travel_between_processes():
    assert msgspec.json.decode(msgspec.json.encode(busy(3)), type=Counters) == busy(3)


def test_a_time_is_counted_up_to_its_bound():
    histogram = Histogram()
    for duration_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, BOUNDS_S[-1], BOUNDS_S[-1] + 1):
        histogram.observe(duration_s)
    assert histogram.counts == [2, 1, *[0] * 10, 1, 1]
    assert histogram.total_s == pytest.approx(0.001 + 0.00101 + 10 + 11)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "found"),
        (UnknownName("a"), "absent"),
        (WrongPassword("a.pfx", "no."), "bad"),
        (Overloaded("no."), "overloaded"),
        (StoreUnavailable("smb://a/b", "no."), "unavailable"),
    ],
)
def test_each_end_of_a_look_up_has_its_outcome(error: CentcertError | None, outcome: str):
    counters = Counters()
    counters.looked_up("store", error)
    assert counters.look_ups == {outcome: {"store": 1}}


def test_refusals_are_told_apart_by_reason_and_alert():
    counters = Counters()
    for error in (NoServerName(), NoServerName(), HandshakeFailed("no.")):
        counters.refused(error)
    assert counters.refusals == {
        "no-server-name": {"missing_extension": 2},
        "handshake-failed": {"": 1},
    }


def test_every_error_has_a_code_of_its_own():
    def below(kind: type[CentcertError]) -> list[type[CentcertError]]:
        return [kind, *[one for sub in kind.__subclasses__() for one in below(sub)]]

    ours = {kind for kind in below(CentcertError) if kind.__module__ == "centcert.errors"}
    codes = {kind.code for kind in ours}
    assert len(codes) == len(ours)
    assert all(code.islower() for code in codes)


# --- an audience ------------------------------------------------------------------------


def is_followed(audience: Audience) -> bool:
    return audience.steps is not None


def test_steps_are_told_only_while_somebody_follows():
    news: list[object] = []
    followed: list[object] = []
    audience = Audience(news.append)
    assert not is_followed(audience)
    audience("before")
    with audience.following(followed.append):
        assert audience.steps is not None
        audience.steps("step")
        audience("news")
        with audience.following(lambda _: None):
            pass
        assert is_followed(audience)
    assert not is_followed(audience)
    audience("after")
    assert news == ["before", "news", "after"]
    assert followed == ["step", "news"]


def test_a_plain_listener_is_told_everything():
    told: list[object] = []
    audience = Audience.of(told.append)
    assert audience.steps is not None
    audience.steps("step")
    audience("news")
    assert told == ["step", "news"]
    assert Audience.of(audience) is audience
    assert Audience.of(None).steps is None


async def test_who_fails_hears_on_and_keeps_nobody_else_from_hearing():
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    def fail(event: object) -> None:
        raise ValueError(event)

    told: list[object] = []
    audience = Audience(fail, told.append)
    audience("news")
    audience("more")
    assert told == ["news", "more"]
    assert [fault["message"] for fault in faults] == ["The listener failed at str"] * 2
