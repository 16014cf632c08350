"""``centcert rollback`` and ``centcert remove``: the version before comes back, or today's goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from centcert.admin.desk import PREVIOUS, Desk, FileChange, Found, Outcome, Plan
from centcert.admin.transaction import Change
from centcert.admin.vetting import day
from centcert.names import HostName, candidates, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable


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
                Change(key, previous.blob.data),
                Change(key + PREVIOUS, None if there is None else there.blob.data),
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
            changes += [Change(there.key + PREVIOUS, there.blob.data), Change(there.key, None)]
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
