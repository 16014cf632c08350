"""Who waits for the credential of a name, and which events of store and provider concern them.

A file is fetched once for all that wait for it: what happens to it concerns each who waits for one
of its names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from centcert.names import pattern_of
from centcert.provider import events as provider
from centcert.stores.events import SmbStep

if TYPE_CHECKING:
    from collections.abc import Collection

    from centcert.names import HostName

T = TypeVar("T")


class Waiting(Generic[T]):
    """Those who wait, by a number of the caller's."""

    def __init__(self) -> None:
        self._all: dict[int, tuple[HostName, T]] = {}
        # By what a file may stand for: a host name, or ``*.`` and a host name.
        self._by_pattern: dict[str, dict[int, T]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, number: int, name: HostName, one: T) -> None:
        """Have ``one`` wait for ``name``."""
        self._all[number] = name, one
        for pattern in _patterns(name):
            self._by_pattern.setdefault(pattern, {})[number] = one

    def remove(self, number: int) -> None:
        """Have it wait no longer, if it does."""
        name, _ = self._all.pop(number, (None, None))
        for pattern in () if name is None else _patterns(name):
            waiting = self._by_pattern[pattern]
            del waiting[number]
            if not waiting:
                del self._by_pattern[pattern]

    def concerned(self, event: object) -> Collection[T]:
        """Return whom ``event`` concerns.

        An event of a file: those that wait for one of its names. One of a connection to a file
        server: all. One of a name: those that wait for this one.
        """
        if not self._all:
            return ()
        match event:
            case provider.Fetched() | provider.FetchFailed() | provider.Decoded():
                return self._by(pattern_of(event.key))
            case SmbStep(purpose="data"):
                path = getattr(event.step, "path", None)
                if path is None:
                    return [one for _, one in self._all.values()]
                return self._by(pattern_of(_key(path)))
            case _:
                return self._by(getattr(event, "name", None))

    def _by(self, pattern: str | None) -> Collection[T]:
        return tuple(self._by_pattern.get(pattern or "", {}).values())


def is_wanted(name: str, pattern: str | None) -> bool:
    """Say whether ``pattern`` is of ``name``: that itself, its wildcard, or ``None``."""
    return pattern in (None, name, "*." + name.partition(".")[2])


def _patterns(name: HostName) -> tuple[str, ...]:
    """What the files that may answer ``name`` stand for."""
    return (name,) if name.parent is None else (name, f"*.{name.parent}")


def _key(path: str) -> str:
    """Return the last part of a path on a share."""
    return path.rpartition("\\")[2]
