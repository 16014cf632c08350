"""Judge what was read of a store, and put it in order. No I/O, no clock."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from centcert.admin.facts import Facts  # noqa: TC001  msgspec reads it
from centcert.admin.inventory.file_warnings import (
    FileWarning,
    Shelf,
    answered,
    listed,
    warnings_of,
)
from centcert.admin.inventory.groups import EXPIRIES, expiry_group
from centcert.admin.inventory.reading import Readable
from centcert.errors import WrongName
from centcert.names import HostName
from centcert.provider.findings import EXPIRING_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from centcert.admin.inventory.reading import Inspected

State: TypeAlias = Literal[
    "good", "expiring", "expired", "not-yet-valid", "wrong-name", "unused", "unreadable"
]
STATES: Final[tuple[State, ...]] = get_args(State)

FAULTS: Final[frozenset[State]] = frozenset(
    {"expired", "not-yet-valid", "wrong-name", "unreadable"}
)
"""The states of a file whose name gets no certificate from it that clients accept."""

Order: TypeAlias = Literal["file", "name", "issuer", "expires"]
Grouping: TypeAlias = Literal["expiry", "issuer"]


class Entry(msgspec.Struct, frozen=True):
    """One file of a store.

    Attributes:
        key: the file's.
        name: what it answers: a host name, or ``*.`` and a host name; ``None``: nothing.
        state: ``good``; ``expiring`` within ten days; ``expired``; ``not-yet-valid``;
            ``wrong-name``: its certificate does not cover the name; ``unused``: no look-up
            asks for it; ``unreadable``.
        code: of the error that an unreadable file or one for a wrong name is.
        sentence: why it is that, and what to do.
        certificate: what it says; ``None``: the file is unreadable.
        group: of the grouping that was asked for.
        size: bytes.
        modified: seconds since the epoch, by the store's clock.
        warnings: what is no fault.
    """

    key: str
    name: str | None
    state: State
    code: str | None
    sentence: str | None
    certificate: Facts | None
    group: str | None
    size: int
    modified: float
    warnings: tuple[FileWarning, ...]


def judge(files: Sequence[Inspected], now: float, grouping: Grouping | None = None) -> list[Entry]:
    """Judge each file, by itself and among the others.

    Args:
        files: every certificate file of a store.
        now: seconds since the epoch.
        grouping: by what the entries get a group, if any.
    """
    shelf = Shelf.of(files)
    return [_entry(one, shelf, now, grouping) for one in files]


def matching(entries: Iterable[Entry], text: str, states: Sequence[State]) -> list[Entry]:
    """Choose the entries that hold ``text`` and are in one of ``states``; none: in any.

    ``text`` is looked for, whatever its case, in the file's name, the names it answers and
    covers, in both spellings, and in what the certificate is issued to and by.
    """
    wanted = text.casefold()
    return [
        entry
        for entry in entries
        if (not states or entry.state in states)
        and any(wanted in field.casefold() for field in _searched(entry))
    ]


def in_order(entries: Iterable[Entry], order: Order) -> list[Entry]:
    """Sort entries, within their groups; without a date or an issuer, last."""

    def position(entry: Entry) -> tuple[int, str, float, str, str]:
        found, group = entry.certificate, entry.group or ""
        rank = EXPIRIES.index(group) if group in EXPIRIES else 0
        at = inf if found is None else found.not_after
        by = "\U0010ffff" if found is None else found.issued_by
        name = entry.name or "\U0010ffff"
        return (
            rank,
            group,
            at if order == "expires" else 0.0,
            {"issuer": by, "name": name}.get(order, ""),
            entry.key,
        )

    return sorted(entries, key=position)


def _entry(one: Inspected, shelf: Shelf, now: float, grouping: Grouping | None) -> Entry:
    name = shelf.names[one.file.key]
    state, code, sentence = _state(one, name, now)
    return Entry(
        key=one.file.key,
        name=name,
        state=state,
        code=code,
        sentence=sentence,
        certificate=one.reading.facts if isinstance(one.reading, Readable) else None,
        group=_group(one, grouping, now),
        size=one.file.size,
        modified=one.file.modified,
        warnings=tuple(warnings_of(one, shelf)),
    )


def _state(one: Inspected, name: str | None, now: float) -> tuple[State, str | None, str | None]:
    reading = one.reading
    if not isinstance(reading, Readable):
        return "unreadable", reading.code, reading.sentence
    if name is None:
        return "unused", None, None
    if not answered(name, reading.facts.names):
        names = listed(list(reading.facts.names)) or "no DNS name at all"
        sentence = (
            f"its certificate is for {names} and does not cover {name}: put a certificate for that"
            " name in this file, or rename the file"
        )
        return "wrong-name", WrongName.code, sentence
    return _by_dates(reading.facts, now), None, None


def _by_dates(found: Facts, now: float) -> State:
    if now > found.not_after:
        return "expired"
    if now < found.not_before:
        return "not-yet-valid"
    return "expiring" if found.not_after - now < EXPIRING_S else "good"


def _group(one: Inspected, grouping: Grouping | None, now: float) -> str | None:
    if grouping is None:
        return None
    if not isinstance(one.reading, Readable):
        return "unreadable"
    if grouping == "issuer":
        return one.reading.facts.issued_by
    return expiry_group(one.reading.facts.not_after, now)


def _searched(entry: Entry) -> Iterable[str]:
    yield entry.key
    if entry.name is not None:
        yield entry.name
        yield HostName(entry.name.removeprefix("*.")).unicode
    if entry.certificate is not None:
        yield from entry.certificate.names
        yield entry.certificate.issued_to
        yield entry.certificate.issued_by
