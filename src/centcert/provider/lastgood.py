"""What this node has served, sealed on its disk: a known name outlives store and restart.

It decides what is kept and what may be recalled; where it lies, ``sheets`` decides, what
it is sealed with, ``seal``, and whether a copy may be served, ``policy``. Serving never
waits for a write: what is to be kept is noted in memory and written behind, and a disk
that fails is told of and tried again.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509

from centcert.background import Background
from centcert.credential import Credential
from centcert.errors import BadBlob, SettingsError
from centcert.names import HostName
from centcert.provider.clock import Clock, SystemClock
from centcert.provider.faults import Fault, Faults
from centcert.provider.pending import Copy, Pending
from centcert.provider.seal import Damaged, Foreign, Seals
from centcert.provider.sheets import Failed, Sheets
from centcert.stores.threads import Closed, Full, Late, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from centcert.provider.copies import Copies, Sheet

__all__ = ["Copy", "Fault", "LastGood"]

RECALL_S: Final = 5.0
"""A handshake waits no longer for a copy; a disk that takes this long is as good as none."""

CLOSE_S: Final = 10.0
"""What is not on the disk by then is left, as a node that ends must end."""

RETRY_S: Final = 10.0
"""How long a disk that failed, or another process that writes, is left alone."""

GATHER_S: Final = (0.1, 1.0)
"""What is to be written waits until nothing more has come for the first of these times, but no
longer than the second: a storm of first visits needs the processor itself, and a copy that is
written with others costs a fifteenth of one alone."""

INDEX_S: Final = 600.0
"""How often the times of use are written: for the next start, which can do with old ones."""

MAX_PENDING: Final = 8_192
"""Copies that wait for the disk. Each holds a credential, so a dead disk costs 50 MB at most."""


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
        self._faults = Faults(folder, listener)
        self._clock = clock or SystemClock()
        self._load_issuer = load_issuer
        self._sheets = Sheets(
            folder,
            self._seals,
            self._faults,
            self._clock,
            max_bytes=max_bytes,
            max_names=max_names,
        )
        self._reader = Threads("centcert copies reader", most=2)
        self._pending = Pending()
        self._settling = Pending()  # being written
        self._behind = False  # whether the last flush left something to do
        self._flushing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._sheets.close)
            stack.callback(self._reader.close)
            with suppress(Failed):
                await self._sheets.open()
            if not self._sheets.writing:
                self._changed.set()  # so that it is tried again
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
        return copy is not None if noted else name in self._sheets.catalogue.home

    def keep(self, name: HostName, version: str, credential: Credential) -> None:
        """Keep what ``name`` is answered with; at once in memory, soon on the disk.

        Costs microseconds, and nothing is written, if it is kept already.
        """
        noted, _ = self._noted(name)
        home = self._sheets.catalogue.home.get(name)
        if not noted and home and home.startswith(self._seals.group(credential.key, version)):
            return
        self._pending.keep(name, Copy(version, credential))
        self._bound_pending()
        self._changed.set()

    def forget(self, name: HostName) -> None:
        """Keep nothing for ``name``: the store has withdrawn it. That is never lost."""
        catalogue = self._sheets.catalogue
        on_disk = (
            name in catalogue.home
            or name in self._settling
            or bool(catalogue.still_listing({name}))
        )
        if on_disk or name in self._pending:
            self._pending.withdraw(name, on_disk=on_disk)
            self._changed.set()

    def used(self, name: HostName) -> None:
        """Note that ``name`` was asked for now: of its copies, those of unused names go first."""
        self._sheets.used(name)

    def recently_used(self, since: float) -> list[HostName]:
        """Return the names used since ``since`` (seconds since the epoch), newest first."""
        used = self._sheets.catalogue.used
        recent = takewhile(lambda name: used[name] >= since, reversed(used))
        return [HostName(name) for name in recent]

    async def recall(self, name: HostName) -> Copy | None:
        """Return the copy for ``name``; ``None``: there is none that can be served.

        It covers the name and has not expired. Returns within ``RECALL_S``.
        """
        noted, copy = self._noted(name)
        if not noted:
            place = self._sheets.place_of(name)
            copy = await self._read(name, place)
            if copy is None:  # it may have moved while it was being read
                noted, copy = self._noted(name)
                moved_to = self._sheets.place_of(name)
                if not noted and moved_to != place:
                    copy = await self._read(name, moved_to)
        if copy is None or not self.has(name) or not copy.credential.covers(name):
            return None
        if copy.credential.not_after < self._clock.wall():
            key = copy.credential.key
            sentence = (
                f"{key}: the copy of what {name} was served with has expired: it is of no use."
            )
            self._faults.tell("copy-expired", sentence, subject=key)
            return None
        return copy

    async def flush(self) -> None:
        """Write what is to be written now; what cannot be is told, and tried again later."""
        async with self._flushing:
            self._behind = True
            try:
                await self._sheets.open()
                if self._sheets.writing:
                    await self._settle()
                    self._faults.over("copies-unwritten")
                    self._behind = False
            except Failed:
                pass
            except SettingsError as error:  # after the start: the node must go on
                self._faults.tell("copies-unwritten", str(error))

    # --- reading -----------------------------------------------------------------

    def _noted(self, name: HostName) -> tuple[bool, Copy | None]:
        for noted in (self._pending, self._settling):
            if name in noted:
                return True, noted.copies.get(name)
        return False, None

    async def _read(self, name: HostName, place: tuple[str, str] | None) -> Copy | None:
        copies = self._sheets.copies
        if place is None or copies is None:
            return None
        deadline = asyncio.get_running_loop().time() + RECALL_S
        read = partial(_read, *place, name, copies)
        try:
            sheet = await self._reader.run(read, deadline=deadline)
            credential = Credential.from_parts(sheet.parts, load_issuer=self._load_issuer)
        except (Damaged, Foreign, FileNotFoundError):
            self._lose(name, place)
            return None
        except (ValueError, BadBlob):  # of this sheet alone
            self._lose(name, place, sheet_id=place[1])
            return None
        except (OSError, Late, Full, Closed) as error:
            self._faults.tell_failed("copies-unread", "read", error)
            return None
        self._faults.over("copies-unread")
        return Copy(sheet.version, credential)

    def _lose(self, name: HostName, place: tuple[str, str], *, sheet_id: str | None = None) -> None:
        # Another process, if it is that one which writes, may just have moved the name.
        if self._sheets.writing and self._sheets.place_of(name) == place:
            self._sheets.lose(place[0], sheet_id)
            self._changed.set()

    # --- writing -----------------------------------------------------------------

    def _bound_pending(self) -> None:
        if self._pending.drop_to(MAX_PENDING):
            self._faults.tell(
                "copies-dropped",
                f"{self._folder} cannot take the copies of what is served as fast as they come:"
                " some are not kept until they are looked up again.",
            )

    async def _write_behind(self) -> None:
        clock = asyncio.get_running_loop().time
        index_at = clock() + INDEX_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(index_at):
                    await self._changed.wait()
                    await self._gather()
            self._changed.clear()
            await self.flush()
            if clock() >= index_at:
                await self._write_index()
                index_at = clock() + INDEX_S
            if self._behind:
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _gather(self) -> None:
        pause_s, longest_s = GATHER_S
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while self._changed.is_set():
                    self._changed.clear()
                    await asyncio.sleep(pause_s)

    async def _settle(self) -> None:
        self._settling, self._pending = self._pending, Pending()
        try:
            await self._sheets.settle(self._settling)
        finally:  # what was not written waits for the next time
            self._pending.put_back(self._settling)
            self._settling = Pending()
            self._bound_pending()
        self._faults.over("copies-dropped")

    async def _write_index(self) -> None:
        async with self._flushing:
            with suppress(Failed):
                await self._sheets.write_index()

    async def _finish(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
                await self._write_index()
        with suppress(Failed):
            await self._sheets.unlock()


def _read(file_name: str, sheet_id: str, name: str, copies: Copies) -> Sheet:
    sheet = copies.read(file_name, sheet_id)
    if name not in sheet.names:  # the process that writes has withdrawn it
        raise Damaged
    return sheet
