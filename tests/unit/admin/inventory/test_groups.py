from __future__ import annotations

from datetime import UTC, datetime

import pytest

from centcert.admin.inventory.groups import expiry_group


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "not_after", "group"),
    [
        # A Wednesday.
        ("2026-11-18 12:00:00", "2026-11-18 11:59:59", "expired"),
        ("2026-11-18 12:00:00", "2026-11-18 12:00:00", "tomorrow"),
        ("2026-11-18 12:00:00", "2026-11-19 23:59:59", "tomorrow"),
        ("2026-11-18 12:00:00", "2026-11-20 00:00:00", "this week"),
        ("2026-11-18 12:00:00", "2026-11-22 23:59:59", "this week"),
        ("2026-11-18 12:00:00", "2026-11-23 00:00:00", "next week"),
        ("2026-11-18 12:00:00", "2026-11-29 23:59:59", "next week"),
        ("2026-11-18 12:00:00", "2026-11-30 00:00:00", "next month"),
        ("2026-11-18 12:00:00", "2026-12-31 23:59:59", "next month"),
        ("2026-11-18 12:00:00", "2027-01-01 00:00:00", "later"),
        # A Sunday: tomorrow is next week's first day, and wins.
        ("2026-11-22 12:00:00", "2026-11-23 23:59:59", "tomorrow"),
        ("2026-11-22 12:00:00", "2026-11-24 00:00:00", "next week"),
        # A Monday.
        ("2026-11-23 00:00:00", "2026-11-29 23:59:59", "this week"),
        # The year's end.
        ("2026-12-15 12:00:00", "2027-01-31 23:59:59", "next month"),
        ("2026-12-15 12:00:00", "2027-02-01 00:00:00", "later"),
        ("2026-12-15 12:00:00", "9999-12-31 23:59:59", "later"),
    ],
)
def test_each_group_takes_what_those_before_it_leave(now: str, not_after: str, group: str):
    assert expiry_group(at(not_after), at(now)) == group
