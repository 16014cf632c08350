"""Try a store as a front end would use it, before anything relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from centcert.names import pattern_of
from centcert.stores import open_store
from centcert.stores.events import SmbStep

if TYPE_CHECKING:
    from centcert.stores import Account
    from centcert.stores.events import Event


class Found(msgspec.Struct, frozen=True):
    """What was found in a store.

    Attributes:
        files: how many there are.
        certificates: how many of them are called as a certificate is looked up.
        server: who answered, if the store is a share.
        dialect: of SMB, ``3.1.1``.
        cipher: ``AES-256-GCM``.
    """

    files: int
    certificates: int
    server: str | None = None
    dialect: str | None = None
    cipher: str | None = None


async def try_store(url: str, account: Account | None) -> Found:
    """Connect, list the files, and tell what was found; nothing is opened or decoded.

    Raises:
        SettingsError: no store can be called so, or a password file cannot be read.
        StoreError: it gave no answer.
    """
    agreed: dict[str, str | None] = {"server": None, "dialect": None, "cipher": None}

    def listen(event: Event) -> None:
        # Whoever has a share has this module; a folder need not wait for its import.
        from centcert.smb3 import ProtocolAgreed  # noqa: PLC0415

        if isinstance(event, SmbStep) and isinstance(event.step, ProtocolAgreed):
            cipher = event.step.cipher.replace("_", "-")
            agreed.update(server=event.server, dialect=event.step.dialect, cipher=cipher)

    async with open_store(url, account=account, listener=listen) as store:
        keys = [file.key for file in await store.list()]
    certificates = sum(pattern_of(key) is not None for key in keys)
    return Found(len(keys), certificates, **agreed)
