"""The simulation of farms: its sums by hand, its bounds, its seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bench.simulation import (
    CREDENTIAL_BYTES,
    ENTRY_BYTES,
    Day,
    Farm,
    popularity,
    refresh_for,
    simulate_node,
    staleness,
    store_load,
)

SMALL = Farm(nodes=10, names=50, visits_s=1.0, kept=100)


def test_popularity_is_zipf():
    assert list(popularity(4)) == pytest.approx([1, 1 + 1 / 2, 1 + 1 / 2 + 1 / 3, 25 / 12])


def test_the_same_seed_is_the_same_day():
    assert simulate_node(SMALL, 2, seed=3) == simulate_node(SMALL, 2, seed=3)
    tight = replace(SMALL, kept=5)
    assert simulate_node(tight, 2, seed=3) != simulate_node(tight, 2, seed=4)


def test_with_room_for_all_each_name_is_asked_for_once():
    day = simulate_node(SMALL, 2)
    assert day.held == 50
    assert day.first_hour == 50 / 3600
    assert day.last_hour == 0


def test_without_room_what_is_unused_for_longest_is_forgotten():
    tight = simulate_node(replace(SMALL, kept=10), 2)
    assert tight.held == 10
    # By Che's approximation for such a memory; to forget what came first would be 0.55.
    assert tight.last_hour == pytest.approx(0.493, abs=0.03)
    one = simulate_node(replace(SMALL, kept=1), 2)
    # Two visits in a row to the same name: the sum of the squared shares, 0.08.
    assert one.last_hour == pytest.approx(1 - 0.08, abs=0.03)


def test_the_load_of_the_store_by_hand():
    farm = Farm(nodes=10, names=1000, visits_s=100, refresh_s=200, lifetime_s=10_000)
    load = store_load(farm, Day(first_hour=0.5, last_hour=0.01, held=500))
    # 10 nodes x (100 visits x 1 % + 0.1 renewals x half the names held)
    assert load.fetches == pytest.approx(10 * (1 + 0.05))
    assert load.notices == pytest.approx(10 * 0.1)
    assert load.listing_bytes == pytest.approx(10 * 1000 * ENTRY_BYTES / 200)
    assert load.listing_pages == pytest.approx(10 * 1 / 200)
    assert refresh_for(farm, load.listing_bytes) == pytest.approx(200)


def test_a_listing_of_many_names_takes_many_pages():
    farm = Farm(nodes=1, names=1_000_000, refresh_s=1)
    assert store_load(farm, Day(0, 0, 0)).listing_pages == 140


def test_who_is_told_waits_for_the_notice_and_the_queue():
    farm = Farm(nodes=1_000, names=1, fetches_s=1_000, notice_s=0.01, lost=0)
    waits = staleness(farm, 20_000)
    assert sum(waits) / len(waits) == pytest.approx(0.01 + 0.5, rel=0.05)
    assert staleness(farm, 5) == waits[:5]


def test_who_is_not_told_waits_for_the_listing():
    farm = Farm(nodes=1, names=1, lost=1, refresh_s=60)
    waits = staleness(farm, 5_000)
    assert max(waits) <= 60
    assert sum(waits) / len(waits) == pytest.approx(30, rel=0.05)


def test_as_many_are_lost_as_was_said():
    farm = Farm(nodes=1, names=1, lost=0.25, refresh_s=1_000_000)
    late = Counter(wait > 10 for wait in staleness(farm, 4_000))
    assert late[True] / 4_000 == pytest.approx(0.25, abs=0.03)


def test_the_default_memory_keeps_seventy_thousand_names():
    assert Farm(1, 1).kept == 256 * 1024 * 1024 // CREDENTIAL_BYTES == 72_550
