"""One connection to one server: made when needed, shared, made anew when it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from centcert.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.smb3 import Connection
    from centcert.stores.smb.errands import Errands


@dataclass(slots=True, eq=False)
class Line:
    """A connection and what it is doing.

    Attributes:
        connection: the client's.
        opened_at: in the event loop's time, like ``used_at``.
        used_at: when a call last began or ended.
        in_flight: calls under way; a watch is none.
        retired: another connection has taken its place; it is closed when it has no
            more calls.
    """

    connection: Connection
    opened_at: float
    used_at: float
    in_flight: int = 0
    retired: bool = False


class Lane:
    """Keeps at most one connection for calls that share it.

    Args:
        dial: makes a connection or raises ``StoreError``.
        errands: where it is made, so that a caller who leaves does not end it for all.
        store: the store's URL, for its errors.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Connection]], errands: Errands, store: str
    ) -> None:
        self._dial = dial
        self._errands = errands
        self._store = store
        self._line: Line | None = None
        self._dialling: asyncio.Task[Line | StoreError] | None = None

    @property
    def line(self) -> Line | None:
        """The connection, if there is one that lives."""
        line = self._line
        return line if line is not None and line.connection.lost is None else None

    @property
    def dialling(self) -> bool:
        """Whether a connection is being made."""
        return self._dialling is not None

    async def connect(self) -> Line:
        """Return the connection, once there is one. However many ask, one is made.

        Raises:
            StoreError: none could be made.
        """
        return self.line or await self.renew()

    async def renew(self) -> Line:
        """Make a connection and put it in the place of the one there is.

        Raises:
            StoreError: none could be made; the one there is stays.
        """
        if self._dialling is None:
            self._dialling = self._errands.start(self._make())
        dialling = self._dialling
        await asyncio.wait((dialling,))
        if dialling.cancelled():
            raise StoreUnavailable(self._store, f"The store {self._store} was closed.")
        made = dialling.result()
        if isinstance(made, StoreError):
            # Each waiter raises an error of its own, with its own traceback.
            raise type(made)(made.store, str(made)) from made.__cause__
        return made

    def begin(self, line: Line) -> None:
        """Note that a call begins on ``line``."""
        line.in_flight += 1

    def end(self, line: Line) -> None:
        """Note that it has ended."""
        line.in_flight -= 1
        line.used_at = asyncio.get_running_loop().time()
        if line.retired and not line.in_flight:
            self._errands.start(line.connection.close())

    async def close(self) -> None:
        """Close the connection, if there is one."""
        line, self._line = self._line, None
        if line is not None:
            await line.connection.close()

    async def _make(self) -> Line | StoreError:
        try:
            connection = await self._dial()
        except StoreError as error:
            return error
        finally:
            self._dialling = None
        now = asyncio.get_running_loop().time()
        old, self._line = self._line, Line(connection, now, now)
        if old is not None:
            old.retired = True
            if not old.in_flight:
                self._errands.start(old.connection.close())
        return self._line
