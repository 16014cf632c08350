"""A share on one or several file servers as a store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias

from centcert import smb3
from centcert.errors import FileBusy, StoreError, StoreUnavailable
from centcert.stores.base import BATCH, Blob, Change, Store, StoredFile, is_bare, too_large
from centcert.stores.smb.choice import HedgeBudget, choose
from centcert.stores.smb.errands import Errands
from centcert.stores.smb.gate import REST_S as ACCOUNT_REST_S
from centcert.stores.smb.gate import Gate
from centcert.stores.smb.inspection import Inspection
from centcert.stores.smb.server import SETTLED_S, FileServer, Timing
from centcert.stores.smb.sightings import Sightings

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from centcert.stores.account import Account
    from centcert.stores.events import Listener, Weakness
    from centcert.stores.smb.address import Location

RETRIES_S: Final = (0.05, 0.1, 0.2)
"""The pauses before a file is read again that is being written, or was just now."""

_Answer: TypeAlias = "tuple[FileServer, smb3.File | None]"
_State: TypeAlias = "tuple[FileServer, str]"  # a file's version, there


class SmbStore(Store):
    """The files of a folder on a share, read over SMB 3.1.1 and encrypted.

    With several servers the first is asked; the next one if it fails, or if it is
    silent for a moment. Their files should be the same, byte for byte; a version of
    one server need not be a version of another.

    Args:
        location: where it is.
        account: who reads it.
        timing: how long things may take.
        account_rest_s: how long a refused account is left alone, at first and at most.
        listener: is told the steps of the connections and what is weak about the share.
    """

    def __init__(
        self,
        location: Location,
        account: Account,
        *,
        timing: Timing | None = None,
        account_rest_s: tuple[float, float] = ACCOUNT_REST_S,
        listener: Listener | None = None,
    ) -> None:
        self.url = str(location)
        self._location = location
        self._timing = timing or Timing()
        self._errands = Errands()
        self._inspection = Inspection(listener)
        self._budget = HedgeBudget()
        gate = Gate(account, self.url, account_rest_s)
        self._servers = [
            FileServer(
                location,
                address,
                gate,
                self._errands,
                timing=self._timing,
                listener=listener,
                connected=self._inspect,
            )
            for address in location.servers
        ]
        self._inspected_at: dict[FileServer, float] = {}
        self._sightings: Sightings[_State] = Sightings(self._errands, SETTLED_S)

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """What is known to be weak about the share; see ``Weakness``."""
        return self._inspection.weaknesses

    async def fetch(self, key: str) -> Blob | None:
        """See ``Store.fetch``. A file that changed just now is read again 50 ms later.

        Not if a watch has told of that change: then it was seen before it is read.
        """
        if not is_bare(key) or "\\" in key:
            return None
        self._check_open()
        try:
            async with asyncio.timeout(self._timing.fetch_s):
                return await self._fetch_settled(key)
        except smb3.FileTooLarge as error:
            raise too_large(key, error.size) from error
        except TimeoutError as error:
            sentence = f"{self.url} gave no answer within {self._timing.fetch_s:g} s."
            raise StoreUnavailable(self.url, sentence) from error

    async def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """See ``Store.scan``. Where the server takes no notice of case, keys are lower-case.

        All is of one server: the next one is asked only if nothing came.
        """
        self._check_open()
        errors = []
        for server in self._in_order():
            has_begun = False
            try:
                async with aclosing(self._scan(server)) as batches:
                    async for batch in batches:
                        has_begun = True
                        yield batch
            except StoreError as error:
                self._check_open()
                if has_begun:
                    raise
                errors.append(error)
            else:
                return
        raise _gravest(errors)

    async def watch(self) -> AsyncGenerator[Change, None]:
        """See ``Store.watch``. A key is reported in the server's spelling and in lower case."""
        while True:
            self._check_open()
            server = self._in_order()[0]
            follow = server.watch(lambda: self._is_preferred(server))  # noqa: B023  used in this turn
            try:
                async with aclosing(follow) as batches:
                    async for batch in batches:
                        for change in _changes(batch):
                            if change.key is not None:
                                self._look_at(server, change.key)
                            yield change
            except StoreError:
                self._check_open()
                raise

    async def inspect(self) -> tuple[Weakness, ...]:
        """Look now at what is weak about the server that is asked first.

        Raises:
            StoreError: all servers rest after a failure.
        """
        await self._inspection.look(self._in_order()[0], self._location.folder)
        return self.weaknesses

    async def close(self) -> None:
        """See ``Store.close``."""
        await self._errands.end()
        await asyncio.gather(*(server.close() for server in self._servers))

    # --- reading ----------------------------------------------------------------

    def _look_at(self, server: FileServer, key: str) -> None:
        path = self._location.path(key)
        self._sightings.changed(path, lambda: _state(server, path))

    async def _fetch_settled(self, key: str) -> Blob | None:
        path = self._location.path(key)
        seen = await self._sightings.take(path)
        sentence = f"{key} in {self.url} changes all the time: it is read later."
        unsettled = FileBusy(self.url, sentence)
        for pause_s in (*RETRIES_S, None):
            try:
                server, file = await self._ask(path)
            except FileBusy as error:
                unsettled = error
            else:
                if file is None:
                    return None
                state = server, _version(file.info)
                if state == seen or server.is_settled(file.info):
                    self._inspect_file(server, path)
                    self._sightings.expect(path)
                    return Blob(key, file.data, state[1])
                seen = state
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise unsettled

    async def _ask(self, path: str) -> _Answer:
        servers = self._in_order()
        if len(servers) == 1:
            return servers[0], await servers[0].fetch(path)
        self._budget.asked()
        return await self._race(servers, path)

    async def _race(self, servers: builtins.list[FileServer], path: str) -> _Answer:
        """Ask the next server when one has failed, and once when one is silent for a moment.

        An attempt that is overtaken goes on to its deadline: whether it meets it tells
        if the server lives.
        """
        waiting = iter(servers)
        attempts = {self._errands.start(_attempt(next(waiting), path))}
        hedge_after_s: float | None = self._timing.hedge_after_s
        errors: builtins.list[StoreError] = []
        while attempts:
            done, attempts = await asyncio.wait(
                attempts, timeout=hedge_after_s, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                outcome = _outcome(attempt)
                if isinstance(outcome, tuple):
                    return outcome
                errors.append(outcome)
            if not done:
                hedge_after_s = None
            if attempts and (done or not self._budget.take()):
                continue
            following = next(waiting, None)
            if following is not None:
                attempts.add(self._errands.start(_attempt(following, path)))
        self._check_open()
        raise _gravest(errors)

    async def _scan(self, server: FileServer) -> AsyncGenerator[Sequence[StoredFile], None]:
        folds_case: bool | None = None  # not known while it makes no difference
        async with aclosing(server.scan(BATCH)) as pages:
            async for page in pages:
                entries = [entry for entry in page if _is_file(entry)]
                odd = next((one.name for one in entries if one.name != one.name.lower()), None)
                if folds_case is None and odd is not None:
                    folds_case = await self._folds_case(server, odd)
                if entries:
                    yield [_stored(entry, lower=folds_case is True) for entry in entries]

    async def _folds_case(self, server: FileServer, name: str) -> bool:
        """Find out whether the server takes no notice of case, by a name that has capitals.

        No attribute says it: Samba and NTFS both call every share case-sensitive. So it is
        asked for a spelling that nobody would give a second file: not in lower case.
        """
        return await server.exists(self._location.path(_misspelt(name)))

    # --- servers ----------------------------------------------------------------

    def _in_order(self) -> builtins.list[FileServer]:
        """Return the servers to ask, best first: at least one.

        Raises:
            StoreError: all of them rest after a failure.
        """
        choice = choose([server.standing for server in self._servers])
        for index in choice.connect:
            self._servers[index].connect_behind()
        if not choice.ask:
            raise _gravest([server.refusal() for server in self._servers])
        return [self._servers[index] for index in choice.ask]

    def _is_preferred(self, server: FileServer) -> bool:
        ask = choose([one.standing for one in self._servers]).ask
        return not ask or self._servers[ask[0]] is server

    def _inspect(self, server: FileServer) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._inspected_at.get(server, float("-inf")) >= self._timing.recycle_after_s:
            self._inspected_at[server] = now
            self._errands.start(self._inspection.look(server, self._location.folder))

    def _inspect_file(self, server: FileServer, path: str) -> None:
        if self._inspection.wants_file(server):
            self._errands.start(self._inspection.look_at_file(server, path))

    def _check_open(self) -> None:
        if self._errands.ended.is_set():
            raise StoreUnavailable(self.url, f"The store {self.url} was closed.")


async def _attempt(server: FileServer, path: str) -> _Answer | StoreError | smb3.FileTooLarge:
    """Ask one server; errors are values, as nobody may be left to take them."""
    try:
        return server, await server.fetch(path)
    except (StoreError, smb3.FileTooLarge) as error:
        return error


async def _state(server: FileServer, path: str) -> _State | None:
    """Look at a file; an error is for its reader to meet."""
    try:
        info = await server.stat(path)
    except StoreError:
        return None
    return None if info is None else (server, _version(info))


def _outcome(
    attempt: asyncio.Task[_Answer | StoreError | smb3.FileTooLarge],
) -> _Answer | StoreError:
    """Return an answer, or an error after which another server may be asked; else raise it."""
    if attempt.cancelled():
        return StoreUnavailable("", "The store was closed.")
    outcome = attempt.result()
    if isinstance(outcome, FileBusy | smb3.FileTooLarge):  # answers about the file, if not the file
        raise outcome
    return outcome


def _gravest(errors: builtins.list[StoreError]) -> StoreError:
    """Return the first error that will not pass by itself, else the first."""
    return next((error for error in errors if not error.retryable), errors[0])


def _is_file(entry: smb3.DirectoryEntry) -> bool:
    return not entry.info.is_directory and is_bare(entry.name)


def _stored(entry: smb3.DirectoryEntry, *, lower: bool) -> StoredFile:
    key, info = entry.name.lower() if lower else entry.name, entry.info
    return StoredFile(key, _version(info), info.size, info.modified_s)


def _misspelt(name: str) -> str:
    """Return a spelling of ``name`` that is neither its own nor its lower-case one, if it has any.

    Only in ASCII: of other letters not every server knows which belong together.
    """
    lower = [letter.lower() if letter.isascii() else letter for letter in name]
    for place in reversed(range(len(name))):  # the last letters of the suffix are small, mostly
        spelling = "".join((*lower[:place], lower[place].upper(), *lower[place + 1 :]))
        if lower[place].isascii() and spelling not in {name, name.lower()}:
            return spelling
    return name.lower()


def _version(info: smb3.FileInfo) -> str:
    """Name the state of a file: no program can set the time of its last change of any kind."""
    return f"{info.written:x}-{info.changed:x}-{info.size:x}"


def _changes(batch: tuple[smb3.FileChange, ...] | None) -> Iterator[Change]:
    if batch is None:
        yield Change(None)
        return
    for name in dict.fromkeys(change.name for change in batch):
        yield Change(name)
        if name != name.lower():
            yield Change(name.lower())
