"""Reads a TLS client's first message, the ClientHello, and decides nothing more.

What is read here is what a server must know before it can choose a certificate.
The same bytes then go into TLS unchanged, which judges all the rest of them. A
refusal here names the alert that the client is sent, by ``alert_record``.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from centcert.errors import Alert, HelloRefused

MAX_HELLO_BYTES: Final = 64 * 1024
"""All that is kept of a stranger until the hello is complete, record headers included.

rustls and Go bound a handshake message by the same 64 KiB; nginx's ``ssl_preread`` and
HAProxy make do with 16 KiB. Browsers send about 2 KiB.
"""

_MAX_FRAGMENT_BYTES: Final = 1 << 14  # RFC 8446 §5.1
_RECORD_HEADER_BYTES: Final = 5
_MESSAGE_HEADER_BYTES: Final = 4
_HANDSHAKE: Final = 22  # ContentType, RFC 8446 §5.1
_ALERT: Final = 21
_FATAL: Final = 2  # AlertLevel, RFC 8446 §6
_CLIENT_HELLO: Final = 1  # HandshakeType, RFC 8446 §4
_HOST_NAME: Final = 0  # NameType, RFC 6066 §3
_SERVER_NAME: Final = 0  # ExtensionType, RFC 8446 §4.2
_ALPN: Final = 16
_SESSION_TICKET: Final = 35  # RFC 5077 §3.2
_PRE_SHARED_KEY: Final = 41
_SUPPORTED_VERSIONS: Final = 43

_u16 = struct.Struct(">H").unpack_from
_u16_u16 = struct.Struct(">HH").unpack_from
_type_and_u16 = struct.Struct(">BH").unpack_from


class TlsVersion(IntEnum):
    """The versions that Centcert speaks, as on the wire (RFC 8446 §4.1.2)."""

    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304


_OURS: Final = frozenset(version.to_bytes(2) for version in TlsVersion)


class ClientHello(NamedTuple):
    """What a client asks for.

    Attributes:
        server_name: the ``host_name`` of RFC 6066 §3 as received, ASCII without NUL but
            not yet a host name; ``None`` if the client names none.
        alpn: the protocols offered, in the client's order (RFC 7301 §3.1); often none.
        resumes: whether the client brings a ticket of an earlier session.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]
    resumes: bool = False


class HelloReader:
    """Gathers one ClientHello, however it is cut into segments and records.

    The answer depends on the bytes alone, never on how they were cut into segments.
    Work and memory are linear in the bytes fed.
    """

    __slots__ = ("_message", "_next_record", "_raw")

    def __init__(self) -> None:
        self._raw: bytes | bytearray = b""
        self._next_record = 0  # where in _raw the first record not yet taken begins
        self._message = bytearray()  # the handshake message, without record headers

    @property
    def raw(self) -> bytes:
        """Everything fed, to be handed to TLS: with what follows the hello."""
        return bytes(self._raw)

    def feed(self, data: bytes | bytearray | memoryview) -> ClientHello | None:
        """Take what the client sent; return its hello as soon as it is complete.

        ``None`` asks for more. After a hello or a refusal the reader is done: it takes
        nothing more.

        Raises:
            HelloRefused: this cannot become a hello that Centcert answers. Its ``alert``
                is as RFC 8446 §6.2 says for the fault.
        """
        if not self._raw:  # nearly every hello comes at once: ``raw`` need not copy it again
            self._raw = bytes(data)
        elif isinstance(self._raw, bytes):
            self._raw = bytearray(self._raw) + data
        else:
            self._raw += data
        raw = self._raw
        while True:
            start = self._next_record
            stop = _end_of_record(raw, start)
            if stop is None or len(raw) < stop:
                return None
            self._message += raw[start + _RECORD_HEADER_BYTES : stop]
            self._next_record = stop
            end = _end_of_message(self._message)
            if end is not None:
                return _parse(bytes(self._message[:end]))


def alert_record(alert: Alert) -> bytes:
    """Encode a fatal alert as a record in clear, for a client not yet in TLS.

    RFC 8446 §6 for the alert; §5.1 for the record's version, which every client takes
    whatever it offered.
    """
    return struct.pack(">BHHBB", _ALERT, TlsVersion.TLS_1_2, 2, _FATAL, alert)


def _end_of_record(raw: bytes | bytearray, start: int) -> int | None:
    """Check what is there of the record header; return where its record ends, if known."""
    have = len(raw) - start
    if have and raw[start] != _HANDSHAKE:
        raise _not_a_handshake(raw[start])
    if have > 1 and raw[start + 1] != 3:  # noqa: PLR2004  every version since SSL 3.0 is 3.x
        raise HelloRefused(
            Alert.PROTOCOL_VERSION, "The client's record is of no version of TLS (RFC 8446 §5.1)."
        )
    if have < _RECORD_HEADER_BYTES:
        return None
    (length,) = _u16(raw, start + 3)
    if length > _MAX_FRAGMENT_BYTES:
        raise HelloRefused(
            Alert.RECORD_OVERFLOW,
            f"The client's record is longer than {_MAX_FRAGMENT_BYTES} bytes (RFC 8446 §5.1).",
        )
    if not length:
        # §5.1 forbids it and names no alert; §5.4 names this one for the same under protection.
        raise HelloRefused(
            Alert.UNEXPECTED_MESSAGE, "The client sent an empty handshake record (RFC 8446 §5.1)."
        )
    stop: int = start + _RECORD_HEADER_BYTES + length
    if stop > MAX_HELLO_BYTES:
        raise _too_long()
    return stop


def _end_of_message(message: bytearray) -> int | None:
    """Return where the handshake message ends if it is complete (RFC 8446 §4)."""
    if message[0] != _CLIENT_HELLO:
        raise HelloRefused(
            Alert.UNEXPECTED_MESSAGE, "The client's first handshake message is not a ClientHello."
        )
    if len(message) < _MESSAGE_HEADER_BYTES:
        return None
    stop = _MESSAGE_HEADER_BYTES + (message[1] << 16 | message[2] << 8 | message[3])
    if stop > MAX_HELLO_BYTES:
        raise _too_long()
    return stop if len(message) >= stop else None


def _parse(message: bytes) -> ClientHello:
    """Read a ClientHello (RFC 8446 §4.1.2; RFC 5246 §7.4.1.2, where extensions may lack)."""
    try:
        extensions = _extensions(message)
        get = extensions.get
        server_name = _server_name(get(_SERVER_NAME))
        alpn = _protocols(get(_ALPN))
        if not _offers_ours(get(_SUPPORTED_VERSIONS), message):
            raise HelloRefused(
                Alert.PROTOCOL_VERSION,
                "The client offers neither TLS 1.2 nor TLS 1.3: update it.",
            )
    except (IndexError, struct.error):
        raise _malformed("its lengths do not fit") from None
    # An empty extension asks for a first ticket (RFC 5077 §3.2).
    resumes = _PRE_SHARED_KEY in extensions or bool(get(_SESSION_TICKET))
    return ClientHello(server_name, alpn, resumes)


def _extensions(message: bytes) -> dict[int, bytes]:
    end = len(message)
    at = _MESSAGE_HEADER_BYTES + 2 + 32  # legacy_version, random
    at += 1 + message[at]  # legacy_session_id
    at += 2 + (message[at] << 8 | message[at + 1])  # cipher_suites
    at += 1 + message[at]  # legacy_compression_methods
    extensions: dict[int, bytes] = {}
    if at == end:
        return extensions
    if at + 2 + _u16(message, at)[0] != end:
        raise _malformed("its extensions do not end where it ends")
    at += 2
    count = 0
    while at < end:
        kind, length = _u16_u16(message, at)
        at += 4 + length
        extensions[kind] = message[at - length : at]
        count += 1
    if at != end:
        raise _malformed("an extension reaches beyond its end")
    if count != len(extensions):
        # RFC 8446 §4.2 forbids it; in form it is right, so not decode_error (§6.2).
        raise HelloRefused(
            Alert.ILLEGAL_PARAMETER, "The client's hello holds the same extension twice."
        )
    return extensions


def _server_name(extension: bytes | None) -> str | None:
    """Read the ``host_name`` of a ServerNameList (RFC 6066 §3)."""
    if extension is None:
        return None
    at, end = 2, len(extension)
    if at + _u16(extension, 0)[0] != end or at == end:
        raise _malformed("its list of server names is empty or cut")
    name: bytes | None = None
    while at < end:
        # Every other type of name must begin with the same length too.
        kind, length = _type_and_u16(extension, at)
        at += 3 + length
        if kind != _HOST_NAME:
            continue
        if name is not None:
            raise HelloRefused(Alert.ILLEGAL_PARAMETER, "The client names two hosts at once.")
        name = extension[at - length : at]
    if at != end or name == b"":
        raise _malformed("a server name is empty or cut")
    if name is None:
        return None
    if not name.isascii() or 0 in name:
        raise HelloRefused(
            Alert.UNRECOGNIZED_NAME, "The client asks for a server name that is not ASCII text."
        )
    return name.decode("ascii")


def _protocols(extension: bytes | None) -> tuple[bytes, ...]:
    """Read a ProtocolNameList (RFC 7301 §3.1)."""
    if extension is None:
        return ()
    at, end = 2, len(extension)
    if at + _u16(extension, 0)[0] != end or at == end:
        raise _malformed("its list of protocols is empty or cut")
    protocols = []
    while at < end:
        length = extension[at]
        at += 1 + length
        if not length or at > end:
            raise _malformed("a protocol's name is empty or cut")
        protocols.append(extension[at - length : at])
    return tuple(protocols)


def _offers_ours(extension: bytes | None, message: bytes) -> bool:
    """Say whether TLS 1.2 or 1.3 is among the versions offered (RFC 8446 §4.2.1)."""
    if extension is None:
        # Whatever a hello without the extension claims, it offers TLS 1.2 at most.
        (legacy_version,) = _u16(message, _MESSAGE_HEADER_BYTES)
        return bool(legacy_version >= TlsVersion.TLS_1_2)
    length = extension[0]
    if length + 1 != len(extension) or not length or length % 2:
        raise _malformed("its list of versions is empty or cut")
    return not _OURS.isdisjoint([extension[at : at + 2] for at in range(1, length, 2)])


def _not_a_handshake(first_byte: int) -> HelloRefused:
    what = "does not speak TLS to this port, which expects nothing else"
    if chr(first_byte) in "CDGHOPT":  # CONNECT, DELETE, GET, HEAD, OPTIONS, POST, PUT, TRACE
        what = "speaks plain HTTP to a port for TLS: its URL must begin with https://"
    elif first_byte & 0x80:
        what = "speaks SSL 2 or no TLS at all to this port: update it"
    return HelloRefused(Alert.UNEXPECTED_MESSAGE, f"The client {what}.")


def _malformed(how: str) -> HelloRefused:
    return HelloRefused(Alert.DECODE_ERROR, f"The client's hello is malformed: {how}.")


def _too_long() -> HelloRefused:
    return HelloRefused(
        Alert.DECODE_ERROR, f"The client's hello is longer than {MAX_HELLO_BYTES} bytes."
    )
