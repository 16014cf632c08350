"""``centcert publish``: what is to be written, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from centcert.admin.desk import (
    PREVIOUS,
    Desk,
    FileChange,
    Found,
    Outcome,
    Plan,
    Vetted,
    version_of,
)
from centcert.admin.facts import facts
from centcert.admin.pfx import write_pfx
from centcert.admin.transaction import Change
from centcert.admin.vetting import (
    about_what_is_there,
    covered_names,
    covers,
    objections,
    remarks,
)
from centcert.names import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from centcert.admin.intake import Given
    from centcert.credential import Credential


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
                change, steps = await _written(desk, publication, given, pattern, key, found[key])
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


async def _written(
    desk: Desk,
    publication: Publication,
    given: Given,
    pattern: str,
    key: str,
    there: Found | None,
) -> tuple[FileChange, list[Change]]:
    after = version_of(given.credential)
    before = None if there is None else there.version
    same = there is not None and _is_same(given.credential, there.credential)
    if there is not None and same and not publication.force and await _is_as_today(desk, there):
        return FileChange(key, pattern, "kept", before, after), []
    password = desk.key_passwords[0] if desk.key_passwords else None
    steps = [Change(key, write_pfx(given.credential, password))]
    if there is None:
        return FileChange(key, pattern, "made", before, after), steps
    if same:  # the version before stays what it is
        return FileChange(key, pattern, "rewritten", before, after), steps
    # The copy first, so that it exists whenever the new file does.
    steps.insert(0, Change(key + PREVIOUS, there.blob.data))
    return FileChange(key, pattern, "replaced", before, after), steps


def _is_same(credential: Credential, there: Credential | None) -> bool:
    return (
        there is not None
        and there.fingerprint == credential.fingerprint
        and there.issuers == credential.issuers
    )


async def _is_as_today(desk: Desk, there: Found) -> bool:
    """Say whether a file opens with the first key password, and only with one."""
    first = desk.key_passwords[:1]
    return await desk.opens(there, first) and not (first and await desk.opens(there, ()))


def _vetted(given: Given, patterns: tuple[str, ...], answering: list[Credential]) -> Vetted:
    return Vetted(
        given.source,
        facts(given.credential),
        patterns,
        covered_names(given.credential.certificate).skipped,
        tuple(remarks(given, answering)),
    )
