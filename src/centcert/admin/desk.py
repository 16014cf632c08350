"""Where an administrator's command works on a store, and how it reports what it did.

A command looks at the store, decides, and hands all of its changes to ``transaction.commit`` at
once, under the store's lease. Nothing here prints or asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from centcert.admin.facts import Facts, called
from centcert.admin.lease import STALE_S, lease
from centcert.admin.transaction import Change, commit
from centcert.credential import Credential, decode
from centcert.errors import BadBlob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.stores import Publisher, Store

PREVIOUS: Final = ".previous"
"""Follows the key of the version before: no look-up asks for it, and IIS wants ``.pfx``."""


class Version(msgspec.Struct, frozen=True):
    """What a file holds.

    Attributes:
        issued_by: what the issuer is called; ``None``, like the dates: it cannot be used.
        not_before: seconds since the epoch, like ``not_after``.
        problem: why it cannot be used.
    """

    issued_by: str | None = None
    not_before: float | None = None
    not_after: float | None = None
    problem: str | None = None


class FileChange(msgspec.Struct, frozen=True):
    """What becomes of one file.

    Attributes:
        key: the file's.
        pattern: the name or wildcard that it stands for.
        action: ``kept``: it holds the same certificate already and is left alone;
            ``rewritten``: it does, but under another password, or was insisted on.
        before: what it held; ``None``: it was not there.
        after: what it holds; ``None``: it is gone.
    """

    key: str
    pattern: str
    action: Literal["made", "replaced", "rewritten", "kept", "removed"]
    before: Version | None
    after: Version | None


class Vetted(msgspec.Struct, frozen=True):
    """A certificate that was given to be published.

    Attributes:
        source: the files it came from.
        certificate: what it says.
        patterns: the names and wildcards that it is published as.
        skipped: its names that are no host names, in words.
        remarks: what may be a mistake.
    """

    source: str
    certificate: Facts
    patterns: tuple[str, ...]
    skipped: tuple[str, ...]
    remarks: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What a command has done to a store, or would do.

    Attributes:
        store: its URL.
        done: whether it was done; if not, ``files`` says what would be.
        files: the files that are concerned.
        certificates: of ``publish``: what was given.
        refusals: why nothing was done, a sentence each.
        encrypted: whether the private keys that were written are.
        wildcards: of ``remove``: by name, the wildcard's key that answers it now.
    """

    store: str
    done: bool
    files: tuple[FileChange, ...] = ()
    certificates: tuple[Vetted, ...] = ()
    refusals: tuple[str, ...] = ()
    encrypted: bool = True
    wildcards: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command is going to do, as the store is now."""

    outcome: Outcome
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an administrator's command works.

    Attributes:
        store: to look at.
        publisher: of the same store.
        key_passwords: the store's; the first protects what is written.
        stale_s: as of ``lease``.
        on_wait: likewise.
    """

    store: Store
    publisher: Publisher
    key_passwords: tuple[bytes, ...] = field(repr=False)
    stale_s: float = STALE_S
    on_wait: Callable[[str], None] = lambda _: None

    async def carry_out(self, plan: Callable[[], Awaitable[Plan]]) -> Outcome:
        """Do what ``plan`` comes to once nobody else publishes.

        It is asked twice: what is refused must leave no trace in the store, and while the
        command waited for another one, the store may have changed.

        Raises:
            StoreError: see ``transaction.commit``.
        """
        if not (before := await plan()).changes:
            return before.outcome
        async with lease(
            self.store, self.publisher, stale_s=self.stale_s, on_wait=self.on_wait
        ) as held:
            now = await plan()
            if not now.changes:
                return now.outcome
            await commit(self.store, self.publisher, held, now.changes)
        return msgspec.structs.replace(now.outcome, done=True)

    async def look(self, key: str, *, stands_behind: str = "") -> Found | None:
        """Return what is behind a key, read as a node would; ``None`` if there is nothing."""
        blob = await self.store.fetch(key + stands_behind)
        if blob is None:
            return None
        try:
            credential = decode(blob.data, key=key + stands_behind, passwords=self.key_passwords)
        except BadBlob as error:
            return Found(key, blob.data, None, Version(problem=error.sentence))
        return Found(key, blob.data, credential, version_of(credential))


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the store."""

    key: str
    data: bytes = field(repr=False)
    credential: Credential | None
    version: Version


def version_of(credential: Credential) -> Version:
    """Describe a good credential."""
    return Version(
        called(credential.certificate.issuer) or "nobody",
        credential.not_before,
        credential.not_after,
    )
