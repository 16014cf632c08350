from __future__ import annotations

import struct
from typing import Final

import pytest

from centcert.errors import Alert, HelloRefused
from centcert.tls.hello import MAX_HELLO_BYTES, ClientHello, HelloReader, alert_record

SERVER_NAME: Final = 0
ALPN: Final = 16
SESSION_TICKET: Final = 35
PRE_SHARED_KEY: Final = 41
SUPPORTED_VERSIONS: Final = 43
KEY_SHARE: Final = 51
BOTH: Final = b"\x04\x03\x04\x03\x03"  # supported_versions: TLS 1.3, TLS 1.2


def vector(prefix: int, data: bytes) -> bytes:
    return len(data).to_bytes(prefix, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, data)


def sni(*names: bytes, kind: int = 0) -> bytes:
    return extension(
        SERVER_NAME, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))
    )


def alpn(*protocols: bytes) -> bytes:
    return extension(ALPN, vector(2, b"".join(vector(1, name) for name in protocols)))


def hello_body(*extensions: bytes, legacy_version: int = 0x0303) -> bytes:
    return (
        struct.pack(">H", legacy_version)
        + bytes(32)
        + vector(1, bytes(32))
        + vector(2, b"\x13\x01\xc0\x2b")
        + vector(1, b"\0")
        + vector(2, b"".join(extensions))
    )


def message(body: bytes) -> bytes:
    return b"\x01" + vector(3, body)


def record(fragment: bytes) -> bytes:
    return b"\x16\x03\x01" + vector(2, fragment)


def read(*extensions: bytes) -> ClientHello:
    hello = HelloReader().feed(record(message(hello_body(*extensions))))
    assert hello is not None
    return hello


def refusal(data: bytes) -> HelloRefused:
    with pytest.raises(HelloRefused) as caught:
        HelloReader().feed(data)
    return caught.value


def refusal_of(*extensions: bytes) -> HelloRefused:
    return refusal(record(message(hello_body(*extensions))))


SUPPORTED: Final = extension(SUPPORTED_VERSIONS, BOTH)


# --- what is read ---------------------------------------------------------------


def test_name_and_protocols_are_read():
    hello = read(sni(b"www.contoso.com"), alpn(b"h2", b"http/1.1"), SUPPORTED)
    assert hello == ClientHello("www.contoso.com", (b"h2", b"http/1.1"))


def test_order_of_extensions_does_not_matter():
    parts = [sni(b"a.example"), alpn(b"h2"), SUPPORTED, extension(KEY_SHARE, bytes(1216))]
    assert read(*parts) == read(*reversed(parts))


def test_name_is_kept_as_received():
    assert read(sni(b"WWW.Contoso.com."), SUPPORTED).server_name == "WWW.Contoso.com."


def test_without_server_name_there_is_none():
    assert read(SUPPORTED) == ClientHello(None, ())


@pytest.mark.parametrize(
    ("brought", "resumes"),
    [
        (b"", False),
        (extension(SESSION_TICKET, b""), False),  # asks for a first one
        (extension(SESSION_TICKET, b"ticket"), True),
        (extension(PRE_SHARED_KEY, bytes(64)), True),
    ],
)
def test_a_ticket_is_seen(brought: bytes, resumes: bool):  # noqa: FBT001  a parameter of the test
    assert read(SUPPORTED, brought).resumes is resumes


def test_hello_without_any_extension_is_of_tls_1_2():
    body = hello_body()[:-2]
    assert HelloReader().feed(record(message(body))) == ClientHello(None, ())


def test_hello_without_supported_versions_is_of_tls_1_2_at_most():
    body = hello_body(sni(b"a.example"), legacy_version=0x0304)
    assert HelloReader().feed(record(message(body))) == ClientHello("a.example", ())


def test_supported_versions_alone_count_where_they_are():
    body = hello_body(extension(SUPPORTED_VERSIONS, b"\x02\x03\x04"), legacy_version=0x0301)
    assert HelloReader().feed(record(message(body))) == ClientHello(None, ())


@pytest.mark.parametrize("reserved", range(0x0A0A, 0x10000, 0x1010))
def test_reserved_versions_are_passed_over(reserved: int):
    versions = vector(1, struct.pack(">HHH", reserved, 0x0A1A, 0x0304))
    assert read(extension(SUPPORTED_VERSIONS, versions)) == ClientHello(None, ())


def test_reserved_extensions_pass():
    hello = read(extension(0x0A0A, b""), sni(b"a.example"), SUPPORTED, extension(0xFAFA, b"\0"))
    assert hello.server_name == "a.example"


def test_names_of_other_types_are_passed_over():
    names = b"\x07" + vector(2, b"other") + b"\0" + vector(2, b"a.example") + b"\x08\0\0"
    assert read(extension(SERVER_NAME, vector(2, names)), SUPPORTED).server_name == "a.example"


def test_only_names_of_other_types_are_no_name():
    assert read(sni(b"other", kind=7), SUPPORTED).server_name is None


def test_longest_hello_is_read():
    filling = MAX_HELLO_BYTES - 5 * 5 - 4 - len(hello_body(SUPPORTED)) - 4
    data = message(hello_body(SUPPORTED, extension(21, bytes(filling))))
    parts = [data[at : at + 16384] for at in range(0, len(data), 16384)]
    wire = b"".join(record(part) for part in parts)
    assert len(wire) <= MAX_HELLO_BYTES
    assert HelloReader().feed(wire) is not None


# --- how it is cut ---------------------------------------------------------------


def test_nothing_is_answered_before_the_last_byte():
    wire = record(message(hello_body(sni(b"a.example"), SUPPORTED)))
    reader = HelloReader()
    assert {reader.feed(wire[at : at + 1]) for at in range(len(wire) - 1)} == {None}
    hello = reader.feed(wire[-1:])
    assert hello is not None
    assert hello.server_name == "a.example"
    assert reader.raw == wire


def test_records_of_one_byte_are_joined():
    parts = message(hello_body(sni(b"a.example"), SUPPORTED))
    wire = b"".join(record(bytes([byte])) for byte in parts)
    reader = HelloReader()
    hello = reader.feed(wire)
    assert hello is not None
    assert hello.server_name == "a.example"
    assert reader.raw == wire


def test_bytes_after_the_hello_are_kept():
    wire = record(message(hello_body(SUPPORTED))) + b"\x14\x03\x03\0\x01\x01" + b"early data"
    reader = HelloReader()
    assert reader.feed(memoryview(bytearray(wire))) is not None
    assert reader.raw == wire


def test_bytes_after_the_hello_in_its_record_are_kept():
    wire = record(message(hello_body(SUPPORTED)) + b"more")
    reader = HelloReader()
    assert reader.feed(wire) is not None
    assert reader.raw == wire


# --- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"G", "plain HTTP"),
        (b"POST / HTTP/1.1\r\n", "plain HTTP"),
        (b"\x80\x2e\x01\x03\x01", "SSL 2"),
        (b"\x17\x03\x03\0\x01\0", "does not speak TLS"),
        (b"\x0d\x0a\x0d\x0a\0\x0d\x0aQUIT\x0a", "does not speak TLS"),
    ],
)
def test_what_is_no_handshake_is_refused_by_its_first_byte(first: bytes, words: str):
    assert refusal(first).alert is Alert.UNEXPECTED_MESSAGE
    assert words in str(refusal(first))
    assert str(refusal(first[:1])) == str(refusal(first))


def test_record_of_no_tls_version_is_refused():
    assert refusal(b"\x16\x02").alert is Alert.PROTOCOL_VERSION


def test_record_over_two_to_the_fourteenth_is_refused_at_its_header():
    assert refusal(b"\x16\x03\x01\x40\x01").alert is Alert.RECORD_OVERFLOW
    assert HelloReader().feed(b"\x16\x03\x01\x40\x00") is None


def test_empty_handshake_record_is_refused():
    assert refusal(record(b"")).alert is Alert.UNEXPECTED_MESSAGE
    part = record(message(hello_body(SUPPORTED))[:3])
    assert refusal(part + record(b"")).alert is Alert.UNEXPECTED_MESSAGE


def test_other_records_between_the_parts_of_a_hello_are_refused():
    part = record(message(hello_body(SUPPORTED))[:9])
    assert refusal(part + b"\x14\x03\x03\0\x01\x01").alert is Alert.UNEXPECTED_MESSAGE


def test_other_handshake_message_is_refused():
    assert refusal(record(b"\x02")).alert is Alert.UNEXPECTED_MESSAGE


def test_over_long_hello_is_refused_as_soon_as_it_says_so():
    assert refusal(record(b"\x01" + MAX_HELLO_BYTES.to_bytes(3, "big"))).alert is (
        Alert.DECODE_ERROR
    )


def test_record_headers_count_towards_the_bound():
    tiny = b"".join(record(bytes([byte])) for byte in b"\x01\x00\xf0\x00")
    reader = HelloReader()
    reader.feed(tiny)
    with pytest.raises(HelloRefused, match="longer than 65536 bytes"):
        any(reader.feed(record(b"\0")) for _ in range(MAX_HELLO_BYTES))
    assert len(reader.raw) <= MAX_HELLO_BYTES + 6


@pytest.mark.parametrize("offered", [b"\x02\x03\x02", b"\x04\x7f\x1c\x0a\x0a"])
def test_older_and_unknown_versions_are_refused(offered: bytes):
    error = refusal_of(sni(b"a.example"), extension(SUPPORTED_VERSIONS, offered))
    assert error.alert is Alert.PROTOCOL_VERSION


@pytest.mark.parametrize("legacy_version", [0x0300, 0x0301, 0x0302])
def test_older_legacy_versions_are_refused(legacy_version: int):
    body = hello_body(sni(b"a.example"), legacy_version=legacy_version)
    assert refusal(record(message(body))).alert is Alert.PROTOCOL_VERSION


@pytest.mark.parametrize("twice", [sni(b"a.example"), alpn(b"h2"), extension(0x1234, b"")])
def test_extension_twice_is_refused(twice: bytes):
    assert refusal_of(twice, SUPPORTED, twice).alert is Alert.ILLEGAL_PARAMETER


def test_two_host_names_are_refused():
    error = refusal_of(sni(b"a.example", b"b.example"), SUPPORTED)
    assert error.alert is Alert.ILLEGAL_PARAMETER


@pytest.mark.parametrize("name", [b"a.example\0.evil.example", b"b\xc3\xbccher.example", b"\xff"])
def test_host_name_that_is_no_ascii_text_is_refused(name: bytes):
    error = refusal_of(sni(name), SUPPORTED)
    assert error.alert is Alert.UNRECOGNIZED_NAME
    assert "evil" not in str(error)


@pytest.mark.parametrize(
    "bad",
    [
        extension(SERVER_NAME, b""),
        extension(SERVER_NAME, b"\0\0"),
        sni(b""),
        extension(SERVER_NAME, b"\0\x05\0\0\x01a"),
        extension(SERVER_NAME, b"\0\x04\0\0\x02a"),
        extension(SERVER_NAME, b"\0\x04\0\0\x01a\0"),
        extension(SERVER_NAME, b"\0\x02\0\0"),
        extension(ALPN, b""),
        extension(ALPN, b"\0\0"),
        alpn(b"h2", b""),
        extension(ALPN, b"\0\x03\x03h2"),
        extension(ALPN, b"\0\x04\x02h2"),
        extension(SUPPORTED_VERSIONS, b""),
        extension(SUPPORTED_VERSIONS, b"\0"),
        extension(SUPPORTED_VERSIONS, b"\x03\x03\x04\x03"),
        extension(SUPPORTED_VERSIONS, b"\x04\x03\x04"),
        extension(SUPPORTED_VERSIONS, b"\x02\x03\x04\x03\x03"),
        b"\x12",
        b"\x12\x34\0",
        b"\x12\x34\0\x02\0",
    ],
    ids=bytes.hex,
)
def test_bad_lengths_are_refused(bad: bytes):
    assert refusal_of(bad).alert is Alert.DECODE_ERROR


def test_hello_cut_anywhere_is_refused():
    body = hello_body(sni(b"a.example"), SUPPORTED)
    before_extensions = len(hello_body()) - 2  # a whole hello of TLS 1.2 ends here
    for size in range(len(body)):
        if size != before_extensions:
            assert refusal(record(message(body[:size]))).alert is Alert.DECODE_ERROR


def test_bytes_after_the_extensions_are_refused():
    assert refusal(record(message(hello_body(SUPPORTED) + b"\0"))).alert is Alert.DECODE_ERROR


# --- the answer to a refusal ---------------------------------------------------------


def test_alert_is_a_fatal_record():
    assert alert_record(Alert.UNRECOGNIZED_NAME) == bytes.fromhex("15 0303 0002 02 70")
