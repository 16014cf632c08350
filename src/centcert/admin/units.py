"""Times and sizes as settings write them: a number and its unit."""

from __future__ import annotations

import re
from typing import Final, Self

from centcert.errors import SettingsError

SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES: Final = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
MAX_SECONDS: Final = 365 * SECONDS["d"]
MAX_BYTES: Final = 1024 * BYTES["GiB"]

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")


class Duration(float):
    """A time in seconds, written with its unit: ``5 min``, ``1.5 s``, ``200 ms``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a time.

        Raises:
            SettingsError: it is not a number with one of the units ms, s, min, h, d, or is
                more than a year, beyond which no timer of ours makes sense.
        """
        seconds = _quantity(text, SECONDS, "5 min")
        if seconds > MAX_SECONDS:
            raise SettingsError(f"{text[:40]!r} is more than 365 d.")
        return cls(seconds)

    def __str__(self) -> str:
        for unit in ("d", "h", "min", "s"):
            if self >= SECONDS[unit] and self % SECONDS[unit] == 0:
                return f"{self / SECONDS[unit]:g} {unit}"
        return f"{self / SECONDS['ms']:g} ms" if self < 1 else f"{float(self):g} s"


class Size(int):
    """A size in bytes, written with its unit: ``256 MiB``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a size.

        Raises:
            SettingsError: it is not a number with one of the units KiB, MiB, GiB, or is
                more than a machine can hold.
        """
        size = _quantity(text, BYTES, "256 MiB")
        if size > MAX_BYTES:
            raise SettingsError(f"{text[:40]!r} is more than {MAX_BYTES // BYTES['GiB']} GiB.")
        return cls(size)

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self >= BYTES[unit] and self % BYTES[unit] == 0:
                return f"{self // BYTES[unit]} {unit}"
        return f"{self / BYTES['KiB']:g} KiB"


def _quantity(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        known = ", ".join(units)
        raise SettingsError(f"{text[:40]!r} needs a unit ({known}): write it like {example!r}.")
    return float(match[1]) * units[match[2]]
