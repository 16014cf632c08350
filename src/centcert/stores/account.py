"""The account that a store on a server is read with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    r"""Who reads the store, and where its secret is. Exactly one of the two secrets is given.

    Attributes:
        username: ``user``, ``DOMAIN\user`` or ``user@domain``; with a keytab the principal,
            ``user@REALM``.
        password: returns the password in UTF-8; called at each connect, so that it can be
            rotated. May raise ``SettingsError``.
        keytab: a keytab with the account's Kerberos key.
    """

    username: str
    password: Callable[[], bytes] | None = field(default=None, repr=False)
    keytab: Path | None = None

    def __post_init__(self) -> None:
        if (self.password is None) is (self.keytab is None):
            raise ValueError("An account has either a password or a keytab.")
