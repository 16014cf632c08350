"""The demo's certificate authority and its store: a few sites, one of each kind."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from centcert.names import HostName, candidates
from centcert.testing import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.testing import KeyType


@dataclass(frozen=True, slots=True)
class DemoSite:
    """A site of the farm.

    Attributes:
        pattern: what its certificate covers, as a person writes it.
        visit: a name to visit it by.
        key_type: of its private key.
        locked: whether its file has a password.
        unicode: whether its file carries the Unicode name, as IIS has it.
    """

    pattern: str
    visit: HostName
    key_type: KeyType = "ec-p256"
    locked: bool = False
    unicode: bool = False

    @property
    def key(self) -> str:
        """The name of its file in the store."""
        keys = [candidate.key for candidate in candidates(self.visit)]
        if self.pattern.startswith("*."):
            return next(key for key in keys if key.startswith("_."))
        return keys[2] if self.unicode else keys[0]


SHOP: Final = DemoSite("www.contoso.example", HostName.parse("www.contoso.example"))
LEGACY: Final = DemoSite(
    "legacy.contoso.example", HostName.parse("legacy.contoso.example"), "rsa-2048"
)
BANK: Final = DemoSite("bank.contoso.example", HostName.parse("bank.contoso.example"), locked=True)
TENANTS: Final = DemoSite("*.tenants.example", HostName.parse("adventure.tenants.example"))
BOOKS: Final = DemoSite("bücher.example", HostName.from_unicode("bücher.example"), unicode=True)
SITES: Final = (SHOP, LEGACY, BANK, TENANTS, BOOKS)


class Farm:
    """A certificate authority, and a folder with the files of its sites.

    Args:
        home: an empty folder; it gets ``ca.pem``, ``key-password`` and ``store/``.
    """

    def __init__(self, home: Path) -> None:
        self.store = home / "store"
        self.ca_file = home / "ca.pem"
        self.password_file = home / "key-password"
        self._authority = Authority()
        self._password = secrets.token_urlsafe(16).encode()
        self.store.mkdir()
        self.ca_file.write_bytes(self._authority.root_pem)
        self.password_file.touch(mode=0o600)
        self.password_file.write_bytes(self._password)
        for site in SITES:
            self.publish(site)

    def publish(self, site: DemoSite) -> int:
        """Put a new certificate for ``site`` into the store; return its serial number.

        By temporary name and rename, so that nobody reads half a file.
        """
        issued = self._authority.issue(site.pattern, key_type=site.key_type)
        file = self.store / site.key
        temporary = file.with_suffix(".new")
        temporary.write_bytes(issued.pfx(self._password if site.locked else None))
        temporary.rename(file)
        return issued.certificate.serial_number
