"""The last-good copies on the disk: which sheet takes which names, and what makes room.

One process writes, the one that has the folder's lock. What it does is awaited in a thread
of its own, one step after the other, and the books (``catalogue``) are right at each step:
any of them may fail, and what was not done is done the next time.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from centcert.provider.catalogue import Catalogue
from centcert.provider.copies import (
    MAX_NAMES_A_SHEET,
    UNREADABLE,
    Copies,
    Found,
    Held,
    Indexed,
    Sheet,
)
from centcert.provider.seal import Damaged, Foreign, Seals
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from centcert.names import HostName
    from centcert.provider.clock import Clock
    from centcert.provider.faults import Faults
    from centcert.provider.pending import Copy, Pending

T = TypeVar("T")

WRITE_S: Final = 60.0
"""No write takes this long; one that does is told of, and no other begins before its end."""

LOAD_S: Final = 600.0
"""So long a start waits for its folder: 200,000 sheets without an index, on a slow disk."""

ELSEWHERE_S: Final = 10.0
"""Another process that writes is told of after this time: a node that changes its store has two
providers for a moment, of which the first writes until it has closed."""

PIECE_NAMES: Final = 4_096
"""Names in one piece of the index: 2 ms of the event loop's time."""


AT_ONCE: Final = 64
"""Sheets written in one go: each waits for the disk, the folder and the thread once for all."""


class Failed(Exception):
    """The disk failed, and the listener was told."""


class _Addition(NamedTuple):
    """Names to be listed in a sheet, and what they were answered with."""

    file_name: str
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

    def lose(self, file_name: str) -> None:
        """Note that a sheet is of no use; it is removed when the next ones are written."""
        self._faults.tell_damaged(file_name)
        for name in self.catalogue.names_of(file_name):
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
        self._indexed = False
        for file_name in found.damaged:
            self._faults.tell_damaged(file_name)
        if found.unread is not None:
            self._faults.tell_failed("copies-unread", "read", found.unread)
        if found.foreign:
            self._faults.tell(
                "copies-foreign",
                f"{self._folder} holds {len(found.foreign)} copies of another store or sealed with"
                " another key: they are not used; give the old key too, or remove them.",
            )

    # --- writing -------------------------------------------------------------------

    async def settle(self, pending: Pending) -> None:
        """Put on the disk what is pending; what is done is taken out of ``pending``.

        Raises:
            Failed: the disk failed.
        """
        for name in tuple(pending.withdrawn):
            self.catalogue.forget(name)
            del pending.withdrawn[name]
        await self._clean()
        for additions in self._batches(pending):
            await self._add(additions)
            for addition in additions:
                for name in addition.names:
                    del pending.copies[name]
        await self._clean()
        await self._make_room()

    def _batches(self, pending: Pending) -> Iterator[list[_Addition]]:
        """Say what to write in one go.

        Never a sheet that a name has just left: until that is in the books it would list the name
        once more, and a crash would leave the earlier copy as the later one.
        """
        batch, moved = list[_Addition](), set[str]()
        for addition in self._plan(pending):
            left = not moved.isdisjoint(self.catalogue.names_of(addition.file_name))
            if left or len(batch) == AT_ONCE:
                yield batch
                batch, moved = [], set()
            batch.append(addition)
            moved.update(addition.names)
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
                file_name = f"{group}{number:04x}"
                room = MAX_NAMES_A_SHEET - len(self.catalogue.names_of(file_name))
                if room > 0:
                    yield _Addition(file_name, copy, names[added : added + room])
                    added += room
                if added < len(names):
                    number += 1
                    self._last_sheets[group] = number

    async def _add(self, additions: Sequence[_Addition]) -> None:
        catalogue = self.catalogue
        listed: dict[str, tuple[int, tuple[str, ...]]] = {}
        for file_name, _, names in additions:
            catalogue.serial += 1
            catalogue.unclean[file_name] = None  # until it is known which of the two is there
            every = dict.fromkeys((*catalogue.names_of(file_name), *map(str, names)))
            listed[file_name] = catalogue.serial, tuple(every)

        def write(copies: Copies) -> dict[str, Held]:
            sheets = {}
            for file_name, copy, _ in additions:
                serial, names = listed[file_name]
                sheets[file_name] = Sheet(serial, copy.version, names, copy.credential.to_parts())
            return copies.write(sheets)

        written = await self._run(write)
        now = self._clock.wall()
        for file_name, copy, names in additions:
            for name in names:
                catalogue.settle(str(name), file_name)
                catalogue.use(str(name), now)
            catalogue.replace(file_name, written[file_name])
            self._faults.forgive("copy-expired", copy.credential.key)
        self._indexed = False

    async def _clean(self) -> None:
        """Remove, or write anew, the sheets that list names which are not at home there.

        Removals first: they need no room.
        """
        catalogue = self.catalogue
        unclean = [(file_name, catalogue.names_of(file_name)) for file_name in catalogue.unclean]
        for file_name, names in sorted(unclean, key=lambda item: len(item[1]) > 0):
            held = None
            if names:
                catalogue.serial += 1
                held = await self._run(partial(_rewrite, file_name, names, catalogue.serial))
            if held is None and names:
                self.lose(file_name)
            if held is None:
                await self._remove(file_name)
            else:
                catalogue.replace(file_name, held)
            self._indexed = False

    async def _make_room(self) -> None:
        """Let strangers go first, where bytes are short, then the names unused for longest."""
        catalogue = self.catalogue
        while catalogue.foreign and catalogue.size > self._max_bytes:
            await self._remove(next(iter(catalogue.foreign)))
        if not catalogue.foreign:
            self._faults.over("copies-foreign")
        while catalogue.home and (
            catalogue.size > self._max_bytes or len(catalogue.home) > self._max_names
        ):
            for name in tuple(islice(catalogue.used, len(catalogue.home) // 100 + 1)):
                catalogue.forget(name)
            await self._clean()

    async def _remove(self, file_name: str) -> None:
        await self._run(lambda copies: copies.remove(file_name))
        self.catalogue.replace(file_name, None)

    async def write_index(self) -> None:
        """Write down what each sheet holds, and when its names were used, for the next start.

        Raises:
            Failed: the disk failed.
        """
        if self._indexed or not self.writing:
            return
        self._indexed = True
        used, number, piece, count = self.catalogue.used, 0, list[Indexed](), 0
        for file_name, held in tuple(self.catalogue.sheets.items()):
            times = tuple(used.get(name, 0) for name in held.names)
            piece.append(Indexed(file_name, held.stamp, held.serial, held.names, times))
            count += len(times)
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


def _rewrite(file_name: str, names: tuple[str, ...], serial: int, copies: Copies) -> Held | None:
    try:
        sheet = copies.read(file_name)
    except (Damaged, Foreign):
        return None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return None
    written = copies.write({file_name: Sheet(serial, sheet.version, names, sheet.parts)})
    return written[file_name]


def _write_piece(number: int, piece: Sequence[Indexed], copies: Copies) -> None:
    copies.write_piece(number, piece)
