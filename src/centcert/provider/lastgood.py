"""What this node has served, sealed on its disk: a known name outlives store and restart.

It decides what is kept, for how long and where; what it is sealed with, ``seal`` decides, and
whether a copy may be served, ``policy``. Serving never waits for a write: what is to be kept
is noted in memory and written behind, and a disk that fails is told of and tried again.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, Self, TypeVar

from cryptography import x509

from centcert.background import Background
from centcert.credential import Credential
from centcert.errors import BadBlob, SettingsError
from centcert.names import HostName
from centcert.provider.catalogue import Catalogue
from centcert.provider.clock import Clock, SystemClock
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
    from types import TracebackType

T = TypeVar("T")

RECALL_S: Final = 5.0
"""A handshake waits no longer for a copy; a disk that takes this long is as good as none."""

WRITE_S: Final = 60.0
"""No write takes this long; one that does is told of, and no other begins before its end."""

CLOSE_S: Final = 10.0
"""What is not on the disk by then is left, as a node that ends must end."""

LOAD_S: Final = 600.0
"""So long a start waits for its folder: 200,000 sheets without an index, on a slow disk."""

RETRY_S: Final = 10.0
"""How long a disk that failed, or another process that writes, is left alone."""

INDEX_S: Final = 600.0
"""How often the times of use are written: for the next start, which can do with old ones."""

MAX_PENDING: Final = 8_192
"""Changes that wait for the disk. Each holds a credential, so a dead disk costs 50 MB at most."""

PIECE_NAMES: Final = 4_096
"""Names in one piece of the index: 2 ms of the event loop's time."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a name was answered with.

    Attributes:
        version: of the store's file ``credential.key``.
        credential: as it was then.
    """

    version: str
    credential: Credential


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is wrong with the copies, or no longer is.

    Attributes:
        code: ``copies-unwritten``, ``copies-unread``, ``copies-foreign``,
            ``copies-elsewhere`` and ``copies-dropped`` last until they are over;
            ``copy-damaged`` and ``copy-expired`` are told once for each copy.
        subject: the folder, the damaged file, or the store's key of the expired one.
        sentence: what is wrong and what to do; ``None``: it is over.
    """

    code: str
    subject: str
    sentence: str | None


class LastGood:
    """Copies of what names were answered with. An async context manager.

    All methods belong to the event loop it was entered in. No fault of the disk is raised:
    the listener is told, and the node goes on with what it has in memory. Of several
    processes with one folder one writes; the others read, and take over when it ends.

    Args:
        folder: only for these copies; made, with mode 0700, if it is not there.
        sealing_keys: see ``seal.sealing_key``; the first seals, any opens.
        store_url: whose copies these are; those of another store are not opened.
        listener: is told what is wrong; must not block or raise.
        max_bytes: on the disk. The names whose last use is longest ago go first.
        max_names: likewise; each takes 0.4 KB of memory, less if it shares its credential.
        clock: where times come from.
        load_issuer: see ``Credential.from_parts``.

    Raises:
        SettingsError: on entering: the folder is open to others.
    """

    def __init__(
        self,
        folder: Path,
        sealing_keys: Sequence[bytes],
        *,
        store_url: str,
        listener: Callable[[Fault], None],
        max_bytes: int = 1024**3,
        max_names: int = 200_000,
        clock: Clock | None = None,
        load_issuer: Callable[[bytes], x509.Certificate] = x509.load_der_x509_certificate,
    ) -> None:
        self._folder = folder
        self._seals = Seals(sealing_keys, store_url)
        self._listener = listener
        self._max_bytes = max_bytes
        self._max_names = max_names
        self._clock = clock or SystemClock()
        self._load_issuer = load_issuer
        self._copies: Copies | None = None
        self._loaded = False
        self._writing = False  # whether this process is the one that writes
        self._catalogue = Catalogue()
        self._pending: dict[HostName, Copy | None] = {}
        self._settling: dict[HostName, Copy | None] = {}  # being written
        self._last_sheets: dict[str, int] = {}  # of groups with more than one
        self._told: set[tuple[str, str]] = set()
        self._behind = False  # whether the last flush left something to do
        self._indexed = True
        self._flushing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._writer = Threads("centcert copies writer", most=1)
        self._reader = Threads("centcert copies reader", most=2)
        async with AsyncExitStack() as stack:
            stack.callback(self._writer.close)
            stack.callback(self._reader.close)
            with suppress(_Failed):
                await self._open()
            stack.push_async_callback(self._finish)
            tasks = await stack.enter_async_context(Background())
            tasks.create_task(self._write_behind())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def has(self, name: HostName) -> bool:
        """Say whether there is a copy for ``name``. It may prove damaged or expired."""
        noted, copy = self._noted(name)
        return copy is not None if noted else name in self._catalogue.home

    def keep(self, name: HostName, version: str, credential: Credential) -> None:
        """Keep what ``name`` is answered with; at once in memory, soon on the disk.

        Costs microseconds, and nothing is written, if it is kept already.
        """
        if self.has(name) and not self._noted(name)[0]:
            home = self._catalogue.home[name]
            if home.startswith(self._seals.group(credential.key, version)):
                return
        self._note(name, Copy(version, credential))

    def forget(self, name: HostName) -> None:
        """Keep nothing for ``name``: the store has withdrawn it."""
        if self.has(name):
            self._note(name, None)

    def used(self, name: HostName) -> None:
        """Note that ``name`` was asked for now: of its copies, those of unused names go first."""
        if name in self._catalogue.home:
            self._catalogue.use(name, self._clock.wall())
            self._indexed = False

    def recently_used(self, since: float) -> list[HostName]:
        """Return the names used since ``since`` (seconds since the epoch), newest first."""
        used = self._catalogue.used
        recent = takewhile(lambda name: used[name] >= since, reversed(used))
        return [HostName(name) for name in recent]

    async def recall(self, name: HostName) -> Copy | None:
        """Return the copy for ``name``; ``None``: there is none that can be served.

        It covers the name and has not expired. Returns within ``RECALL_S``.
        """
        noted, copy = self._noted(name)
        if not noted:
            file_name = self._catalogue.home.get(name)
            copy = await self._read(name, file_name)
            moved_to = self._catalogue.home.get(name)
            if copy is None and moved_to != file_name:  # while it was being read
                copy = await self._read(name, moved_to)
        if copy is None or not self.has(name) or not copy.credential.covers(name):
            return None
        if copy.credential.not_after < self._clock.wall():
            key = copy.credential.key
            self._tell(
                "copy-expired",
                key,
                f"{key}: the copy of what {name} was served with has expired: it is of no use.",
            )
            return None
        return copy

    async def flush(self) -> None:
        """Write what is to be written now; what cannot be is told, and tried again later."""
        async with self._flushing:
            self._behind = True
            try:
                await self._open()
                if self._writing:
                    await self._settle()
                    self._over("copies-unwritten")
                    self._behind = False
            except _Failed:
                pass
            except SettingsError as error:  # after the start: the node must go on
                self._tell("copies-unwritten", str(self._folder), str(error))

    # --- reading -----------------------------------------------------------------

    def _noted(self, name: HostName) -> tuple[bool, Copy | None]:
        for noted in (self._pending, self._settling):
            if name in noted:
                return True, noted[name]
        return False, None

    async def _read(self, name: HostName, file_name: str | None) -> Copy | None:
        copies = self._copies
        if file_name is None or copies is None:
            return None
        deadline = asyncio.get_running_loop().time() + RECALL_S
        read = partial(_read, file_name, name, copies)
        try:
            sheet = await self._reader.run(read, deadline=deadline)
            credential = Credential.from_parts(sheet.parts, load_issuer=self._load_issuer)
        except (Damaged, Foreign, FileNotFoundError, ValueError, BadBlob):
            # Another process, if it is that one which writes, may just have moved the name.
            if self._writing and self._catalogue.home.get(name) == file_name:
                self._lose(file_name)
            return None
        except (OSError, Late, Full, Closed) as error:
            self._tell("copies-unread", str(self._folder), _sentence(self._folder, "read", error))
            return None
        self._over("copies-unread")
        return Copy(sheet.version, credential)

    def _lose(self, file_name: str) -> None:
        self._tell_damaged(file_name)
        for name in self._catalogue.names_of(file_name):
            self._catalogue.forget(name)
        self._changed.set()

    # --- writing -----------------------------------------------------------------

    def _note(self, name: HostName, copy: Copy | None) -> None:
        self._pending[name] = copy
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
            folder = self._folder
            self._tell(
                "copies-dropped",
                str(folder),
                f"{folder} cannot take the copies of what is served as fast as they come: some are"
                " not kept until they are served again.",
            )
        self._changed.set()

    async def _write_behind(self) -> None:
        clock = asyncio.get_running_loop().time
        index_at = clock() + INDEX_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(index_at):
                    await self._changed.wait()
            self._changed.clear()
            await self.flush()
            if clock() >= index_at:
                with suppress(_Failed):
                    await self._write_index()
                index_at = clock() + INDEX_S
            if self._behind:
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _settle(self) -> None:
        self._settling, self._pending = self._pending, {}
        try:
            for name, copy in tuple(self._settling.items()):
                if copy is None:
                    self._catalogue.forget(name)
                    del self._settling[name]
            await self._clean()
            for file_name, copy, names in self._plan():
                await self._add(file_name, copy, names)
        finally:  # what was not written waits for the next time
            self._pending = {**self._settling, **self._pending}
            self._settling = {}
        await self._clean()
        await self._make_room()
        self._over("copies-dropped")

    def _plan(self) -> Iterator[tuple[str, Copy, list[HostName]]]:
        """Say which names to add to which sheets."""
        groups: dict[str, tuple[Copy, list[HostName]]] = {}
        for name, copy in self._settling.items():
            if copy is not None:
                group = self._seals.group(copy.credential.key, copy.version)
                groups.setdefault(group, (copy, []))[1].append(name)
        for group, (copy, names) in groups.items():
            number = self._last_sheets.get(group, 0)
            added = 0
            while added < len(names):
                file_name = f"{group}{number:04x}"
                room = MAX_NAMES_A_SHEET - len(self._catalogue.names_of(file_name))
                if room > 0:
                    yield file_name, copy, names[added : added + room]
                    added += room
                if added < len(names):
                    number += 1
                    self._last_sheets[group] = number

    async def _add(self, file_name: str, copy: Copy, names: Sequence[HostName]) -> None:
        listed = dict.fromkeys((*self._catalogue.names_of(file_name), *map(str, names)))
        key = copy.credential.key

        def write(copies: Copies) -> Held:
            parts = copy.credential.to_parts()
            return copies.write(file_name, Sheet(serial, copy.version, tuple(listed), parts))

        self._catalogue.serial = serial = self._catalogue.serial + 1
        self._catalogue.unclean[file_name] = None  # until it is known which of the two is there
        held = await self._run(write)
        now = self._clock.wall()
        for name in names:
            self._catalogue.settle(str(name), file_name)
            self._catalogue.use(str(name), now)
            del self._settling[name]
        self._catalogue.replace(file_name, held)
        self._told.discard(("copy-expired", key))
        self._indexed = False

    async def _clean(self) -> None:
        """Remove, or write anew, the sheets that list names which are not at home there.

        Removals first: they need no room.
        """
        catalogue = self._catalogue
        unclean = [(file_name, catalogue.names_of(file_name)) for file_name in catalogue.unclean]
        for file_name, names in sorted(unclean, key=lambda item: len(item[1]) > 0):
            held = None
            if names:
                catalogue.serial += 1
                held = await self._run(partial(_rewrite, file_name, names, catalogue.serial))
            if held is None and names:
                self._lose(file_name)
            if held is None:
                await self._run(partial(_remove, file_name))
            catalogue.replace(file_name, held)
            self._indexed = False

    async def _make_room(self) -> None:
        catalogue = self._catalogue
        while catalogue.size > self._max_bytes or len(catalogue.home) > self._max_names:
            if catalogue.foreign:
                file_name = next(iter(catalogue.foreign))
                await self._run(partial(_remove, file_name))
                catalogue.replace(file_name, None)
                continue
            if not catalogue.home:
                break
            for name in tuple(islice(catalogue.used, len(catalogue.home) // 100 + 1)):
                catalogue.forget(name)
            await self._clean()

    async def _write_index(self) -> None:
        if self._indexed or not self._writing:
            return
        async with self._flushing:
            self._indexed = True
            used, number, piece, count = self._catalogue.used, 0, list[Indexed](), 0
            for file_name, held in tuple(self._catalogue.sheets.items()):
                times = tuple(used.get(name, 0) for name in held.names)
                piece.append(Indexed(file_name, held.stamp, held.serial, held.names, times))
                count += len(times)
                if count >= PIECE_NAMES:
                    await self._run(partial(_write_piece, number, piece))
                    number, piece, count = number + 1, [], 0
            await self._run(partial(_write_piece, number, piece))
            await self._run(partial(_end_index, number + 1))

    async def _finish(self) -> None:
        with suppress(TimeoutError, _Failed):
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
                await self._write_index()
        if self._writing:
            with suppress(_Failed):
                await self._run(Copies.unlock)

    # --- the disk ----------------------------------------------------------------

    async def _open(self) -> None:
        """Open the folder and become the one who writes, as far as that is not so already."""
        if self._writing:
            return
        if self._copies is None:
            self._copies = await self._call(partial(Copies, self._folder, self._seals))
        writing = await self._call(self._copies.lock)
        if writing:
            self._over("copies-elsewhere")
        else:
            self._tell(
                "copies-elsewhere",
                str(self._folder),
                f"Another process keeps last-good copies in {self._folder}: this one only reads"
                " them until that one ends.",
            )
        if writing or not self._loaded:
            await self._load(self._copies, clean=writing)
        # Not before: who writes without having seen what is there would overwrite it.
        self._loaded, self._writing = True, writing

    async def _load(self, copies: Copies, *, clean: bool) -> None:
        def load() -> tuple[Found, Catalogue]:
            found = copies.load(clean=clean)
            return found, Catalogue.arrange(found)

        found, self._catalogue = await self._call(load, LOAD_S)
        self._indexed = False
        for file_name in found.damaged:
            self._tell_damaged(file_name)
        if found.unread is not None:
            sentence = _sentence(self._folder, "read", found.unread)
            self._tell("copies-unread", str(self._folder), sentence)
        if found.foreign:
            self._tell(
                "copies-foreign",
                str(self._folder),
                f"{self._folder} holds {len(found.foreign)} copies of another store or sealed with"
                " another key: they are not used; give the old key too, or remove them.",
            )

    async def _run(self, call: Callable[[Copies], T]) -> T:
        copies = self._copies
        if copies is None:
            raise _Failed
        return await self._call(partial(call, copies))

    async def _call(self, call: Callable[[], T], deadline_s: float = WRITE_S) -> T:
        deadline = asyncio.get_running_loop().time() + deadline_s
        try:
            return await self._writer.run(call, deadline=deadline)
        except (OSError, Late, Full, Closed) as error:
            sentence = _sentence(self._folder, "written", error)
            self._tell("copies-unwritten", str(self._folder), sentence)
            raise _Failed from error

    # --- telling -----------------------------------------------------------------

    def _tell(self, code: str, subject: str, sentence: str) -> None:
        if (code, subject) not in self._told:
            self._told.add((code, subject))
            self._listener(Fault(code, subject, sentence))

    def _over(self, code: str) -> None:
        if (code, str(self._folder)) in self._told:
            self._told.remove((code, str(self._folder)))
            self._listener(Fault(code, str(self._folder), None))

    def _tell_damaged(self, file_name: str) -> None:
        path = self._folder / file_name
        sentence = (
            f"{path} is damaged, missing or another file renamed: it is removed; what it held is"
            " kept anew when it is served again."
        )
        self._listener(Fault("copy-damaged", str(path), sentence))


class _Failed(Exception):
    """The disk failed, and the listener was told."""


def _read(file_name: str, name: str, copies: Copies) -> Sheet:
    sheet = copies.read(file_name)
    if name not in sheet.names:  # an older one, put back
        raise Damaged
    return sheet


def _rewrite(file_name: str, names: tuple[str, ...], serial: int, copies: Copies) -> Held | None:
    try:
        sheet = copies.read(file_name)
    except (Damaged, Foreign):
        return None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return None
    return copies.write(file_name, Sheet(serial, sheet.version, names, sheet.parts))


def _remove(file_name: str, copies: Copies) -> None:
    copies.remove(file_name)


def _write_piece(number: int, piece: Sequence[Indexed], copies: Copies) -> None:
    copies.write_piece(number, piece)


def _end_index(pieces: int, copies: Copies) -> None:
    copies.end_index(pieces)


def _sentence(folder: Path, what: str, error: BaseException) -> str:
    why = error.strerror if isinstance(error, OSError) else "the disk does not answer"
    return f"Last-good copies in {folder} cannot be {what}: {why}."
