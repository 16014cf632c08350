"""Which names have a last-good copy, where it lies, and which go first. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from centcert.provider.copies import Found, Held


@dataclass(slots=True)
class Catalogue:
    """The sheets on the disk, as far as this node knows.

    Attributes:
        sheets: by file name.
        home: the sheet of each name.
        used: when each name was last used, in seconds since the epoch; the oldest use first.
        foreign: the sizes of files that do not open, by file name.
        unclean: sheets whose file may list names that are not at home there.
        size: of all files, in bytes.
        serial: the highest of all sheets.
    """

    sheets: dict[str, Held] = field(default_factory=dict)
    home: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)
    unclean: dict[str, None] = field(default_factory=dict)
    size: int = 0
    serial: int = 0

    @classmethod
    def arrange(cls, found: Found) -> Self:
        """Find each name's sheet: the latest that lists it, if a crash left it in two."""
        known = cls(found.sheets, foreign=found.foreign, size=sum(found.foreign.values()))
        for file_name, held in sorted(found.sheets.items(), key=lambda item: item[1].serial):
            for name in held.names:
                earlier = known.home.get(name)
                if earlier is not None:
                    known.unclean[earlier] = None
                known.home[name] = file_name
            known.size += held.size
            known.serial = held.serial
        times = [(found.used.get(name, 0), name) for name in known.home]
        known.used = {name: used for used, name in sorted(times)}
        return known

    def names_of(self, file_name: str) -> tuple[str, ...]:
        """Return the names that are at home in a sheet."""
        held = self.sheets.get(file_name)
        names = () if held is None else held.names
        return tuple(name for name in names if self.home.get(name) == file_name)

    def use(self, name: str, now: float) -> None:
        """Note that a name was used at ``now``, in seconds since the epoch."""
        self.used.pop(name, None)
        self.used[name] = int(now)

    def settle(self, name: str, file_name: str) -> None:
        """Let a name be at home in a sheet that lists it by now."""
        self._leave(name, file_name)
        self.home[name] = file_name

    def forget(self, name: str) -> None:
        """Let a name be at home nowhere."""
        self._leave(name)
        self.used.pop(name, None)

    def replace(self, file_name: str, held: Held | None) -> None:
        """Note what was written as a sheet, or that it was removed."""
        earlier = self.sheets.pop(file_name, None)
        self.size -= 0 if earlier is None else earlier.size
        self.size -= self.foreign.pop(file_name, 0)
        if held is not None:
            self.sheets[file_name] = held
            self.size += held.size
        # Meanwhile a name may have left, which the file lists all the same.
        if held is None or len(self.names_of(file_name)) == len(held.names):
            self.unclean.pop(file_name, None)

    def _leave(self, name: str, file_name: str | None = None) -> None:
        earlier = self.home.pop(name, None)
        if earlier is not None and earlier != file_name:
            self.unclean[earlier] = None
