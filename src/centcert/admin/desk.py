"""Where an administrator's command works on a store, and how it reports what it did.

A command looks at the store, decides, and hands all of its changes to ``transaction.commit`` at
once, under the store's lease. What a stranger may have put there is decoded where a node decodes
it too, in a confined process. Nothing here prints or asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from centcert.admin.facts import Facts, called
from centcert.admin.lease import lease
from centcert.admin.transaction import Change, commit
from centcert.errors import BadBlob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from centcert.credential import Credential
    from centcert.provider.decoder import Decoder
    from centcert.stores import Blob, Publisher, Store

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
        decoder: of what lies in the store.
        key_passwords: the store's; the first protects what is written.
        on_wait: as of ``lease``.
    """

    store: Store
    publisher: Publisher
    decoder: Decoder
    key_passwords: tuple[bytes, ...] = field(repr=False)
    on_wait: Callable[[str], None] = lambda _: None
    _seen: dict[str, Found] = field(default_factory=dict, init=False, repr=False)

    async def carry_out(self, plan: Callable[[], Awaitable[Plan]]) -> Outcome:
        """Do what ``plan`` comes to once nobody else publishes.

        It is asked twice: what is refused must leave no trace in the store, and while the
        command waited for another one, the store may have changed.

        Raises:
            StoreError: see ``transaction.commit``.
        """
        if not (before := await plan()).changes:
            return before.outcome
        async with lease(self.store, self.publisher, on_wait=self.on_wait) as held:
            now = await plan()
            if not now.changes:
                return now.outcome
            await commit(self.store, self.publisher, held, now.changes)
        return msgspec.structs.replace(now.outcome, done=True)

    async def look(self, key: str, *, stands_behind: str = "") -> Found | None:
        """Return what is behind a key, read as a node would; ``None`` if there is nothing.

        Each version of a file is decoded once. The second look is under the lease, and a file
        that takes its ten seconds must not make others take this command for dead.
        """
        asked = key + stands_behind
        blob = await self.store.fetch(asked)
        if blob is None:
            return None
        seen = self._seen.get(asked)
        if seen is not None and seen.blob.version == blob.version:
            return replace(seen, blob=blob)
        try:
            credential = await self.decoder.decode(blob, self.key_passwords)
            found = Found(key, blob, credential, version_of(credential))
        except BadBlob as error:
            found = Found(key, blob, None, Version(problem=error.sentence))
        self._seen[asked] = found
        return found

    async def opens(self, found: Found, passwords: Sequence[bytes]) -> bool:
        """Say whether one of ``passwords``, or none at all, opens a file."""
        try:
            await self.decoder.decode(found.blob, passwords)
        except BadBlob:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the store.

    Attributes:
        key: of the file that it is or, as its previous version, stands behind.
        blob: the file.
        credential: what it holds; ``None``: nothing that can be used.
        version: likewise, for people.
    """

    key: str
    blob: Blob
    credential: Credential | None
    version: Version


def version_of(credential: Credential) -> Version:
    """Describe a good credential."""
    return Version(
        called(credential.certificate.issuer) or "nobody",
        credential.not_before,
        credential.not_after,
    )
