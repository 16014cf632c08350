"""What passes once the handshake is done, and how it ends."""

from __future__ import annotations

import secrets
import ssl
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from centcert.errors import SessionBroken
from centcert.tls.contexts import ServerContexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential
    from centcert.tls.session import Session
    from tests.handshake.conftest import Ends, OpenSslClient, PythonClient

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def pair(
    request: pytest.FixtureRequest,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
    credential: Credential,
) -> Ends:
    """Both ends after their handshake."""
    trusting.minimum_version = trusting.maximum_version = request.param
    pair = meet(python_client(trusting), credential)
    pair.handshake()
    return pair


def nothing_is_left_unread(session: Session) -> bool:
    try:
        session.connection.recv(1)
    except SSL.WantReadError:
        return True
    return False


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 1448, 16384, 65536, 1 << 24])
def test_data_pass_both_ways_in_any_cut(pair: Ends, cut: int):
    pair.cut = cut
    size = 70_000 if cut < 7 else 1_000_000
    data = secrets.token_bytes(size)
    for at in range(0, size, 65_536):
        pair.client.write(data[at : at + 65_536])
    assert pair.to_server() == data
    assert nothing_is_left_unread(pair.session)
    pair.session.write(data)
    pair.to_client()
    assert pair.client.read() == data
    assert pair.session.outgoing() == b""


def test_record_is_read_as_soon_as_it_is_whole(pair: Ends):
    pair.client.write(b"a" * 100)
    pair.client.write(b"b" * 100)
    wire = pair.client.outgoing()
    seen = b""
    for at in range(len(wire)):
        seen += pair.session.read(wire[at : at + 1])
        assert seen == (b"a" * 100 if len(wire) // 2 <= at + 1 < len(wire) else seen)
    assert seen == b"a" * 100 + b"b" * 100


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_taken(pair: Ends, kind: type):
    pair.client.write(b"ping")
    assert pair.session.read(kind(pair.client.outgoing())) == b"ping"
    pair.session.write(kind(b"pong"))
    pair.to_client()
    assert pair.client.read() == b"pong"


def test_nothing_comes_of_nothing(pair: Ends):
    pair.session.write(b"")
    assert pair.session.read(b"") == b""
    assert pair.session.outgoing() == b""


def test_data_behind_the_last_flight_of_the_handshake_are_read(
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
    credential: Credential,
):
    pair = meet(python_client(trusting), credential)
    assert not pair.client.handshake()
    assert not pair.session.handshake(pair.client.outgoing())
    pair.to_client()
    assert pair.client.handshake()
    pair.client.write(b"GET / HTTP/1.1\r\n\r\n")
    assert pair.session.handshake(pair.client.outgoing())
    assert pair.session.read() == b"GET / HTTP/1.1\r\n\r\n"


# --- the end -----------------------------------------------------------------


def test_client_closes_and_still_receives(pair: Ends):
    pair.client.write(b"last")
    assert not pair.client.close()
    before = pair.session.ended
    assert pair.to_server() == b"last"
    assert (before, pair.session.ended) == (False, True)
    pair.session.write(b"answer")
    assert pair.session.outgoing() != b""


def test_server_closes_and_still_reads(pair: Ends):
    pair.session.write(b"last")
    pair.session.close()
    pair.to_client()
    assert pair.client.read() == b"last"
    pair.client.write(b"answer")
    assert pair.to_server() == b"answer"
    with pytest.raises(SessionBroken):
        pair.session.write(b"more")


def test_both_close(pair: Ends):
    pair.session.close()
    pair.to_client()
    before = pair.session.ended
    assert pair.client.close()
    assert pair.to_server() == b""
    assert (before, pair.session.ended) == (False, True)


def test_closing_twice_says_it_once(pair: Ends):
    pair.session.close()
    assert pair.session.outgoing() != b""
    pair.client.write(b"late")
    assert pair.session.read(pair.client.outgoing()) == b"late"
    pair.session.close()
    assert pair.session.outgoing() == b""


def test_break_without_close_notify_is_no_end(pair: Ends):
    pair.client.write(b"data")
    wire = pair.client.outgoing()
    assert pair.session.read(wire[:-1]) == b""
    assert not pair.session.ended


def test_forged_record_breaks_the_session_and_the_client_is_told(pair: Ends):
    pair.client.write(b"data")
    wire = bytearray(pair.client.outgoing())
    wire[-1] ^= 1
    with pytest.raises(SessionBroken, match=r"bad record mac\."):
        pair.session.read(wire)
    pair.to_client()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.client.read()
    with pytest.raises(SessionBroken):
        pair.session.write(b"more")
    pair.session.close()
    assert pair.session.outgoing() == b""


def test_garbage_breaks_the_session(pair: Ends):
    with pytest.raises(SessionBroken):
        pair.session.read(b"GET / HTTP/1.1\r\n\r\n" + bytes(70_000))


def test_renegotiation_is_declined(
    credential: Credential,
    openssl_client: type[OpenSslClient],
    meet: Callable[..., Ends],
):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = openssl_client(context)
    pair = meet(client, credential)
    pair.handshake()
    client.tls.renegotiate()
    assert not client.handshake()
    assert pair.to_server() == b""
    pair.to_client()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.handshake()


# --- memory ------------------------------------------------------------------


def test_leaf_contexts_are_bounded_and_the_least_used_goes_first(
    issue: Callable[..., Credential],
):
    contexts = ServerContexts(max_leaves=2)
    first, second, third = issue(), issue(), issue()
    for credential in (first, second, first, third):
        contexts.session(credential, None)
    assert [credential for credential, _ in contexts._leaves] == [first, third]
