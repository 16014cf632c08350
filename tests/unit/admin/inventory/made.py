"""Files as they come out of a reading, without a store."""

from __future__ import annotations

import hashlib

from centcert.admin.facts import Facts
from centcert.admin.inventory.reading import Inspected, Readable, Unreadable
from centcert.stores import StoredFile

NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC, a Monday
DAY_S = 86_400.0


def stored(key: str, version: str = "1") -> StoredFile:
    return StoredFile(key, version, 1_616, NOW - DAY_S)


def readable(
    key: str,
    *names: str,
    not_after: float = NOW + 60 * DAY_S,
    not_before: float = NOW - DAY_S,
    issuer: str = "Test CA",
    weak: tuple[str, ...] = (),
    has_issuer: bool = True,
) -> Inspected:
    """A good file; two of the same names, issuer and dates hold the same certificate."""
    made_of = repr((names, not_after, not_before, issuer))
    facts = Facts(
        issued_to=names[0] if names else "nobody",
        issued_by=issuer,
        names=names,
        public_key="P-256",
        not_before=not_before,
        not_after=not_after,
        fingerprint=hashlib.sha256(made_of.encode()).hexdigest(),
        chain=(issuer,),
    )
    return Inspected(stored(key), Readable(facts, weak, has_issuer))


def unreadable(key: str, code: str = "blob-damaged") -> Inspected:
    return Inspected(stored(key), Unreadable(code, "it is not whole: export it again"))
