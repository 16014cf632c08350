"""The bytes of the header, against the specification; HAProxy reads it in tests/interop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from centcert.frontend.proxy_protocol import header

if TYPE_CHECKING:
    from centcert.tls.session import Session

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def session(group: str | None = "x25519", alpn: bytes | None = b"h2") -> Session:
    facts = SimpleNamespace(version="TLSv1.3", cipher="C", group=group, alpn=alpn)
    return cast("Session", facts)


def test_every_byte_of_a_header():
    made = header(("192.0.2.7", 0x1234), ("198.51.100.1", 443), "a.example", "k.pfx", session())
    ssl = (
        b"\x01" + b"\0\0\0\1"  # over TLS; no client certificate verified
        b"\x21\x00\x07TLSv1.3"
        b"\x23\x00\x01C"
        b"\x26\x00\x06x25519"
    )
    body = (
        bytes([192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xBB])
        + b"\x02\x00\x09a.example"
        + b"\x20\x00"
        + bytes([len(ssl)])
        + ssl
        + b"\x01\x00\x02h2"
        + b"\xe0\x00\x05k.pfx"
    )
    assert made == SIGNATURE + b"\x21\x11" + len(body).to_bytes(2, "big") + body


def test_what_is_not_known_is_left_out():
    made = header(("192.0.2.7", 1), ("192.0.2.8", 2), "a", None, session(group=None, alpn=None))
    assert made.endswith(b"\x23\x00\x01C")
    assert b"\x26\x00" not in made


@pytest.mark.parametrize(
    ("client", "server", "family", "addresses"),
    [
        ("::1", "::2", 0x21, "00" * 15 + "01" + "00" * 15 + "02"),
        ("fe80::1%eth0", "fe80::2", 0x21, "fe80" + "00" * 13 + "01" + "fe80" + "00" * 13 + "02"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", 0x11, "c0000207c0000208"),
        ("::ffff:192.0.2.7", "192.0.2.8", 0x11, "c0000207c0000208"),
        ("192.0.2.7", "::2", 0x21, "00" * 10 + "ffffc0000207" + "00" * 15 + "02"),
    ],
    ids=["IPv6", "scope", "mapped", "half mapped", "mixed"],
)
def test_addresses(client: str, server: str, family: int, addresses: str):
    made = header((client, 1), (server, 2), "a", None, session())
    assert made[13] == family
    expected = bytes.fromhex(addresses) + b"\0\1\0\2"
    assert made[16 : 16 + len(expected)] == expected
