"""When a certificate expires, in the words of IIS's page "Centralized Certificates"."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, TypeAlias, get_args

Expiry: TypeAlias = Literal[
    "expired", "tomorrow", "this week", "next week", "next month", "later", "unreadable"
]

EXPIRIES: Final[tuple[Expiry, ...]] = get_args(Expiry)
"""The groups, most urgent first; the last one is of what has no date."""

_DECEMBER: Final = 12


def expiry_group(not_after: float, now: float) -> Expiry:
    """Say which group a certificate is in: each takes what those before it leave.

    Days are UTC's, weeks begin on Monday (ISO 8601).

    - ``expired``: it has expired.
    - ``tomorrow``: it expires today or tomorrow.
    - ``this week``, ``next week``: by the end of this week's, next week's Sunday.
    - ``next month``: by the end of the next calendar month.
    - ``later``: after that.

    Args:
        not_after: seconds since the epoch, the last moment within the dates.
        now: seconds since the epoch.
    """
    if not_after < now:
        return "expired"
    today = datetime.fromtimestamp(now, UTC).date()
    next_monday = today + timedelta(days=7 - today.weekday())
    ends: tuple[tuple[Expiry, date], ...] = (
        ("tomorrow", today + timedelta(days=2)),
        ("this week", next_monday),
        ("next week", next_monday + timedelta(days=7)),
        ("next month", _month_after(_month_after(today))),
    )
    return next((group for group, end in ends if not_after < _midnight(end)), "later")


def _month_after(day: date) -> date:
    """Return the first day of the month after that of ``day``."""
    year, month = (day.year + 1, 1) if day.month == _DECEMBER else (day.year, day.month + 1)
    return date(year, month, 1)


def _midnight(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()
