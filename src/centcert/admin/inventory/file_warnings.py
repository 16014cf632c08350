"""What an administrator should know of a file though it is no fault. No I/O, no clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import msgspec

from centcert.admin.facts import printable
from centcert.admin.inventory.reading import Readable
from centcert.admin.inventory.spelling import right_key
from centcert.admin.vetting import day
from centcert.names import SUFFIXES, pattern_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from centcert.admin.facts import Facts
    from centcert.admin.inventory.reading import Inspected

Code: TypeAlias = Literal[
    "misnamed",
    "same-name",
    "hides-wildcard",
    "names-differ",
    "out-of-step",
    "weak-signature",
    "issuer-missing",
]

_SHOWN = 3


class FileWarning(msgspec.Struct, frozen=True):
    """Something about a file that may be a mistake.

    Attributes:
        code: stable, for machines.
        sentence: what it is and what to do.
    """

    code: Code
    sentence: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """What matters of all files for a warning about one.

    Attributes:
        names: what each certificate file answers, by its key.
        by_pattern: the keys that stand for a host name or ``*.`` and a host name, in
            look-up order.
        newest: for each set of several names the certificate for exactly these that is
            valid longest, with the file's key.
    """

    names: Mapping[str, str | None]
    by_pattern: Mapping[str, tuple[str, ...]]
    newest: Mapping[tuple[str, ...], tuple[Facts, str]]

    @classmethod
    def of(cls, files: Iterable[Inspected]) -> Self:
        """Sort files by what they stand for and by their certificates' names."""
        names: dict[str, str | None] = {}
        by_pattern: defaultdict[str, list[str]] = defaultdict(list)
        newest: dict[tuple[str, ...], tuple[Facts, str]] = {}
        for one in files:
            key = one.file.key
            pattern = names[key] = served_by(key)
            if pattern is not None:
                by_pattern[pattern].append(key)
            if pattern is not None and isinstance(one.reading, Readable):
                found = one.reading.facts
                covered = tuple(sorted(found.names))
                known = newest.get(covered)
                if len(covered) > 1 and (known is None or _age(known) < _age((found, key))):
                    newest[covered] = found, key
        return cls(
            names,
            {pattern: tuple(sorted(same, key=_rank)) for pattern, same in by_pattern.items()},
            newest,
        )


def served_by(key: str) -> str | None:
    """Return what a file answers: a host name, or ``*.`` and a host name; ``None``: nothing.

    As ``names.pattern_of``, but a name such as ``www.contoso.com.pfx`` is nobody's.
    """
    return None if right_key(key) is not None else pattern_of(key)


def answered(pattern: str, names: Iterable[str]) -> list[str]:
    """List what the file of ``pattern`` answers with a certificate for ``names``.

    The pattern itself if it is covered; of a wildcard else the single names below it.
    """
    held, parent = set(names), pattern.partition(".")[2]
    if pattern in held or (parent and f"*.{parent}" in held):
        return [pattern]
    if not pattern.startswith("*."):
        return []
    return sorted(name for name in held if name.partition(".")[2] == parent)


def warnings_of(one: Inspected, shelf: Shelf) -> Iterator[FileWarning]:
    """Say what an administrator should know of a file, the most important first."""
    key = one.file.key
    pattern = shelf.names[key]
    if pattern is None:
        yield FileWarning("misnamed", _misnamed(key, shelf))
    else:
        yield from _about_others(key, pattern, shelf)
    if isinstance(one.reading, Readable):
        if pattern is not None:
            yield from _about_names(one.reading.facts, pattern, shelf)
        yield from _about_signatures(one.reading)


def listed(names: list[str]) -> str:
    """Write a few of ``names`` and how many more there are."""
    shown = [printable(name) for name in names[:_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _misnamed(key: str, shelf: Shelf) -> str:
    found = right_key(key)
    if found is None:
        return (
            "no client gets it, as its name is no host name's: call it <host name>.pfx, or"
            " _.<domain>.pfx for a wildcard, or remove it"
        )
    right, wrong = found
    there = right in shelf.names
    do = f"remove it, or put it in the place of {right}" if there else f"rename it to {right}"
    return f"no client gets it, as {' and '.join(wrong)}: {do}"


def _about_others(key: str, pattern: str, shelf: Shelf) -> Iterator[FileWarning]:
    first = shelf.by_pattern[pattern][0]
    if key != first:
        yield FileWarning(
            "same-name",
            f"{first} stands for the same name and comes first: this one answers only when that"
            " one is unusable or outside its dates, so remove one of them",
        )
    parent = pattern.partition(".")[2]
    wildcard = shelf.by_pattern.get(f"*.{parent}")
    if wildcard and not pattern.startswith("*."):
        yield FileWarning(
            "hides-wildcard",
            f"it answers {pattern} in place of {wildcard[0]}: renew both, or remove it if the"
            " wildcard's is to be served",
        )


def _about_names(found: Facts, pattern: str, shelf: Shelf) -> Iterator[FileWarning]:
    answers = answered(pattern, found.names)
    if answers and pattern not in answers:
        yield FileWarning(
            "names-differ",
            f"its certificate is not for {pattern}, so it answers only {listed(answers)}: put the"
            " wildcard's certificate here, or rename the file",
        )
    newest = shelf.newest.get(tuple(sorted(found.names)))
    if newest and newest[0].fingerprint != found.fingerprint:
        other, key = newest
        if other.not_after > found.not_after:
            yield FileWarning(
                "out-of-step",
                f"{key} holds a newer certificate for the same names, good until"
                f" {day(other.not_after)}: put that one here too",
            )


def _about_signatures(reading: Readable) -> Iterator[FileWarning]:
    if reading.weak_signatures:
        yield FileWarning(
            "weak-signature",
            f"{listed(list(reading.weak_signatures))} in its chain is signed with SHA-1 or MD5,"
            " which clients refuse: have the certificate issued anew",
        )
    if not reading.has_issuer:
        yield FileWarning(
            "issuer-missing",
            f"it holds no certificate of its issuer, {reading.facts.issued_by}: add that, unless it"
            " is a root that every client has",
        )


def _age(held: tuple[Facts, str]) -> tuple[float, str]:
    found, key = held
    return found.not_after, key


def _rank(key: str) -> tuple[bool, int]:
    """Order the keys of one pattern as ``names.candidates`` does."""
    return not key.isascii(), next(i for i, suffix in enumerate(SUFFIXES) if key.endswith(suffix))
