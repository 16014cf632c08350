"""Times as commands print them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(seconds: float) -> str:
    """Write seconds since the epoch in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def age(seconds: float) -> str:
    """Write a time span in its two largest units: ``3 d 4 h``, ``12 s``."""
    left = int(seconds)
    words: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (words and unit != "s") or (unit == "s" and not words):
            words.append(f"{count} {unit}")
    return " ".join(word for word in words[:2] if not word.startswith("0 ") or len(words) == 1)
