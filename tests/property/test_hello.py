"""The ClientHello reader over hellos that real clients make while the tests run."""

from __future__ import annotations

import functools
import itertools
import ssl
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from OpenSSL import SSL

from centcert.errors import HelloRefused
from centcert.tls.hello import MAX_HELLO_BYTES, ClientHello, HelloReader

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,19}(\.[a-z][a-z0-9]{0,19}){1,4}", fullmatch=True)
PROTOCOLS = st.lists(st.binary(min_size=1, max_size=20), max_size=5, unique=True)
VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION, 0)


@dataclass(frozen=True)
class Made:
    """A hello on the wire, in one record, and what it says."""

    wire: bytes
    says: ClientHello


def openssl_hello(name: str | None, protocols: list[bytes], version: int) -> Made:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version or SSL.TLS1_2_VERSION)
    context.set_max_proto_version(version)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    if protocols:
        client.set_alpn_protos(protocols)
    try:
        client.do_handshake()
    except SSL.WantReadError:
        wire = client.bio_read(1 << 16)
    return Made(wire, ClientHello(name, tuple(protocols)))


def python_hello(name: str) -> Made:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems' Pythons offer older ones too
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        wire = outgoing.read()
    return Made(wire, ClientHello(name, (b"h2", b"http/1.1")))


MADE = st.one_of(
    st.builds(openssl_hello, st.none() | NAMES, PROTOCOLS, st.sampled_from(VERSIONS)),
    st.builds(python_hello, NAMES),
)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut ``data`` at each place of ``at``, taken modulo its length."""
    places = sorted({0, len(data), *(place % len(data) for place in at)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def into_records(made: Made, at: list[int]) -> bytes:
    """Spread the hello over several records."""
    return b"".join(
        made.wire[:3] + len(part).to_bytes(2, "big") + part for part in cut(made.wire[5:], at)
    )


def outcome(pieces: list[bytes]) -> ClientHello | str | None:
    """Feed until the reader answers. A refusal is its alert and its words."""
    reader = HelloReader()
    for number, piece in enumerate(pieces, 1):
        try:
            hello = reader.feed(piece)
        except HelloRefused as refused:
            return f"{refused.alert.name} {refused}"
        finally:
            assert reader.raw == b"".join(pieces[:number])
        if hello is not None:
            return hello
    return None


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)


@given(MADE, PLACES, PLACES)
def test_any_cut_says_what_the_client_said(made: Made, records: list[int], segments: list[int]):
    assert outcome([made.wire]) == made.says
    assert outcome(cut(into_records(made, records), segments)) == made.says


@given(MADE, st.binary(max_size=100))
def test_what_follows_the_hello_changes_nothing(made: Made, rest: bytes):
    assert outcome([made.wire + rest]) == made.says


@given(MADE, PLACES, st.data())
def test_every_true_beginning_asks_for_more(made: Made, records: list[int], data: st.DataObject):
    wire = into_records(made, records)
    assert outcome([wire[: data.draw(st.integers(0, len(wire) - 1))]]) is None


@functools.cache
def fixed_hello() -> Made:
    return openssl_hello("www.contoso.example", [b"h2", b"http/1.1"], 0)


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
    PLACES,
)
def test_damaged_hello_has_one_outcome_in_every_cut(
    damages: list[tuple[int, int]], segments: list[int]
):
    wire = bytearray(fixed_hello().wire)
    for place, byte in damages:
        wire[place % len(wire)] = byte
    whole = outcome([bytes(wire)])
    assert outcome(cut(bytes(wire), segments)) == whole
    assert outcome(bytewise(bytes(wire))) == whole


@given(st.integers(9, 1 << 16), st.integers(0, 40), st.binary(max_size=40))
def test_spliced_hello_has_one_outcome_in_every_cut(place: int, removed: int, added: bytes):
    # Lengths outside are made right again, so that the faults lie deeper.
    body = bytearray(fixed_hello().wire[9:])
    place %= len(body)
    body[place : place + removed] = added
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    wire = b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
    assert outcome([wire]) == outcome(bytewise(wire))


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x03\0\xff\x01"]))
@example(b"GET / HTTP/1.1\r\n\r\n", b"")
def test_garbage_has_one_outcome_in_every_cut(garbage: bytes, beginning: bytes):
    data = beginning + garbage
    assert outcome([data]) == outcome(bytewise(data))


@given(st.integers(1, 1 << 14), st.integers(0, 1 << 16))
def test_stranger_without_end_is_refused_within_the_bound(fragment: int, announced: int):
    record = b"\x16\x03\x01" + fragment.to_bytes(2, "big")
    stream = itertools.chain(b"\x01" + announced.to_bytes(3, "big"), itertools.repeat(0))
    reader = HelloReader()
    with pytest.raises(HelloRefused):
        any(reader.feed(record + bytes(itertools.islice(stream, fragment))) for _ in range(1 << 17))
    assert len(reader.raw) <= MAX_HELLO_BYTES + len(record) + fragment
