"""How the store does, and when what it holds expires."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from centcert.errors import (
    CentcertError,
    Overloaded,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreDisabled,
    StoreInsecure,
    StoreUnavailable,
    StoreUnwatchable,
)
from centcert.provider.events import Fetched, FetchFailed, Listed, WatchFailed, Watching
from centcert.provider.expiry import MAX_SOONEST, SLICE, Expiring, Expiry, expiry_of
from centcert.provider.health import StoreHealth

if TYPE_CHECKING:
    from centcert.credential import Credential

URL = "smb://fs/certs"
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StoreUnavailable(URL, "no."), "unreachable"),
        (StoreAuthenticationFailed(URL, "no."), "denied"),
        (StoreInsecure(URL, "no."), "insecure"),
        (StoreBusy(URL, "later."), "reachable"),
        (StoreUnwatchable(URL, "no changes."), "reachable"),
        (StoreDisabled(URL), "disabled"),
        (StoreDenied(URL, "not this file."), "reachable"),
        (Overloaded("no."), "reachable"),
    ],
)
def test_what_a_failure_says_about_the_store(error: CentcertError, state: str):
    for event in (FetchFailed("a.pfx", 0.1, error), WatchFailed(error)):
        health = StoreHealth()
        assert health.state == "unasked"
        health.note(Fetched("a.pfx", 0.1, None), 1.0)
        health.note(event, 2.0)
        assert (health.state, health.since) == (state, 1.0 if state == "reachable" else 2.0)


def test_since_when_it_is_reachable_and_watched():
    health = StoreHealth()
    health.note(Watching(), 1.0)
    health.note(Listed({"a.pfx": "1", "b.pfx": "1"}.keys()), 2.0)
    health.note(Fetched("a.pfx", 0.1, 5), 3.0)
    assert health == StoreHealth("reachable", 1.0, watched=True, listed_at=2.0, files=2)
    health.note(WatchFailed(StoreUnavailable(URL, "no.")), 4.0)
    health.note(FetchFailed("a.pfx", 0.1, StoreUnavailable(URL, "no.")), 5.0)
    assert health == StoreHealth("unreachable", 4.0, watched=False, listed_at=2.0, files=2)
    health.note(Listed({"a.pfx": "1"}.keys()), 6.0)
    assert health == StoreHealth("reachable", 6.0, watched=False, listed_at=6.0, files=1)


@dataclasses.dataclass(frozen=True)
class Certificate:
    key: str
    not_after: float


def certificates(*days: float) -> list[Credential]:
    return [Certificate(f"{day:g}.pfx", day * DAY_S) for day in days]  # type: ignore[misc]


async def test_certificates_are_counted_by_how_soon_they_expire():
    expiry = await expiry_of(certificates(40, 30, 29, 7, 6, 1, 0.5, 0, -1), 0.0)
    assert expiry.certificates == 9
    assert expiry.expired == 2
    assert expiry.within_days == {1: 2, 7: 4, 30: 6}
    assert [one.key for one in expiry.soonest][:3] == ["-1.pfx", "0.pfx", "0.5.pfx"]


async def test_only_the_first_to_expire_are_named_however_many_there_are():
    count = 2 * SLICE + 100
    many = certificates(*range(1, count, 2), *range(count, 0, -2))  # at both ends
    expiry = await expiry_of(many, 0.0)
    assert expiry.certificates == count
    wanted = tuple(Expiring(f"{day}.pfx", day * DAY_S) for day in range(1, MAX_SOONEST + 1))
    assert expiry.soonest == wanted
    assert await expiry_of([], 0.0) == Expiry(0, 0, {1: 0, 7: 0, 30: 0}, ())
