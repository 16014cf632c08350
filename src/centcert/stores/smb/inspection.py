"""Looks for what makes the share less safe than it should be; changes nothing there.

Once for each server, after its first connection and again when that is recycled. What
cannot be asked stays unsaid.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from centcert.errors import StoreError
from centcert.stores.events import Weakness, WeaknessGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.stores.events import Listener
    from centcert.stores.smb.server import FileServer

CAN_WRITE: Final = "account-can-write"
GUESTS: Final = "guest-access"
UNENCRYPTED: Final = "unencrypted-access"


class Inspection:
    """What is weak about a store's servers.

    Args:
        listener: is told what is found, and what is found no more.
    """

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._found: dict[tuple[str, str], Weakness] = {}
        # What the account may change, by server and whether it is a file or the folder.
        self._changeable: dict[tuple[FileServer, str], bool] = {}
        self._without_file: set[FileServer] = set()

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """What is weak now, as far as is known, in the order it was found."""
        return tuple(self._found.values())

    async def look(self, server: FileServer, folder: str) -> None:
        """Look at what a server lets the account do with the folder, and lets others do."""
        self._without_file.add(server)
        with suppress(StoreError):
            await self._look_at(server, folder, "folder")
        with suppress(StoreError):
            exposure = await server.exposure()
            self._note(GUESTS, server, _guests, found=exposure.guest or exposure.anonymous)
            self._note(UNENCRYPTED, server, _unencrypted, found=exposure.unencrypted)

    def wants_file(self, server: FileServer) -> bool:
        """Say, once after each ``look``, that one of the server's files is to be looked at."""
        if server not in self._without_file:
            return False
        self._without_file.remove(server)
        return True

    async def look_at_file(self, server: FileServer, path: str) -> None:
        """Look at what a server lets the account do with a file."""
        with suppress(StoreError):
            await self._look_at(server, path, "file")

    async def _look_at(self, server: FileServer, path: str, kind: str) -> None:
        self._changeable[server, kind] = (await server.rights(path)).can_change
        found = any(self._changeable.get((server, one)) for one in ("folder", "file"))
        self._note(CAN_WRITE, server, _can_write, found=found)

    def _note(
        self, code: str, server: FileServer, put: Callable[[FileServer], str], *, found: bool
    ) -> None:
        if found:
            self._find(code, server, put)
        else:
            self._clear(code, server)

    def _find(self, code: str, server: FileServer, put: Callable[[FileServer], str]) -> None:
        subject = server.scene.url
        if (code, subject) in self._found:
            return
        weakness = self._found[code, subject] = Weakness(code, subject, time.time(), put(server))
        if self._listener is not None:
            self._listener(weakness)

    def _clear(self, code: str, server: FileServer) -> None:
        subject = server.scene.url
        if self._found.pop((code, subject), None) and self._listener is not None:
            self._listener(WeaknessGone(code, subject))


def _can_write(server: FileServer) -> str:
    return (
        f"The account {server.scene.username} can change or delete files of {server.scene.url}:"
        " whoever takes over this machine could replace certificates. Grant it the right to read"
        " and nothing else, of the share and of the folder."
    )


def _guests(server: FileServer) -> str:
    return (
        f"{server.scene.url} can be opened without an account: anybody in the network can take"
        " private keys. Refuse guests (Samba: guest ok = no, map to guest = never; Windows:"
        " disable the Guest account and remove Everyone from the share)."
    )


def _unencrypted(server: FileServer) -> str:
    return (
        f"{server.scene.url} can be opened without encryption. Centcert encrypts, but others who"
        " read it may send private keys in clear: require it (Samba: server smb encrypt ="
        " required; Windows: Set-SmbShare -EncryptData $true)."
    )
