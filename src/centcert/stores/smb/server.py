"""One file server of a store: its connections, its health, and what is asked of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from centcert import smb3
from centcert.credential import MAX_BLOB_BYTES
from centcert.errors import StoreBusy, StoreError, StoreUnavailable, StoreUnwatchable
from centcert.smb3 import Kind
from centcert.stores.events import SmbStep
from centcert.stores.smb.choice import CoolDown, Standing
from centcert.stores.smb.lane import Lane, Line
from centcert.stores.smb.sentences import Scene

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from centcert.stores.events import Listener
    from centcert.stores.smb.address import Address, Location
    from centcert.stores.smb.errands import Errands
    from centcert.stores.smb.gate import Gate

T = TypeVar("T")

_Page: TypeAlias = "list[smb3.DirectoryEntry]"
_Pages: TypeAlias = "AsyncGenerator[_Page, None]"

DATA_LANES: Final = 2
"""A connection is one single-threaded process of Samba's; two keep two cores busy."""

CROWDED: Final = 8
"""Calls under way on a connection before another one is opened."""

MAX_IN_HAND: Final = 128
"""Fetches handed to the connections at once: twice what a server is sent, so that none waits there
until its deadline."""

MAX_WAITING: Final = 4096
"""Fetches that wait for their turn; above the number of handshakes a node has in waiting."""

REST_S: Final = (1.0, 30.0)
"""The first and the longest rest of a server that failed."""

RECHECK_S: Final = 5.0
"""How often a watch looks whether its server is still the one that is read from."""

SECOND_LOOK_S: Final = 1.0
"""After a watch has begun, everything is looked at once more: Samba says that it watches before the
process that does so has begun (measured: up to 100 ms later on a busy machine)."""

SETTLED_S: Final = 0.05
"""How old a change must be at least; the clocks of file systems tick every 4 to 16 ms."""

DRIFT: Final = 0.001
"""How much slower than ours the server's clock may run; one that is being set right runs up to
0.0005 slower (adjtimex(2))."""

_TICK_S: Final = 1e-7  # of a FILETIME


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take at most, seconds.

    Attributes:
        fetch_s: a fetch with all its tries; below what a visitor waits for a handshake.
        try_s: a file's way to and fro; what is late aborts the connection.
        connect_s: from TCP to the open share.
        list_s: one page of a listing, some 400 files; 100,000 files take about 1.3 s.
        hedge_after_s: a server's silence before a second one is asked.
        echo_after_s: idleness before a sign of life is asked for.
        recycle_after_s: a connection's age before another takes its place.
    """

    fetch_s: float = 1.5
    try_s: float = 0.5
    connect_s: float = 2.0
    list_s: float = 30.0
    hedge_after_s: float = 0.05
    echo_after_s: float = 30.0
    recycle_after_s: float = 12 * 3600.0


class FileServer:
    """A server that has the store's folder.

    Every method raises ``StoreError`` and nothing else. A connection that was lost is
    made anew once within a call, so a session that the server has ended is no failure.

    Attributes:
        address: which server.
    """

    def __init__(
        self,
        location: Location,
        address: Address,
        gate: Gate,
        errands: Errands,
        *,
        timing: Timing,
        connected: Callable[[FileServer], None],
        listener: Listener | None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            location: the store.
            address: one of its servers.
            gate: to the account.
            errands: the store's.
            timing: how long things may take.
            connected: called when there is a new connection, before it is used.
            listener: is told each step.
        """
        self.address = address
        self.scene = Scene(location, address, gate.username)
        self._location = location
        self._gate = gate
        self._errands = errands
        self._timing = timing
        self._connected = connected
        self._listener = listener
        self._one_at_a_time = asyncio.Lock()  # a wrong password must be sent once
        self._rest = CoolDown(*REST_S)
        self._failure: StoreError | None = None
        self._clock = (0, 0.0)  # the server's, FILETIME, and at which time of the loop
        self._data = [self._lane("data") for _ in range(DATA_LANES)]
        self._control = self._lane("control")
        self._keeper: asyncio.Task[None] | None = None
        self._in_hand = asyncio.Semaphore(MAX_IN_HAND)
        self._waiting = 0

    @property
    def standing(self) -> Standing:
        """What may be expected of it now."""
        if any(lane.line for lane in self._data):
            return Standing.CONNECTED
        resting = self._rest.rests(asyncio.get_running_loop().time())
        return Standing.RESTING if resting else Standing.READY

    def refusal(self) -> StoreError:
        """Say why it is not asked, while it rests."""
        failure = self._failure
        if failure is None:
            return StoreUnavailable(self.scene.url, f"{self.scene.url} is left alone for now.")
        left_s = self._rest.left_s(asyncio.get_running_loop().time())
        return type(failure)(failure.store, f"{failure} It is tried again in {left_s:.1f} s.")

    def connect_behind(self) -> None:
        """See to it that there is a connection for the next call."""
        if not self._data[0].dialling:
            self._errands.start(_quietly(self._data[0].connect))

    async def fetch(self, path: str) -> smb3.File | None:
        """Read a file whole; ``None`` if it is absent, a folder, or cannot be.

        Raises:
            FileTooLarge: more than ``MAX_BLOB_BYTES``; the client's own error.
            FileBusy: a writer holds or changes it.
            StoreBusy: too many wait already; raised at once.
            StoreError: there is no answer.
        """
        timeout_s = self._timing.try_s
        return await self._in_turn(
            path,
            lambda connection: connection.fetch(
                path, max_bytes=MAX_BLOB_BYTES, timeout_s=timeout_s
            ),
        )

    async def stat(self, path: str) -> smb3.FileInfo | None:
        """Ask for the times of a file that is about to be read; otherwise as ``fetch``."""
        timeout_s = self._timing.try_s
        return await self._in_turn(
            path, lambda connection: connection.stat(path, timeout_s=timeout_s)
        )

    async def _in_turn(
        self, path: str, call: Callable[[smb3.Connection], Awaitable[T | None]]
    ) -> T | None:
        """Ask about a file on a data connection, when it is its turn."""
        if self._waiting >= MAX_WAITING:
            sentence = f"{self.scene.url} answers too slowly: {MAX_WAITING} requests wait already."
            raise StoreBusy(str(self._location), sentence)
        self._waiting += 1
        try:
            async with self._in_hand:
                return await self._ask_for_file(path, call)
        finally:
            self._waiting -= 1

    async def scan(self, most: int) -> AsyncGenerator[list[smb3.DirectoryEntry], None]:
        """List the folder, on the control connection: at most so many entries at once."""
        folder, timeout_s = self._location.folder, self._timing.list_s

        async def begin(connection: smb3.Connection) -> tuple[_Pages, _Page]:
            pages = connection.pages(folder, timeout_s=timeout_s)
            return pages, await anext(pages, [])

        pages, page = await self._ask_about(folder, begin)
        async with aclosing(pages):
            while page:
                for start in range(0, len(page), most):
                    yield page[start : start + most]
                try:
                    page = await anext(pages, [])
                except smb3.SmbError as error:
                    failure = self.scene.translate(error, folder)
                    raise (self._failed(failure) if _is_gone(error) else failure) from error

    async def exists(self, path: str) -> bool:
        """Say whether there is anything at ``path``."""
        timeout_s = self._timing.try_s
        found = await self._ask_about(
            path, lambda connection: connection.stat(path, timeout_s=timeout_s)
        )
        return found is not None

    async def rights(self, path: str) -> smb3.Access:
        """Ask what the account may do with a file or a folder."""
        timeout_s = self._timing.try_s
        return await self._ask_about(
            path, lambda connection: connection.rights(path, timeout_s=timeout_s)
        )

    async def exposure(self) -> smb3.Exposure:
        """Ask what the share is open to besides the account."""
        try:
            return await smb3.probe(
                self.address.host,
                self._location.share,
                self._gate.login(),
                port=self.address.port,
                timeout_s=self._timing.connect_s,
            )
        except smb3.SmbError as error:
            raise self.scene.translate(error) from error

    async def watch(
        self, still: Callable[[], bool]
    ) -> AsyncGenerator[tuple[smb3.FileChange, ...] | None, None]:
        """Yield changes of the folder; ``None``, also at first: anything may have changed.

        Ends when another connection has taken the place of the watched one, and a few
        seconds after ``still`` says no.

        Raises:
            StoreUnwatchable: the server keeps no record of changes.
            StoreError: it cannot be watched, or no longer.
        """
        folder, timeout_s = self._location.folder, self._timing.try_s
        line = await self._control.connect()
        loop = asyncio.get_running_loop()
        try:
            async with await line.connection.watch(folder, timeout_s=timeout_s) as watch:
                yield None
                second_look_at: float | None = loop.time() + SECOND_LOOK_S
                while still():
                    try:
                        async with asyncio.timeout_at(second_look_at or loop.time() + RECHECK_S):
                            changes = await anext(watch)
                    except TimeoutError:
                        pass
                    else:
                        yield changes
                    if second_look_at is not None and loop.time() >= second_look_at:
                        second_look_at = None
                        yield None
        except smb3.SmbError as error:
            if isinstance(error, smb3.StatusError) and error.kind is Kind.UNSUPPORTED:
                url = self.scene.url
                sentence = (
                    f"{url} does not tell of changes: they are seen within refresh; lower it, or"
                    " have the server tell (Samba: change notify = yes, kernel change notify ="
                    " yes)."
                )
                raise StoreUnwatchable(url, sentence) from error
            if _is_gone(error):
                line.connection.abort()
            if not line.retired:
                raise self.scene.translate(error, folder) from error

    def is_settled(self, info: smb3.FileInfo) -> bool:
        """Say whether a later change of the file must show in its times.

        Two changes within a tick of the file system's clock look alike. So this one has
        to be older than that, by the server's clock, which is known as it was at the
        connect. A server that does not tell it has no settled files.
        """
        server_time, then = self._clock
        elapsed_s = asyncio.get_running_loop().time() - then
        age_s = (server_time - max(info.changed, info.written)) * _TICK_S + elapsed_s
        return server_time != 0 and age_s >= SETTLED_S + DRIFT * elapsed_s

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(lane.close() for lane in (*self._data, self._control)))

    # --- calls ------------------------------------------------------------------

    async def _ask_for_file(
        self, path: str, call: Callable[[smb3.Connection], Awaitable[T | None]]
    ) -> T | None:
        try:
            return await self._run(self._data_lane(), call, path)
        except smb3.InvalidPath:
            return None
        except smb3.StatusError as error:
            if error.kind in {Kind.NOT_A_FILE, Kind.NAME_REFUSED}:
                return None
            raise self.scene.translate(error, path) from error

    async def _ask_about(self, path: str, call: Callable[[smb3.Connection], Awaitable[T]]) -> T:
        try:
            return await self._run(self._control, call, path)
        except (smb3.StatusError, smb3.InvalidPath) as error:
            raise self.scene.translate(error, path) from error

    async def _run(
        self, lane: Lane, call: Callable[[smb3.Connection], Awaitable[T]], path: str
    ) -> T:
        for last in (False, True):
            line = await lane.connect()
            lane.begin(line)
            try:
                result = await call(line.connection)
            except (smb3.ConnectionLost, smb3.StatusError) as error:
                if not _is_gone(error):
                    raise
                line.connection.abort()
                if last or isinstance(error, smb3.DeadlineMissed):
                    raise self._failed(self.scene.translate(error, path)) from error
            except (smb3.QueueFull, smb3.FileChanging) as error:
                raise self.scene.translate(error, path) from error
            else:
                self._rest.succeeded()
                return result
            finally:
                lane.end(line)
        raise AssertionError  # not reached: the last turn returns or raises

    def _data_lane(self) -> Lane:
        """Return the connection with the least to do, and open another if that is much."""
        lines = [(lane.line, lane) for lane in self._data]
        open_lanes = [(line.in_flight, i) for i, (line, _) in enumerate(lines) if line is not None]
        if not open_lanes:
            return self._data[0]
        in_flight, index = min(open_lanes)
        if in_flight >= CROWDED:
            for line, lane in lines:
                resting = self._rest.rests(asyncio.get_running_loop().time())
                if line is None and not lane.dialling and not resting:
                    self._errands.start(_quietly(lane.connect))
        return self._data[index]

    def _failed(self, error: StoreError) -> StoreError:
        self._failure = error
        self._rest.failed(asyncio.get_running_loop().time(), random.uniform(1.0, 1.2))  # noqa: S311  jitter
        return error

    # --- connections ------------------------------------------------------------

    def _lane(self, purpose: str) -> Lane:
        async def dial() -> smb3.Connection:
            async with self._one_at_a_time:
                if self._rest.rests(asyncio.get_running_loop().time()):
                    raise self.refusal()
                return await self._gate.connect(lambda login: self._connect(login, purpose))

        return Lane(dial, self._errands, str(self._location))

    async def _connect(self, login: smb3.Login, purpose: str) -> smb3.Connection:
        try:
            connection = await smb3.connect(
                self.address.host,
                self._location.share,
                login,
                port=self.address.port,
                timeout_s=self._timing.connect_s,
                on_event=self._teller(purpose),
            )
        except (smb3.LoginRefused, smb3.LoginUnusable) as error:
            raise self.scene.translate(error) from error  # the gate's concern, not the server's
        except smb3.SmbError as error:
            raise self._failed(self.scene.translate(error)) from error
        # It read its clock a little earlier: what is made of it is late, never early.
        self._clock = (connection.server_time, asyncio.get_running_loop().time())
        if self._keeper is None:
            self._keeper = self._errands.start(self._keep())
        self._connected(self)
        return connection

    def _teller(self, purpose: str) -> Callable[[smb3.Event], None] | None:
        listener, server = self._listener, str(self.address)
        if listener is None:
            return None
        return lambda step: listener(SmbStep(server, purpose, step))

    async def _keep(self) -> None:
        """Find out about dead connections before a visitor does, and recycle old ones."""
        while True:
            pause_s = min(self._timing.echo_after_s, self._timing.recycle_after_s) / 3
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))  # noqa: S311
            now = asyncio.get_running_loop().time()
            for lane in (*self._data, self._control):
                line = lane.line
                if line is None:
                    continue
                if now - line.opened_at >= self._timing.recycle_after_s:
                    await _quietly(lane.renew)
                elif now - line.used_at >= self._timing.echo_after_s:
                    await self._sound(lane, line)

    async def _sound(self, lane: Lane, line: Line) -> None:
        lane.begin(line)
        with suppress(smb3.SmbError):  # the connection is gone, and its users know
            await line.connection.echo(timeout_s=self._timing.try_s)
        lane.end(line)


def _is_gone(error: smb3.SmbError) -> bool:
    """Say whether another connection may do what this one did not."""
    if isinstance(error, smb3.StatusError):
        return error.kind is Kind.SESSION_GONE
    return isinstance(error, smb3.ConnectionLost)


async def _quietly(work: Callable[[], Awaitable[object]]) -> None:
    """Do what nobody waits for; a failure is noted where it matters."""
    with suppress(StoreError):
        await work()
