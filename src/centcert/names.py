"""Host names and the keys under which a store holds them. No I/O, no certificates.

A name is what a client asks for; a key is a file name in the store. Each name has
its keys in one order only, and each key stands for one name or one wildcard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import idna

from centcert.errors import NameRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAME_BYTES: Final = 253
"""RFC 1035 §2.3.4: 255 octets on the wire are 253 characters without the trailing dot."""

SUFFIXES: Final = (".pfx", ".pem")
"""What a key ends with, in look-up order: IIS's own form first."""

WILDCARD_MARK: Final = "_"
"""Stands for ``*`` as the left-most label of a key, as in IIS's ``_.contoso.com.pfx``."""

_LABELS = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_SHOWN = 80


class HostName(str):
    """A host name that can be looked up: it exists only if it is one.

    Lower-case ASCII labels of 1 to 63 bytes (letters, digits, hyphen, underscore),
    joined by dots, 253 bytes in all; not an IP address, no trailing dot, no label
    ``_`` (the wildcard's mark in a key).
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a host name in the form of a TLS server name (RFC 6066 §3).

        Upper case is folded, as host names compare without case (RFC 4343). Nothing
        else is changed: what is malformed is refused, not cleaned up.

        Raises:
            NameRefused: the text is not a host name.
        """
        if not text.isascii() or len(text) > MAX_NAME_BYTES:
            raise NameRefused(_why_refused(text))
        name = text.lower()
        if (
            _LABELS.fullmatch(name) is None
            or WILDCARD_MARK in name.split(".")
            or _ENDS_IN_A_NUMBER.fullmatch(name) is not None
        ):
            raise NameRefused(_why_refused(text))
        return cls(name)

    @classmethod
    def from_unicode(cls, text: str) -> Self:
        """Read a host name as a person writes it: ``Bücher.example`` is accepted too.

        Raises:
            NameRefused: the text is neither a host name nor a valid IDN (RFC 5891).
        """
        if text.isascii():
            return cls.parse(text)
        try:
            return cls.parse(idna.encode(text, uts46=True).decode("ascii"))
        except (idna.IDNAError, UnicodeError) as error:
            raise NameRefused(f"{_shown(text)} is not a valid international name.") from error

    @property
    def unicode(self) -> str:
        """The name with its A-labels as U-labels (RFC 5890 §2.3.2.1); else the name itself."""
        return _to_unicode(self) or str(self)

    @property
    def parent(self) -> HostName | None:
        """The name without its left-most label; ``None`` for a single label."""
        _, dot, parent = self.partition(".")
        return HostName(parent) if dot else None

    @property
    def wildcard(self) -> HostName | None:
        """``*.`` and the parent; ``None`` for a single label; of such a name, itself.

        It stands for all names that have this parent and no file of their own, and is looked
        up and remembered like a name. No client can ask for it: ``parse`` refuses it.
        """
        _, dot, parent = self.partition(".")
        return HostName("*." + parent) if dot else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that may hold the credential of a name.

    Attributes:
        key: for example ``_.contoso.com.pfx``.
        wildcard: whether the key is the wildcard's and not the name's own.
    """

    key: str
    wildcard: bool


def candidates(name: HostName) -> tuple[Candidate, ...]:
    """List the keys to try for ``name``, best first: two to eight of them.

    The name's own file, for an IDN also in Unicode (as IIS spells it), then the
    wildcard of its parent, likewise: one label, never climbing. Of a ``HostName.wildcard``
    the latter alone.
    """
    return tuple(
        Candidate(stem + suffix, wildcard) for stem, wildcard in _stems(name) for suffix in SUFFIXES
    )


def ascii_keys(name: HostName) -> tuple[str, ...]:
    """List those of the keys of ``name`` that are in ASCII: two or four.

    In microseconds, whatever a stranger makes up: to find the Unicode spelling of a name
    takes milliseconds if it is made for that. ``ascii_key`` leads back to these.
    """
    stems = (str(name),) if name.parent is None else (name, f"{WILDCARD_MARK}.{name.parent}")
    return tuple(stem + suffix for stem in stems for suffix in SUFFIXES)


def ascii_key(key: str) -> str:
    """Return ``key`` with its U-labels as A-labels; nothing else about it is checked."""
    labels = key.split(".")
    return ".".join(label if label.isascii() else _a_label(label) for label in labels)


def pattern_of(key: str) -> str | None:
    """Return what ``key`` stands for: a host name or ``*.`` and a host name, in ASCII.

    ``None`` if no look-up ever asks for this key. The inverse of ``candidates``: a
    key has one pattern, whatever its suffix, and only in its one right spelling.
    """
    for suffix in SUFFIXES:
        if not key.endswith(suffix):
            continue
        stem = key.removesuffix(suffix)
        wildcard = stem.startswith(WILDCARD_MARK + ".")
        try:
            name = HostName.from_unicode(stem[2:] if wildcard else stem)
        except NameRefused:
            return None
        if stem not in (s for s, _ in _stems(HostName("a." + name) if wildcard else name)):
            return None
        return "*." + name if wildcard else str(name)
    return None


def keys_of(pattern: str) -> tuple[str, ...]:
    """List the keys that stand for ``pattern``, in look-up order: two to four of them.

    Args:
        pattern: a host name or ``*.`` and a host name, as ``pattern_of`` returns them.
    """
    wildcard = pattern.startswith("*.")
    name = HostName("a" + pattern[1:] if wildcard else pattern)
    return tuple(one.key for one in candidates(name) if one.wildcard is wildcard)


def covers(pattern: str, name: HostName) -> bool:
    """Say whether a certificate's dNSName ``pattern`` covers ``name`` (RFC 9525 §6.3).

    A wildcard is the whole left-most label, stands for exactly one label, and needs
    something to its right. Comparison is without case.
    """
    pattern = pattern.lower()
    if pattern == name:
        return True
    parent = name.parent
    return parent is not None and pattern == "*." + parent


def _stems(name: HostName) -> Iterator[tuple[str, bool]]:
    u_labels = _u_labels(name)
    if not name.startswith("*."):
        yield from ((spelling, False) for spelling in _spellings(name, u_labels))
    parent = name.parent
    if parent is not None:
        spellings = _spellings(parent, u_labels[1:])
        yield from ((f"{WILDCARD_MARK}.{spelling}", True) for spelling in spellings)


def _spellings(name: HostName, u_labels: list[str | None]) -> Iterator[str]:
    yield str(name)
    international = _joined(name, u_labels)
    if international is not None:
        yield international


def _to_unicode(name: HostName) -> str | None:
    """Return the one Unicode spelling that encodes back to ``name``, if there is one."""
    return _joined(name, _u_labels(name))


def _joined(name: HostName, u_labels: list[str | None]) -> str | None:
    labels = [label for label in u_labels if label is not None]
    international = ".".join(labels)
    return None if len(labels) < len(u_labels) or international == name else international


def _u_labels(name: HostName) -> list[str | None]:
    """Return the U-label of each label, or the label itself if it has none; ``None``: bad."""
    labels = name.split(".")
    return [_u_label(label) for label in labels] if "xn--" in name else list(labels)


def _u_label(label: str) -> str | None:
    try:
        u_label = idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return None
    # It is valid; that it is the only one for this A-label, its encoding says.
    return u_label if u_label == label or _a_label(u_label) == label else None


def _a_label(u_label: str) -> str:
    return u_label if u_label.isascii() else "xn--" + u_label.encode("punycode").decode()


def _why_refused(text: str) -> str:
    shown = _shown(text)
    if not text:
        return "An empty text is not a host name."
    if len(text) > MAX_NAME_BYTES:
        return f"{shown} is longer than the {MAX_NAME_BYTES} bytes a host name may have."
    if not text.isascii():
        return f"{shown} is not ASCII: a host name is asked for by its A-labels (xn--…)."
    if text.endswith("."):
        return f"{shown} ends in a dot: write the host name without it."
    if _ENDS_IN_A_NUMBER.fullmatch(text.lower()) is not None or ":" in text:
        return f"{shown} looks like an IP address: a certificate is looked up by host name."
    return (
        f"{shown} is not a host name: labels of 1 to 63 letters, digits, hyphens and"
        " underscores (not an underscore alone), joined by dots."
    )


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
