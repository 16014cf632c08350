"""Writing into a share, with an account that may."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from centcert import smb3
from centcert.errors import SettingsError, StoreBusy, StoreDenied, StoreError, StoreUnavailable
from centcert.smb3 import Kind, Status
from centcert.stores.publishing import Publisher, check_bare
from centcert.stores.smb.gate import Gate
from centcert.stores.smb.sentences import Scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.stores.account import Account
    from centcert.stores.smb.address import Location

T = TypeVar("T")

CONNECT_S: Final = 10.0
"""Longer than a node waits: nobody's handshake hangs on this."""

STEP_S: Final = 10.0
"""How long one step may take, the server's flush to its disk included."""

PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Between the tries at a file that another program has open; readers are quick."""

_IN_USE: Final = frozenset({Kind.BUSY})
_TARGET_IN_USE: Final = frozenset({Kind.BUSY, Kind.DENIED})
"""What a move meets where Windows has the file open that is to be replaced ([MS-FSA],
FileRenameInformation). An account that may not write at all has been told so by then: it had to
make a file first.
"""


class SmbPublisher(Publisher):
    """The files of a folder on a share, written over SMB 3.1.1 and encrypted.

    One connection, made when it is needed. The server has each file on its disk before it is
    moved into place (``FLUSH``, [MS-SMB2] 2.2.17).
    """

    def __init__(self, location: Location, account: Account) -> None:
        """Nothing is asked yet.

        Raises:
            SettingsError: the location has several servers: which of them replicates to the
                others is not for this to guess.
        """
        if len(location.servers) > 1:
            one = location.on(location.servers[0])
            raise SettingsError(
                f"{location} names several servers: name the one to write to, such as --store"
                f" {one}; if they do not replicate by themselves, each in turn."
            )
        self.url = str(location)
        self._location = location
        self._scene = Scene(location, location.servers[0], account.username)
        self._gate = Gate(account, self.url)
        self._connection: smb3.Connection | None = None

    async def make(self, key: str, data: bytes) -> bool:
        """See ``Publisher.make``."""
        path = self._path(key)
        try:
            await self._run(lambda to: to.write_new(path, data, timeout_s=STEP_S))
        except smb3.StatusError as error:
            if error.kind is Kind.EXISTS:
                return False
            await self._discard(path)
            raise self._error(error, key) from error
        except smb3.SmbError as error:
            await self._discard(path)
            raise self._error(error, key) from error
        return True

    async def move(self, key: str, new_key: str) -> None:
        """See ``Publisher.move``."""
        path, new_path = self._path(key), self._path(new_key)
        try:
            await self._run(
                lambda to: to.rename(path, new_path, replace=True, timeout_s=STEP_S),
                again=_TARGET_IN_USE,
            )
        except smb3.SmbError as error:
            raise self._error(error, new_key) from error

    async def delete(self, key: str) -> bool:
        """See ``Publisher.delete``."""
        path = self._path(key)
        try:
            return await self._run(lambda to: to.delete(path, timeout_s=STEP_S))
        except smb3.SmbError as error:
            raise self._error(error, key) from error

    async def close(self) -> None:
        """See ``Publisher.close``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _path(self, key: str) -> str:
        check_bare(key)
        if "\\" in key:
            raise ValueError(f"{key!r} is no bare file name on a share.")
        return self._location.path(key)

    async def _run(
        self,
        step: Callable[[smb3.Connection], Awaitable[T]],
        *,
        again: frozenset[Kind] = _IN_USE,
    ) -> T:
        """Take a step, again while another program holds the file.

        A connection that breaks off is not made anew for the step: it may have been taken.
        """
        for pause_s in PAUSES_S:
            try:
                return await step(await self._connected())
            except smb3.StatusError as error:
                if error.kind not in again:
                    raise
            await asyncio.sleep(pause_s)
        return await step(await self._connected())

    async def _connected(self) -> smb3.Connection:
        if self._connection is None or self._connection.lost is not None:
            self._connection = await self._gate.connect(self._connect)
        return self._connection

    async def _connect(self, login: smb3.Login) -> smb3.Connection:
        address = self._scene.server
        try:
            return await smb3.connect(
                address.host,
                self._location.share,
                login,
                port=address.port,
                timeout_s=CONNECT_S,
            )
        except smb3.SmbError as error:
            raise self._scene.translate(error) from error

    async def _discard(self, path: str) -> None:
        with suppress(smb3.SmbError, StoreError):
            await self._run(lambda to: to.delete(path, timeout_s=STEP_S))

    def _error(self, error: smb3.SmbError, key: str) -> StoreError:
        share, server = self._location.share, self._scene.server
        if isinstance(error, smb3.InvalidPath):
            return self._bad_name(key)
        if not isinstance(error, smb3.StatusError):
            return self._scene.translate(error, self._location.path(key))
        if error.status == Status.DISK_FULL:
            sentence = f"The share {share} on {server} has no room left for {key}: make some."
            return StoreBusy(self.url, sentence)
        if error.kind is Kind.NAME_REFUSED:
            return self._bad_name(key)
        if error.kind is Kind.DENIED:
            return StoreDenied(
                self.url,
                f"The account {self._scene.username} may not write {key} into the share {share} on"
                f" {server}: name one that may by --username.",
            )
        return self._scene.translate(error, self._location.path(key))

    def _bad_name(self, key: str) -> StoreError:
        server = self._scene.server
        return StoreUnavailable(self.url, f"{server} cannot hold a file called {key}.")
