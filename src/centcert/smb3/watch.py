"""A watched folder: CHANGE_NOTIFY, armed again before what it brought is handed out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from centcert.smb3 import replies, requests
from centcert.smb3.errors import StatusError
from centcert.smb3.requests import Access, Option
from centcert.smb3.status import Status
from centcert.smb3.wire import Command

if TYPE_CHECKING:
    from types import TracebackType

    from centcert.smb3.core import Exchange
    from centcert.smb3.errors import ConnectionLost
    from centcert.smb3.link import Link
    from centcert.smb3.replies import FileChange

_NOTIFY_BYTES: Final = 64 * 1024
"""One credit's worth; 64 KiB is also the most that Windows keeps record of."""

_READING: Final = int(Access.READ_DATA | Access.READ_ATTRIBUTES)


class Watch:
    """Changes in one folder, in batches; made by ``Connection.watch``.

    Iterate over it: each step waits for changes, without a deadline, and gives a tuple
    of them, or ``None`` if the server has lost some: list the folder then. The server
    keeps record between two steps. A change may be reported more than once, and a
    file's may be reported before its writer is done.

    A step may be cancelled and taken again; it must not be taken twice at once. It
    raises ``ConnectionLost`` or ``StatusError``, after which the watch is over.

    Close it, or use it as a context manager.
    """

    def __init__(self, link: Link, path: str) -> None:
        self._link = link
        self._path = path
        self._folder: bytes | None = None
        self._armed: tuple[Exchange, asyncio.Future[ConnectionLost | None]] | None = None

    async def begin(self) -> None:
        """Open the folder, and wait until the server keeps record of its changes.

        Raises:
            SmbError: as ``Connection.watch``.
        """
        create = requests.create(self._path, _READING, options=Option.DIRECTORY_FILE)
        (opened,) = await self._link.exchange((create,))
        if opened.status:
            raise StatusError(opened.status, Command.CREATE)
        self._folder = replies.create(opened).file_id
        exchange, _ = self._armed = self._arm(self._folder)
        await self._link.acknowledged(exchange)
        if exchange.done:
            _check(exchange)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[FileChange, ...] | None:
        if self._armed is None or self._folder is None:
            raise StopAsyncIteration
        exchange, answered = self._armed
        # Shielded: if this step is cancelled, the next one takes up the same wait.
        lost = await asyncio.shield(answered)
        if self._folder is None:
            raise StopAsyncIteration
        self._armed = None
        if lost:
            raise type(lost)(*lost.args)
        _check(exchange)
        # Before the changes are handled: the server keeps record for an armed folder
        # and goes on doing so, but nothing is to be lost if it did not.
        self._armed = self._arm(self._folder)
        return replies.change_notify(exchange.replies[0])

    def close(self) -> None:
        """Have the server drop the watch; nothing is waited for."""
        if self._armed is not None:
            exchange, answered = self._armed
            self._armed = None
            self._link.forget(exchange, cancel=True)
            if not answered.done():
                answered.set_result(None)
        if self._folder is not None:
            folder, self._folder = self._folder, None
            self._link.send_and_forget((requests.close(folder),))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _arm(self, folder: bytes) -> tuple[Exchange, asyncio.Future[ConnectionLost | None]]:
        notify = requests.change_notify(folder, _NOTIFY_BYTES)
        return self._link.start((notify,), lasting=True)


def _check(exchange: Exchange) -> None:
    status = exchange.replies[0].status
    if status not in {Status.SUCCESS, Status.NOTIFY_ENUM_DIR}:
        raise StatusError(status, Command.CHANGE_NOTIFY)
