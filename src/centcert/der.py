"""Take DER apart and put it together, as far as PKCS #12 files need it (X.690).

Definite lengths and one-byte tags only; the caller knows what stands at each place.
"""

from __future__ import annotations

from typing import Final

INTEGER: Final = b"\x02"
OCTETS: Final = b"\x04"
NULL: Final = b"\x05"
OID: Final = b"\x06"
SEQUENCE: Final = b"\x30"
SET: Final = b"\x31"
TAGGED: Final = b"\xa0"

HIGH_BIT: Final = 0x80
"""In a length: the next bytes hold it, or none says it (X.690 §8.1.3). In an arc: it goes on."""

_OCTETS_IN_PIECES: Final = b"\x24"


class NotDer(Exception):
    """The bytes are cut off, or not what the caller says stands there."""


class Ber(Exception):
    """Right in BER, and too loose to be taken apart here."""


def fields(body: bytes, *tags: bytes, more: bytes | None = None) -> list[bytes]:
    """Split ``body`` into the contents of its elements, the first of which have ``tags``.

    Those that follow have the tag ``more``, if it is given, else any.

    They may be fewer: whoever unpacks them finds out.

    Raises:
        NotDer: an element is cut off, or has another tag.
        Ber: a length is left open, or an OCTET STRING comes in pieces.
        IndexError: ``body`` ends within a tag and a length.
    """
    found: list[bytes] = []
    at = 0
    while at < len(body):
        tag, start = body[at : at + 1], at + 2
        wanted = tags[len(found)] if len(found) < len(tags) else more
        if tag == b"\0" or (wanted is not None and tag not in (wanted, _OCTETS_IN_PIECES)):
            raise NotDer
        length = body[at + 1]
        if tag == _OCTETS_IN_PIECES or length == HIGH_BIT:
            raise Ber
        if length > HIGH_BIT:
            start += length - HIGH_BIT
            length = int.from_bytes(body[at + 2 : start])
        at = start + length
        if at > len(body):
            raise NotDer
        found.append(body[start:at])
    return found


def element(tag: bytes, *contents: bytes) -> bytes:
    """Put ``contents``, joined, into one element with the shortest length that says it."""
    body = b"".join(contents)
    if len(body) < HIGH_BIT:
        return tag + bytes([len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return tag + bytes([HIGH_BIT | len(size)]) + size + body


def dotted(oid: bytes) -> str:
    """Spell an OBJECT IDENTIFIER's contents (X.690 §8.19), of which 40 bytes at most count."""
    arcs, arc = [min(oid[0] // 40, 2), oid[0] - 40 * min(oid[0] // 40, 2)], 0
    for byte in oid[1:40]:
        arc = arc << 7 | byte & 0x7F
        if byte < HIGH_BIT:
            arcs.append(arc)
            arc = 0
    return ".".join(map(str, arcs))
