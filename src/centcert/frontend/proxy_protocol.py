"""The PROXY protocol v2 header: tells a backend who its client is.

Source: HAProxy, "The PROXY protocol, versions 1 & 2", section 2.2.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from centcert.tls.session import Session

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

VERSION_2_PROXY: Final = 0x21
TCP_OVER_IPV4: Final = 0x11
TCP_OVER_IPV6: Final = 0x21

PP2_TYPE_ALPN: Final = 0x01
PP2_TYPE_AUTHORITY: Final = 0x02
PP2_TYPE_SSL: Final = 0x20
PP2_SUBTYPE_SSL_VERSION: Final = 0x21
PP2_SUBTYPE_SSL_CIPHER: Final = 0x23
PP2_SUBTYPE_SSL_GROUP: Final = 0x26
PP2_CLIENT_SSL: Final = 0x01
PP2_TYPE_STORE_KEY: Final = 0xE0
"""From the range for private use (section 2.2.7): the key of the file that answered."""


def header(
    client: tuple[str, int], server: tuple[str, int], name: str, key: str | None, tls: Session
) -> bytes:
    """Build the header for one connection.

    Args:
        client: the client's IP address and port.
        server: the address and port it connected to.
        name: the server name that was answered for.
        key: the store's file that answered, if known.
        tls: the session, after its handshake.
    """
    values = [_value(PP2_TYPE_AUTHORITY, name.encode("ascii")), _ssl(tls)]
    if tls.alpn is not None:
        values.append(_value(PP2_TYPE_ALPN, tls.alpn))
    if key is not None:
        values.append(_value(PP2_TYPE_STORE_KEY, key.encode()))
    family, addresses = _addresses(client, server)
    body = addresses + b"".join(values)
    return SIGNATURE + struct.pack("!BBH", VERSION_2_PROXY, family, len(body)) + body


def _addresses(client: tuple[str, int], server: tuple[str, int]) -> tuple[int, bytes]:
    pair = [_ip(client[0]), _ip(server[0])]
    ports = struct.pack("!HH", client[1], server[1])
    if all(isinstance(ip, IPv4Address) for ip in pair):
        return TCP_OVER_IPV4, b"".join(ip.packed for ip in pair) + ports
    # A mixed pair (an IPv4-mapped client on an IPv6 socket) goes as IPv6.
    packed = b"".join(
        ip.packed if isinstance(ip, IPv6Address) else IPv6Address(f"::ffff:{ip}").packed
        for ip in pair
    )
    return TCP_OVER_IPV6, packed + ports


def _ip(text: str) -> IPv4Address | IPv6Address:
    ip = ip_address(text.partition("%")[0])  # a scope is this machine's affair
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _ssl(tls: Session) -> bytes:
    client_without_certificate = struct.pack("!BI", PP2_CLIENT_SSL, 1)
    facts = _value(PP2_SUBTYPE_SSL_VERSION, tls.version.encode())
    facts += _value(PP2_SUBTYPE_SSL_CIPHER, tls.cipher.encode())
    if tls.group is not None:
        facts += _value(PP2_SUBTYPE_SSL_GROUP, tls.group.encode())
    return _value(PP2_TYPE_SSL, client_without_certificate + facts)


def _value(kind: int, data: bytes) -> bytes:
    return struct.pack("!BH", kind, len(data)) + data
