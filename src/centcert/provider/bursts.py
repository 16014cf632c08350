"""Keys of which changes were told, until no more are told for a while. No clock.

A writer causes several notifications, the first before it is done; and where many watch, a server
tells each of them one by one. Times are in seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import Final

QUIET_S: Final = 0.05
"""For how long nothing more must be told of a key."""

LONGEST_S: Final = 0.25
"""But no longer than that after the first: some writers are never done."""


class Bursts:
    """What was told of and not yet taken."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, float]] = {}  # when told first, and when due

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, key: str, now: float) -> None:
        """Take that a change of ``key`` was told."""
        first, _ = self._keys.pop(key, (now, now))
        self._keys[key] = first, min(now + QUIET_S, first + LONGEST_S)

    def next_due(self) -> float:
        """Return when ``take`` will have something, if nothing more is told; there is something."""
        return next(iter(self._keys.values()))[1]

    def take(self, now: float) -> list[str]:
        """Return the keys that are due, each once."""
        due: list[str] = []
        for key, (_, at) in self._keys.items():
            if at > now:
                break
            due.append(key)
        for key in due:
            del self._keys[key]
        return due
