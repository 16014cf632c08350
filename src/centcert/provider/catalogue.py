"""Which names have a last-good copy, where it lies, and which go first. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from centcert.provider.copies import Found, Pack


@dataclass(slots=True)
class Catalogue:
    """The packs on the disk and their sheets, as far as this node knows.

    Attributes:
        packs: by file name.
        place: the pack of each sheet.
        home: the sheet of each name.
        used: when each name was last used, in seconds since the epoch; the oldest use first.
        foreign: the sizes of files that do not open, by file name.
        unclean: packs whose file may hold sheets that have another place, or list names that
            are not at home there.
        size: of all files, in bytes.
        serial: the highest of all sheets.
    """

    packs: dict[str, Pack] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    home: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)
    unclean: dict[str, None] = field(default_factory=dict)
    size: int = 0
    serial: int = 0

    @classmethod
    def arrange(cls, found: Found) -> Self:
        """Find each sheet's place and each name's sheet: the latest, if a crash left it in two."""
        known = cls(found.packs, foreign=found.foreign, size=sum(found.foreign.values()))
        sheets = sorted(
            (held.serial, sheet_id, file_name)
            for file_name, pack in found.packs.items()
            for sheet_id, held in pack.sheets.items()
        )
        for known.serial, sheet_id, file_name in sheets:
            known._move(sheet_id, file_name)
        for _, sheet_id, file_name in sheets:
            if known.place[sheet_id] == file_name:
                for name in found.packs[file_name].sheets[sheet_id].names:
                    known.settle(name, sheet_id)
        known.size += sum(pack.size for pack in found.packs.values())
        times = [(found.used.get(name, 0), name) for name in known.home]
        known.used = {name: used for used, name in sorted(times)}
        return known

    def names_of(self, sheet_id: str) -> tuple[str, ...]:
        """Return the names that are at home in a sheet."""
        file_name = self.place.get(sheet_id)
        names = () if file_name is None else self.packs[file_name].sheets[sheet_id].names
        return tuple(name for name in names if self.home.get(name) == sheet_id)

    def still_listing(self, names: AbstractSet[str]) -> list[str]:
        """Return the packs whose files still list any of ``names``, which are at home nowhere."""
        return [
            file_name
            for file_name in self.unclean
            if (pack := self.packs.get(file_name)) is not None
            and not all(names.isdisjoint(held.names) for held in pack.sheets.values())
        ]

    def lives(self, file_name: str) -> bool:
        """Say whether a pack holds anything that has its place there."""
        pack = self.packs.get(file_name)
        return pack is not None and any(
            self.place.get(sheet_id) == file_name and self.home.get(name) == sheet_id
            for sheet_id, held in pack.sheets.items()
            for name in held.names
        )

    def living(self, file_name: str) -> dict[str, tuple[str, ...]]:
        """Return the sheets that have their place in a pack and the names at home in them."""
        pack = self.packs.get(file_name)
        own = (key for key in (pack.sheets if pack else ()) if self.place.get(key) == file_name)
        return {sheet_id: names for sheet_id in own if (names := self.names_of(sheet_id))}

    def use(self, name: str, now: float) -> None:
        """Note that a name was used at ``now``, in seconds since the epoch."""
        self.used.pop(name, None)
        self.used[name] = int(now)

    def settle(self, name: str, sheet_id: str) -> None:
        """Let a name be at home in a sheet that lists it by now."""
        self._leave(name, sheet_id)
        self.home[name] = sheet_id

    def forget(self, name: str) -> None:
        """Let a name be at home nowhere."""
        self._leave(name)
        self.used.pop(name, None)

    def replace(self, file_name: str, pack: Pack | None) -> None:
        """Note what was written as a pack, or that it was removed."""
        earlier = self.packs.pop(file_name, None)
        if earlier is not None:
            self.size -= earlier.size
            for sheet_id in earlier.sheets:
                if self.place.get(sheet_id) == file_name:
                    del self.place[sheet_id]
        self.size -= self.foreign.pop(file_name, 0)
        if pack is not None:
            self.packs[file_name] = pack
            self.size += pack.size
            for sheet_id in pack.sheets:
                self._move(sheet_id, file_name)
        # Meanwhile a name may have left, which the file lists all the same.
        if pack is None or self.living(file_name) == {
            sheet_id: held.names for sheet_id, held in pack.sheets.items()
        }:
            self.unclean.pop(file_name, None)

    def _move(self, sheet_id: str, file_name: str) -> None:
        earlier = self.place.get(sheet_id)
        if earlier is not None:
            self.unclean[earlier] = None
        self.place[sheet_id] = file_name

    def _leave(self, name: str, sheet_id: str | None = None) -> None:
        earlier = self.home.pop(name, None)
        if earlier is not None and earlier != sheet_id and earlier in self.place:
            self.unclean[self.place[earlier]] = None
