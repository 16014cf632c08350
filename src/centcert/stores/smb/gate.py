"""The gate to the account: a refused one is left alone, on every server of the store.

Servers of one directory count wrong passwords together, and lock an account after a
few. So one attempt is made, and the next one a minute later, or as soon as there is
another secret in the file.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from centcert import smb3
from centcert.errors import SettingsError, StoreAuthenticationFailed
from centcert.stores.smb.choice import CoolDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.stores.account import Account

REST_S: Final = (60.0, 1800.0)
"""The first and the longest rest of a refused account. Windows locks an account after ten
attempts within ten minutes by default; this makes at most four."""


class Gate:
    """Lets connections through that are set up with the account.

    Args:
        account: whose secret is read for each connection.
        store: the store's URL, for its errors.
        rest_s: the first and the longest rest.
    """

    def __init__(self, account: Account, store: str, rest_s: tuple[float, float] = REST_S) -> None:
        self.username = account.username
        self._account = account
        self._store = store
        self._rest_s = rest_s
        self._rest = CoolDown(*rest_s)
        self._refused: tuple[int, StoreAuthenticationFailed] | None = None
        self._trial = asyncio.Lock()

    async def connect(
        self, dial: Callable[[smb3.Login], Awaitable[smb3.Connection]]
    ) -> smb3.Connection:
        """Return what ``dial`` returns for the account's login of this moment.

        Raises:
            StoreAuthenticationFailed: the server refuses the account, one has done so
                lately and it was not tried again, or its secret cannot be read.
            StoreError: whatever else ``dial`` raises.
        """
        if self._refused is None:
            return await self._try(dial)
        # After a refusal there is one trial, not one for each server and connection.
        async with self._trial:
            return await self._try(dial)

    def login(self) -> smb3.Login:
        """Read the account's secret, now.

        Raises:
            StoreAuthenticationFailed: it cannot be read.
        """
        if self._account.keytab is not None:
            return smb3.KeytabLogin(self.username, self._account.keytab)
        read = self._account.password
        try:
            password = b"" if read is None else read()
            return smb3.PasswordLogin(self.username, password.decode())
        except SettingsError as error:
            sentence = f"The password of {self.username} cannot be read: {error}"
            raise StoreAuthenticationFailed(self._store, sentence) from error
        except UnicodeDecodeError:
            sentence = f"The password of {self.username} is not UTF-8: save its file anew."
            raise StoreAuthenticationFailed(self._store, sentence) from None

    async def _try(
        self, dial: Callable[[smb3.Login], Awaitable[smb3.Connection]]
    ) -> smb3.Connection:
        login = self.login()
        mark = _mark(login)
        loop = asyncio.get_running_loop()
        if self._refused is not None:
            refused, error = self._refused
            if mark != refused:
                self._rest = CoolDown(*self._rest_s)
            elif self._rest.rests(loop.time()):
                left_s = self._rest.left_s(loop.time())
                sentence = f"{error} It is tried again in {left_s:.0f} s."
                raise StoreAuthenticationFailed(self._store, sentence)
        try:
            connection = await dial(login)
        except StoreAuthenticationFailed as error:
            # Kerberos' own failures too: a directory counts them like wrong passwords.
            self._rest.failed(loop.time(), random.uniform(1.0, 1.2))  # noqa: S311  jitter
            self._refused = mark, error
            raise
        self._refused = None
        self._rest.succeeded()
        return connection


def _mark(login: smb3.Login) -> int:
    """Tell one secret from another. Python salts the hash of a text for each process."""
    if not isinstance(login, smb3.KeytabLogin):
        return hash(login)
    try:
        return login.keytab.stat().st_mtime_ns
    except OSError:
        return 0
