"""File names that nearly say a host name: what is wrong with them, and what they should be."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from centcert.names import pattern_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SUFFIXES: Final = r"\.(?:pfx|p12|pem)"

_PLAIN: Final = re.compile(rf"(?!.*{_SUFFIXES}\.)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.(?:pfx|pem)")
"""What needs no repair: nearly every key, told in a microsecond."""

_REPAIRS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("its letters are composed of two characters each", lambda k: unicodedata.normalize("NFC", k)),
    ("it has capital letters, and this store tells them from small ones", str.lower),
    (
        "it is named like a copy",
        lambda k: re.sub(rf"(?: - copy)?(?: \(\d+\))?(?=(?:{_SUFFIXES})+$)", "", k),
    ),
    ("it has blanks", lambda k: re.sub(r"\s", "", k)),
    ("it ends in a dot", lambda k: k.rstrip(".")),
    ("it has a second suffix", lambda k: re.sub(rf"({_SUFFIXES})(?:{_SUFFIXES})+$", r"\1", k)),
    ("its suffix is .p12", lambda k: re.sub(r"\.p12$", ".pfx", k)),
    ("it ends in a dot before its suffix", lambda k: re.sub(rf"\.+(?={_SUFFIXES}$)", "", k)),
    ("a wildcard's file begins with _ in place of *", lambda k: re.sub(r"^\*\.", "_.", k)),
)


def right_key(key: str) -> tuple[str, tuple[str, ...]] | None:
    """Say what a key should be that no look-up asks for, or only one for a nonsensical name.

    ``None``: it is as it should be, or nothing like a host name's.

    Returns:
        The key that is asked for, and what is wrong with this one.
    """
    if _PLAIN.fullmatch(key):
        return None
    repaired, wrong = key, []
    for what, repair in _REPAIRS:
        before, repaired = repaired, repair(repaired)
        if repaired != before:
            wrong.append(what)
    if not wrong or pattern_of(repaired) is None:
        return None
    return repaired, tuple(wrong)
