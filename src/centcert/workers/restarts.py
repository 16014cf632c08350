"""When a process that has died is started again: soon, but not over and over. No clock."""

from __future__ import annotations

from typing import Final

LONG_LIFE_S: Final = 10.0
"""Whoever lived so long has not died of its start: its successor comes at once."""

PAUSES_S: Final = (0.2, 30.0)
"""Before the second attempt in a row, and at most; doubled in between."""


class Restarts:
    """The pauses of one process and its successors. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._early = 0

    def after(self, *, began: float, died: float) -> float:
        """Return when to start the successor of one that lived from ``began`` to ``died``."""
        if died - began >= LONG_LIFE_S:
            self._early = 0
            return died
        self._early += 1
        if self._early == 1:
            return died
        first_s, longest_s = PAUSES_S
        return died + min(first_s * 2.0 ** min(self._early - 2, 32), longest_s)
