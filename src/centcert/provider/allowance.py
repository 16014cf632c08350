"""How often something may happen: so many times a second, with a reserve for bursts."""

from __future__ import annotations


class Allowance:
    """A token bucket. ``now`` is in seconds of one monotonic clock.

    Args:
        rate: times a second in the long run.
        reserve: times at once after a rest.
    """

    def __init__(self, rate: float, reserve: float) -> None:
        self._rate = rate
        self._reserve = reserve
        self._left = reserve
        self._counted_at = 0.0

    def take(self, now: float) -> bool:
        """Use it once, if it may be; say whether."""
        gained = max(0.0, now - self._counted_at) * self._rate
        self._left = min(self._reserve, self._left + gained)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
