"""Publish, roll back, withdraw: what each does to the store's files, and what it reports.

Nothing here prints or asks. Every command looks at the store, decides, and hands all of its
changes to ``transaction.commit`` at once, under the store's lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from centcert.admin.facts import Facts, called, facts
from centcert.admin.lease import STALE_S, lease
from centcert.admin.pfx import write_pfx
from centcert.admin.transaction import Change, commit
from centcert.admin.vetting import (
    about_what_is_there,
    covered_names,
    covers,
    day,
    objections,
    remarks,
)
from centcert.credential import Credential, decode
from centcert.errors import BadBlob
from centcert.names import HostName, candidates, keys_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from centcert.admin.intake import Given
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
        return Found(key, blob.data, credential, _version(credential))


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the store."""

    key: str
    data: bytes = field(repr=False)
    credential: Credential | None
    version: Version


# --- publish ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published.

    Attributes:
        given: the credentials.
        chosen: the only names and wildcards to publish; empty: all that are covered.
        force: whether to go on over what yields to it, and to write again what is there.
        now: seconds since the epoch.
    """

    given: tuple[Given, ...]
    chosen: tuple[str, ...]
    force: bool
    now: float


async def plan_publish(desk: Desk, publication: Publication) -> Plan:
    """Find out what has to be written, and what speaks against it."""
    shares = [(given, _share_of(given, publication.chosen)) for given in publication.given]
    refusals = [*_unclear(shares, publication.chosen)]
    vetted, files, changes = [], [], []
    for given, patterns in shares:
        spoken = list(objections(given, publication.now))
        answering = []
        for pattern in patterns:
            found = {key: await desk.look(key) for key in keys_of(pattern)}
            answers = _answering(found, pattern)
            if answers is not None:
                answering.append(answers)
                spoken += about_what_is_there(given, answers)
            for key in _keys_to_write(found):
                change, steps = _written(desk, publication, given, pattern, key, found[key])
                files.append(change)
                changes += steps
        refusals += [one.sentence for one in spoken if not (one.yields and publication.force)]
        vetted.append(_vetted(given, patterns, answering))
    outcome = Outcome(
        desk.store.url,
        done=False,
        files=tuple(files),
        certificates=tuple(vetted),
        refusals=tuple(refusals),
        encrypted=bool(desk.key_passwords),
    )
    return Plan(outcome, () if refusals else tuple(changes))


def _share_of(given: Given, chosen: Sequence[str]) -> tuple[str, ...]:
    if not chosen:
        return covered_names(given.credential.certificate).patterns
    return tuple(pattern for pattern in chosen if covers(given.credential, pattern))


def _answering(found: dict[str, Found | None], pattern: str) -> Credential | None:
    for there in found.values():
        if there is not None and there.credential and covers(there.credential, pattern):
            return there.credential
    return None


def _unclear(
    shares: Sequence[tuple[Given, tuple[str, ...]]], chosen: Sequence[str]
) -> Iterable[str]:
    owners: dict[str, Given] = {}
    for given, patterns in shares:
        if chosen and not patterns and len(shares) > 1:
            yield f"{given.source}: its certificate covers none of the names chosen: leave it out."
        for pattern in patterns:
            other = owners.setdefault(pattern, given)
            if other is not given:
                yield (
                    f"{other.source} and {given.source} both are for {pattern}: publish the one"
                    " that shall answer it."
                )
    for pattern in chosen:
        if pattern not in owners:
            yield f"No certificate given covers {pattern}: leave that --name out."


def _keys_to_write(found: dict[str, Found | None]) -> list[str]:
    """Choose among the keys of a name, which are in look-up order.

    An international name is written as IIS reads it, in Unicode. Centcert looks at the
    spelling in ASCII first, so if the store has that one too, it is written likewise.
    """
    pfx = [key for key in found if key.endswith(".pfx")]
    in_use = {key.rpartition(".")[0] for key, one in found.items() if one is not None}
    return [key for key in pfx if key == pfx[-1] or key.rpartition(".")[0] in in_use]


def _written(
    desk: Desk,
    publication: Publication,
    given: Given,
    pattern: str,
    key: str,
    there: Found | None,
) -> tuple[FileChange, list[Change]]:
    after = _version(given.credential)
    before = None if there is None else there.version
    same = there is not None and _is_same(given.credential, there.credential)
    if there is not None and same and not publication.force and _is_protected_as_today(desk, there):
        return FileChange(key, pattern, "kept", before, after), []
    password = desk.key_passwords[0] if desk.key_passwords else None
    steps = [Change(key, write_pfx(given.credential, password))]
    if there is None:
        return FileChange(key, pattern, "made", before, after), steps
    if same:  # the version before stays what it is
        return FileChange(key, pattern, "rewritten", before, after), steps
    # The copy first, so that it exists whenever the new file does.
    steps.insert(0, Change(key + PREVIOUS, there.data))
    return FileChange(key, pattern, "replaced", before, after), steps


def _is_same(credential: Credential, there: Credential | None) -> bool:
    return (
        there is not None
        and there.fingerprint == credential.fingerprint
        and there.issuers == credential.issuers
    )


def _is_protected_as_today(desk: Desk, there: Found) -> bool:
    """Say whether a file opens with the first key password, and only with one."""
    first = desk.key_passwords[:1]
    return _opens(there, first) and not (first and _opens(there, ()))


def _opens(there: Found, passwords: tuple[bytes, ...]) -> bool:
    try:
        decode(there.data, key=there.key, passwords=passwords)
    except BadBlob:
        return False
    return True


def _vetted(given: Given, patterns: tuple[str, ...], answering: list[Credential]) -> Vetted:
    return Vetted(
        given.source,
        facts(given.credential),
        patterns,
        covered_names(given.credential.certificate).skipped,
        tuple(remarks(given, answering)),
    )


# --- roll back, remove ------------------------------------------------------------


async def plan_rollback(desk: Desk, patterns: Iterable[str], *, force: bool, now: float) -> Plan:
    """Find out what the previous versions of ``patterns`` are: they change places with today's."""
    files: list[FileChange] = []
    changes: list[Change] = []
    refusals: list[str] = []
    for pattern in patterns:
        kept = False
        for key in keys_of(pattern):
            previous = await desk.look(key, stands_behind=PREVIOUS)
            if previous is None:
                continue
            kept = True
            there = await desk.look(key)
            if not force:
                refusals += _against_return(previous, now)
            before = None if there is None else there.version
            action: Literal["made", "replaced"] = "made" if there is None else "replaced"
            files.append(FileChange(key, pattern, action, before, previous.version))
            changes += [
                Change(key, previous.data),
                Change(key + PREVIOUS, None if there is None else there.data),
            ]
        if not kept:
            refusals.append(
                f"{desk.store.url} keeps no previous version of {pattern}: nothing that Centcert"
                " published was replaced or removed under that name."
            )
    outcome = Outcome(desk.store.url, done=False, files=tuple(files), refusals=tuple(refusals))
    return Plan(outcome, () if refusals else tuple(changes))


async def plan_remove(desk: Desk, patterns: Iterable[str]) -> Plan:
    """Find the files that stand for exactly ``patterns``; each becomes the previous version."""
    files, changes, refusals = [], [], []
    wildcards: dict[str, str] = {}
    for pattern in patterns:
        found = [one for key in keys_of(pattern) if (one := await desk.look(key))]
        wildcard = await _wildcard_for(desk, pattern)
        if not found:
            refusals.append(
                f"{desk.store.url} holds no file for {pattern}"
                + (f"; {wildcard} answers it, and other names." if wildcard else ".")
            )
        elif wildcard is not None:
            wildcards[pattern] = wildcard
        for there in found:
            files.append(FileChange(there.key, pattern, "removed", there.version, None))
            changes += [Change(there.key + PREVIOUS, there.data), Change(there.key, None)]
    outcome = Outcome(
        desk.store.url,
        done=False,
        files=tuple(files),
        refusals=tuple(refusals),
        wildcards=wildcards,
    )
    return Plan(outcome, () if refusals else tuple(changes))


def _against_return(previous: Found, now: float) -> Iterable[str]:
    if previous.credential is None:
        yield (
            f"The previous version of {previous.key} cannot be used, as"
            f" {previous.version.problem}: say --force to bring it back all the same."
        )
    elif not previous.credential.within_dates(now):
        yield (
            f"The previous version of {previous.key} expired on"
            f" {day(previous.credential.not_after)}: say --force to bring it back all the same."
        )


async def _wildcard_for(desk: Desk, pattern: str) -> str | None:
    if pattern.startswith("*."):
        return None
    name = HostName(pattern)
    for candidate in candidates(name):
        found = await desk.look(candidate.key) if candidate.wildcard else None
        if found is not None and found.credential is not None and found.credential.covers(name):
            return candidate.key
    return None


def _version(credential: Credential) -> Version:
    return Version(
        called(credential.certificate.issuer) or "nobody",
        credential.not_before,
        credential.not_after,
    )
