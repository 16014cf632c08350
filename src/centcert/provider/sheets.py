"""The last-good copies on the disk: which sheet takes which names, which pack which sheets.

One process writes, the one that has the folder's lock. What it does is awaited in a thread
of its own, one step after the other, and the books (``catalogue``) are right at each step:
any of them may fail, and what was not done is done the next time.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from centcert.credential import Credential
from centcert.errors import BadBlob
from centcert.names import HostName
from centcert.provider.catalogue import Catalogue
from centcert.provider.copies import (
    MAX_NAMES_A_SHEET,
    UNREADABLE,
    Copies,
    Found,
    Indexed,
    IndexedSheet,
    Pack,
    Sheet,
)
from centcert.provider.pending import Copy
from centcert.provider.seal import Damaged, Foreign, Seals
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from centcert.provider.clock import Clock
    from centcert.provider.faults import Faults
    from centcert.provider.pending import Pending

T = TypeVar("T")

WRITE_S: Final = 60.0
"""No write takes this long; one that does is told of, and no other begins before its end."""

LOAD_S: Final = 600.0
"""So long a start waits for its folder: 200,000 packs without an index, on a slow disk."""

ELSEWHERE_S: Final = 10.0
"""Another process that writes is told of after this time: a node that changes its store has two
providers for a moment, of which the first writes until it has closed."""

PIECE_NAMES: Final = 4_096
"""Names in one piece of the index, or a pack's more: 2 ms of the event loop's time."""

PACK_SHEETS: Final = 16
"""Sheets of one pack. A sheet in a file of its own costs 0.3 ms of the processor, one of sixteen
20 us: more would bring little, and each sheet that goes has the others written anew."""

PACK_BYTES: Final = 256 * 1024
"""Credentials of more than this together (``Credential.size``) fill a pack, too."""


class Failed(Exception):
    """The disk failed, and the listener was told."""


class _Addition(NamedTuple):
    """Names to be listed in a sheet, and what they were answered with."""

    sheet_id: str
    copy: Copy
    names: Sequence[HostName]


class Sheets:
    """The sheets of one folder. ``close`` it.

    Args:
        folder: only for these copies.
        seals: what they are sealed with.
        faults: is told what is wrong.
        clock: where times come from.
        max_bytes: on the disk.
        max_names: likewise.

    Attributes:
        catalogue: what is on the disk; another one after ``open``.
        copies: the folder; ``None``: it could not be opened yet.
        writing: whether this process is the one that writes.
    """

    def __init__(
        self,
        folder: Path,
        seals: Seals,
        faults: Faults,
        clock: Clock,
        *,
        max_bytes: int,
        max_names: int,
    ) -> None:
        self._folder = folder
        self._seals = seals
        self._faults = faults
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_names = max_names
        self.catalogue = Catalogue()
        self.copies: Copies | None = None
        self.writing = False
        self._loaded = False
        self._locked_out_at: float | None = None
        self._last_sheets: dict[str, int] = {}  # of groups with more than one
        self._withdrawn_from = set[str]()  # packs whose files list what must not come back
        self._indexed = True
        self._thread = Threads("centcert copies writer", most=1)

    def close(self) -> None:
        """Let the thread go; one that hangs is left behind."""
        self._thread.close()

    # --- the books -----------------------------------------------------------------

    def used(self, name: HostName) -> None:
        """Note that a name was asked for now."""
        if name in self.catalogue.home:
            self.catalogue.use(name, self._clock.wall())
            self._indexed = False

    def place_of(self, name: HostName) -> tuple[str, str] | None:
        """Return the pack and the sheet that hold the copy of a name."""
        sheet_id = self.catalogue.home.get(name)
        return None if sheet_id is None else (self.catalogue.place[sheet_id], sheet_id)

    def lose(self, file_name: str, sheet_id: str | None = None) -> None:
        """Note that a pack, or a sheet of it, is of no use; it goes when the next is written."""
        self._faults.tell_damaged(file_name)
        self._forget(file_name, sheet_id)

    def _forget(self, file_name: str, sheet_id: str | None = None) -> None:
        living = self.catalogue.living(file_name)
        for key in living if sheet_id is None else living.keys() & {sheet_id}:
            for name in living[key]:
                self.catalogue.forget(name)

    # --- the folder ----------------------------------------------------------------

    async def open(self) -> None:
        """Open the folder and become the one who writes, as far as that is not so already.

        Raises:
            Failed: the disk failed.
            SettingsError: the folder is open to others.
        """
        if self.writing:
            return
        if self.copies is None:
            self.copies = await self._call(partial(Copies, self._folder, self._seals))
        writing = await self._call(self.copies.lock)
        self._note_lock(has_it=writing)
        if writing or not self._loaded:
            await self._load(self.copies, clean=writing)
        # Not before: who writes without having seen what is there would overwrite it.
        self._loaded, self.writing = True, writing

    async def unlock(self) -> None:
        """Let another process write.

        Raises:
            Failed: the disk failed.
        """
        if self.writing:
            await self._run(Copies.unlock)

    def _note_lock(self, *, has_it: bool) -> None:
        now = asyncio.get_running_loop().time()
        if has_it:
            self._locked_out_at = None
            self._faults.over("copies-elsewhere")
            return
        if self._locked_out_at is None:
            self._locked_out_at = now
        if now - self._locked_out_at >= ELSEWHERE_S:
            self._faults.tell(
                "copies-elsewhere",
                f"Another process keeps last-good copies in {self._folder}: this one only reads"
                " them until that one ends.",
            )

    async def _load(self, copies: Copies, *, clean: bool) -> None:
        def load() -> tuple[Found, Catalogue]:
            found = copies.load(clean=clean)
            return found, Catalogue.arrange(found)

        found, self.catalogue = await self._call(load, LOAD_S)
        # Above those of packs that could not be read now and may be another time.
        self.catalogue.serial = max(self.catalogue.serial, int(self._clock.wall() * 1e6))
        self._indexed = False
        for file_name in found.damaged:
            self._faults.tell_damaged(file_name)
        if found.unread is not None:
            self._faults.tell_failed("copies-unread", "read", found.unread)
        if found.foreign:
            self._faults.tell(
                "copies-foreign",
                f"{self._folder} holds copies of another store or sealed with another key (files:"
                f" {len(found.foreign)}): they are not used; give the old key too, or remove them.",
            )

    # --- writing -------------------------------------------------------------------

    async def settle(self, pending: Pending) -> None:
        """Put on the disk what is pending; what is done is taken out of ``pending``.

        Raises:
            Failed: the disk failed.
        """
        for name in pending.withdrawn:
            self.catalogue.forget(name)
        self._withdrawn_from.update(self.catalogue.still_listing(pending.withdrawn.keys()))
        pending.withdrawn.clear()
        await self._clean(pending)
        for additions in self._batches(pending):
            await self._add(additions)
            for addition in additions:
                for name in addition.names:
                    del pending.copies[name]
        await self._clean(pending)
        await self._make_room(pending)

    def _batches(self, pending: Pending) -> Iterator[list[_Addition]]:
        """Say what to write as one pack.

        Never a sheet that a name has just left: until that is in the books it would list the name
        once more, and a crash would leave the earlier copy as the later one.
        """
        batch, moved, size = list[_Addition](), set[str](), 0
        for addition in self._plan(pending):
            grows = addition.sheet_id in self.catalogue.place
            left = not moved.isdisjoint(self.catalogue.names_of(addition.sheet_id))
            if batch and (grows or left or len(batch) == PACK_SHEETS or size > PACK_BYTES):
                yield batch
                batch, moved, size = [], set(), 0
            if grows:  # alone: what shares its pack would be written anew each time
                yield [addition]
                continue
            batch.append(addition)
            moved.update(addition.names)
            size += addition.copy.credential.size
        if batch:
            yield batch

    def _plan(self, pending: Pending) -> Iterator[_Addition]:
        """Say which names to add to which sheets."""
        groups: dict[str, tuple[Copy, list[HostName]]] = {}
        for name, copy in pending.copies.items():
            group = self._seals.group(copy.credential.key, copy.version)
            groups.setdefault(group, (copy, []))[1].append(name)
        for group, (copy, names) in groups.items():
            number = self._last_sheets.get(group, 0)
            added = 0
            while added < len(names):
                sheet_id = f"{group}{number:04x}"
                room = MAX_NAMES_A_SHEET - len(self.catalogue.names_of(sheet_id))
                if room > 0:
                    yield _Addition(sheet_id, copy, names[added : added + room])
                    added += room
                if added < len(names):
                    number += 1
                    self._last_sheets[group] = number

    async def _add(self, additions: Sequence[_Addition]) -> None:
        catalogue = self.catalogue
        file_name = token_hex(16)
        catalogue.unclean[file_name] = None  # until it is known whether it is there
        listed: dict[str, tuple[int, tuple[str, ...]]] = {}
        for sheet_id, _, names in additions:
            catalogue.serial += 1
            every = dict.fromkeys((*catalogue.names_of(sheet_id), *map(str, names)))
            listed[sheet_id] = catalogue.serial, tuple(every)

        def write(copies: Copies) -> Pack:
            sheets = {}
            for sheet_id, copy, _ in additions:
                serial, names = listed[sheet_id]
                sheets[sheet_id] = Sheet(serial, copy.version, names, copy.credential.to_parts())
            return copies.write(file_name, sheets)

        pack = await self._run(write)
        now = self._clock.wall()
        # The names first: a pack whose names are not at home there is no clean one.
        for sheet_id, copy, names in additions:
            for name in names:
                catalogue.settle(str(name), sheet_id)
                catalogue.use(str(name), now)
            self._faults.forgive("copy-expired", copy.credential.key)
        catalogue.replace(file_name, pack)
        self._indexed = False

    async def _clean(self, pending: Pending) -> None:
        """Remove, or write anew, the packs that hold what has its place elsewhere by now.

        Removals first: they need no room. Then what was withdrawn: it must not wait for others.
        """
        catalogue = self.catalogue
        for file_name in tuple(catalogue.unclean):
            if not catalogue.lives(file_name):
                await self._remove(file_name)
        withdrawn_first = sorted(
            catalogue.unclean, key=lambda name: name not in self._withdrawn_from
        )
        for file_name in withdrawn_first:
            living = catalogue.living(file_name)
            try:
                pack = await self._run(partial(_rewrite, file_name, living)) if living else None
            except Failed:
                if file_name not in self._withdrawn_from:
                    raise
                await self._take_out(file_name, living, pending)
                continue
            if pack is None:
                if living:
                    self.lose(file_name)
                await self._remove(file_name)
            else:
                catalogue.replace(file_name, pack)
                self._withdrawn_from.discard(file_name)
            self._indexed = False

    async def _take_out(
        self, file_name: str, living: Mapping[str, tuple[str, ...]], pending: Pending
    ) -> None:
        """Remove a pack that cannot be written without what must go; let the rest wait in memory.

        A disk may be full, and what was withdrawn must not be there after a crash.
        """
        sheets = await self._run(partial(_read_whole, file_name))
        if sheets is None:
            self.lose(file_name)
            sheets = {}
        for sheet_id in living.keys() & sheets.keys():
            sheet = sheets[sheet_id]
            try:
                copy = Copy(sheet.version, Credential.from_parts(sheet.parts))
            except (ValueError, BadBlob):
                self.lose(file_name, sheet_id)
                continue
            for name in living[sheet_id]:
                pending.copies.setdefault(HostName(name), copy)
        self._forget(file_name)
        await self._remove(file_name)

    async def _make_room(self, pending: Pending) -> None:
        """Let strangers go first, where bytes are short, then the names unused for longest."""
        catalogue = self.catalogue
        while catalogue.foreign and catalogue.size > self._max_bytes:
            await self._remove(next(iter(catalogue.foreign)))
        if not catalogue.foreign:
            self._faults.over("copies-foreign")
        while (count := len(catalogue.home)) and (
            catalogue.size > self._max_bytes or count > self._max_names
        ):
            too_many = count - self._max_names
            too_large = count * (catalogue.size - self._max_bytes) // catalogue.size
            for name in tuple(islice(catalogue.used, max(too_many, too_large, count // 100 + 1))):
                catalogue.forget(name)
            await self._clean(pending)

    async def _remove(self, file_name: str) -> None:
        await self._run(lambda copies: copies.remove(file_name))
        self.catalogue.replace(file_name, None)
        self._withdrawn_from.discard(file_name)
        self._indexed = False

    async def write_index(self) -> None:
        """Write down what each pack holds, and when its names were used, for the next start.

        Raises:
            Failed: the disk failed.
        """
        if self._indexed or not self.writing:
            return
        self._indexed = True
        used, number, piece, count = self.catalogue.used, 0, list[Indexed](), 0
        for file_name, pack in tuple(self.catalogue.packs.items()):
            sheets = tuple(
                IndexedSheet(
                    key, held.serial, held.names, tuple(used.get(n, 0) for n in held.names)
                )
                for key, held in pack.sheets.items()
            )
            piece.append(Indexed(file_name, pack.stamp, sheets))
            count += sum(len(sheet.names) for sheet in sheets)
            if count >= PIECE_NAMES:
                await self._run(partial(_write_piece, number, piece))
                number, piece, count = number + 1, [], 0
        await self._run(partial(_write_piece, number, piece))
        await self._run(lambda copies: copies.end_index(number + 1))

    # --- the thread ------------------------------------------------------------------

    async def _run(self, call: Callable[[Copies], T]) -> T:
        if self.copies is None:
            raise Failed
        return await self._call(partial(call, self.copies))

    async def _call(self, call: Callable[[], T], deadline_s: float = WRITE_S) -> T:
        deadline = asyncio.get_running_loop().time() + deadline_s
        try:
            return await self._thread.run(call, deadline=deadline)
        except (OSError, Late, Full, Closed) as error:
            self._faults.tell_failed("copies-unwritten", "written", error)
            raise Failed from error


def _rewrite(file_name: str, names: Mapping[str, tuple[str, ...]], copies: Copies) -> Pack | None:
    """Write a pack anew with some of its sheets; ``names``: those that each shall list.

    Returns:
        ``None``: it cannot be read, or is another one.
    """
    sheets = _read_whole(file_name, copies)
    if sheets is None or not names.keys() <= sheets.keys():
        return None
    return copies.write(
        file_name, {key: replace(sheets[key], names=listed) for key, listed in names.items()}
    )


def _read_whole(file_name: str, copies: Copies) -> dict[str, Sheet] | None:
    try:
        return copies.read_whole(file_name)
    except (Damaged, Foreign):
        return None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return None


def _write_piece(number: int, piece: Sequence[Indexed], copies: Copies) -> None:
    copies.write_piece(number, piece)
