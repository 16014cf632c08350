"""The certificates that the servers of the bench serve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from centcert.testing import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.testing import KeyType

DOMAIN = "farm.example"
LINKS = 50_000
"""Names of one file; ext4 allows 65,000."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Names, each with ``NAME.pem`` (chain and key) in a folder.

    Attributes:
        folder: where the files are.
        names_file: the names, one a line, for the load client.
        count: how many.
    """

    folder: Path
    names_file: Path
    count: int

    @property
    def names(self) -> list[str]:
        """All of them."""
        return self.names_file.read_text().split()

    @property
    def files(self) -> list[Path]:
        """The file of each."""
        return [self.folder / f"{name}.pem" for name in self.names]


def issue(root: Path, count: int, key_type: KeyType = "ec-p256") -> Sites:
    """Give each name a certificate of its own, in the new folder ``root``."""
    sites = _named(root, count)
    authority = Authority()
    for name, file in zip(sites.names, sites.files, strict=True):
        file.write_bytes(authority.issue(name, key_type=key_type).pem())
    return sites


def share(root: Path, count: int) -> Sites:
    """Give all names one wildcard certificate: a million files in seconds, by hard links."""
    sites = _named(root, count)
    pem = Authority().issue(f"*.{DOMAIN}").pem()
    for number, file in enumerate(sites.files):
        original = root / f"original-{number // LINKS}"
        if number % LINKS == 0:
            original.write_bytes(pem)
        os.link(original, file)
    return sites


def found(root: Path, count: int) -> Sites:
    """Return what was made in ``root`` before."""
    return Sites(root / "certificates", root / "names", count)


def unknown(path: Path, count: int) -> Path:
    """Write names that nobody has, one a line."""
    path.write_text("".join(f"no{number}.nowhere.example\n" for number in range(count)))
    return path


def _named(root: Path, count: int) -> Sites:
    folder = root / "certificates"
    folder.mkdir(parents=True)
    names_file = root / "names"
    names_file.write_text("".join(f"www{number}.{DOMAIN}\n" for number in range(count)))
    return found(root, count)
