from __future__ import annotations

import dataclasses
import ssl
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from centcert.errors import Alert, HandshakeFailed, SessionBroken
from centcert.testing import Authority
from centcert.tls.contexts import ServerContexts
from centcert.tls.hello import TlsVersion, alert_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential
    from centcert.testing import KeyType
    from tests.handshake.conftest import Ends, OpenSslClient, PythonClient

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("cut", [1 << 24, 1])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key_type", ["ec-p256", "ec-p384", "rsa-2048", "ed25519"])
def test_every_key_type_serves_both_versions(
    key_type: KeyType,
    version: ssl.TLSVersion,
    cut: int,
    credential_of: Callable[[KeyType], Credential],
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting.minimum_version = trusting.maximum_version = version
    client = python_client(trusting)
    pair = meet(client, credential_of(key_type), cut=cut)
    pair.handshake()

    client.write(b"ping")
    assert pair.to_server() == b"ping"
    pair.session.write(b"pong")
    pair.to_client()
    assert client.read() == b"pong"

    cipher = client.tls.cipher()
    assert cipher is not None
    assert (pair.session.version, pair.session.cipher) == (client.tls.version(), cipher[0])
    assert pair.session.version == version.name.replace("_", ".")
    assert pair.session.group is not None


def test_chain_is_sent_from_the_leaf_up_without_the_root(
    credential: Credential,
    authority: Authority,
    openssl_client: type[OpenSslClient],
    meet: Callable[..., Ends],
):
    client = openssl_client(SSL.Context(SSL.TLS_CLIENT_METHOD))
    meet(client, credential).handshake()
    chain = client.tls.get_peer_cert_chain(as_cryptography=True)
    assert chain == [credential.certificate, authority.intermediate]


def test_two_ends_of_new_openssl_agree_on_a_post_quantum_group(
    credential: Credential,
    openssl_client: type[OpenSslClient],
    meet: Callable[..., Ends],
):
    pair = meet(openssl_client(SSL.Context(SSL.TLS_CLIENT_METHOD)), credential)
    pair.handshake()
    assert pair.session.group == "X25519MLKEM768"


# --- the client refuses ----------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_wrong_host_fails_and_the_server_learns_why(
    version: ssl.TLSVersion,
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting.minimum_version = trusting.maximum_version = version
    pair = meet(python_client(trusting, "other.example"), credential)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        pair.handshake()
    with pytest.raises(HandshakeFailed, match="alert bad_certificate: it does not accept"):
        pair.session.handshake(pair.client.outgoing())


@pytest.mark.parametrize("version", VERSIONS)
def test_wrong_ca_fails_and_the_server_learns_why(
    version: ssl.TLSVersion,
    credential: Credential,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting_another = ssl.create_default_context(cadata=Authority().root_pem.decode())
    trusting_another.minimum_version = trusting_another.maximum_version = version
    pair = meet(python_client(trusting_another), credential)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        pair.handshake()
    with pytest.raises(HandshakeFailed, match="alert unknown_ca: it does not trust the issuer"):
        pair.session.handshake(pair.client.outgoing())


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (0, "the client closed the connection."),
        (40, "the client sent the alert handshake_failure: nothing offered here suits it."),
        (42, "the client sent the alert bad_certificate: it does not accept the certificate."),
        (50, "the client sent the alert decode_error."),
        (112, "the client sent the alert unrecognized_name: it asked for another name."),
        (116, "the client sent the alert certificate_required."),
        (255, "OpenSSL gives no reason."),
    ],
)
def test_client_that_gives_up_is_understood(
    alert: int,
    words: str,
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    pair = meet(python_client(trusting), credential)
    assert not pair.client.handshake()
    assert not pair.session.handshake(pair.client.outgoing())
    with pytest.raises(HandshakeFailed) as caught:
        pair.session.handshake(bytes((21, 3, 3, 0, 2, 2, alert)))
    assert str(caught.value) == f"The TLS handshake failed: {words}"


# --- the server refuses ----------------------------------------------------------


def refused(pair: Ends) -> tuple[str, str]:
    """Return the server's sentence and what the client makes of the server's alert."""
    with pytest.raises(HandshakeFailed) as server:
        pair.handshake()
    pair.to_client()
    with pytest.raises(ssl.SSLError) as client:
        pair.client.handshake()
    return str(server.value), client.value.reason


def test_tls_1_2_without_forward_secrecy_or_aead_is_refused(
    credential_of: Callable[[KeyType], Credential],
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    trusting.set_ciphers("ECDHE-RSA-AES128-SHA256:AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA")
    pair = meet(python_client(trusting), credential_of("rsa-2048"))
    sentence, alert = refused(pair)
    assert sentence == "The TLS handshake failed: OpenSSL says: no shared cipher."
    assert alert == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_minimum_version_keeps_older_clients_out(
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    contexts = ServerContexts(minimum_version=TlsVersion.TLS_1_3)
    meet(python_client(trusting), credential, contexts=contexts).handshake()

    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    sentence, alert = refused(meet(python_client(trusting), credential, contexts=contexts))
    assert sentence == "The TLS handshake failed: OpenSSL says: unsupported protocol."
    assert alert == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_damaged_flight_is_refused(
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    pair = meet(python_client(trusting), credential)
    assert not pair.client.handshake()
    assert not pair.session.handshake(pair.client.outgoing())
    pair.to_client()
    assert pair.client.handshake()
    finished = bytearray(pair.client.outgoing())
    finished[-1] ^= 1
    with pytest.raises(HandshakeFailed):
        pair.session.handshake(finished)
    pair.to_client()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.client.read()


def test_nothing_can_be_written_before_the_handshake_is_done(
    credential: Credential, contexts: ServerContexts
):
    session = contexts.session(credential, None)
    with pytest.raises(SessionBroken):
        session.write(b"too soon")


def test_closing_before_the_handshake_is_done_says_nothing(
    credential: Credential, contexts: ServerContexts
):
    session = contexts.session(credential, None)
    session.close()
    assert session.outgoing() == b""
    assert session.read() == b""


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (Alert.UNEXPECTED_MESSAGE, "unexpected message"),
        (Alert.RECORD_OVERFLOW, "record overflow"),
        (Alert.ILLEGAL_PARAMETER, "illegal parameter"),
        (Alert.DECODE_ERROR, "decode error"),
        (Alert.PROTOCOL_VERSION, "protocol version"),
        (Alert.INTERNAL_ERROR, "internal error"),
        (Alert.MISSING_EXTENSION, "missing extension"),
        (Alert.UNRECOGNIZED_NAME, "unrecognized name"),
        (Alert.NO_APPLICATION_PROTOCOL, "no application protocol"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_alert_in_answer_to_a_hello_is_understood(
    alert: Alert,
    words: str,
    version: ssl.TLSVersion,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
):
    trusting.minimum_version = trusting.maximum_version = version
    client = python_client(trusting)
    assert not client.handshake()
    client.receive(alert_record(alert))
    with pytest.raises(ssl.SSLError) as caught:
        client.handshake()
    assert f" {words} (" in str(caught.value)


def test_every_alert_is_tried_above():
    tried = test_alert_in_answer_to_a_hello_is_understood.pytestmark[1].args[1]
    assert {alert for alert, _ in tried} == set(Alert)


# --- ALPN ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("offered", "chosen", "agreed"),
    [
        (["h2", "http/1.1"], b"http/1.1", "http/1.1"),
        (["h2", "http/1.1"], b"h2", "h2"),
        (["h2"], None, None),
        ([], None, None),
    ],
)
def test_chosen_protocol_is_agreed_on(
    offered: list[str],
    chosen: bytes | None,
    agreed: str | None,
    version: ssl.TLSVersion,
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting.minimum_version = trusting.maximum_version = version
    if offered:
        trusting.set_alpn_protocols(offered)
    client = python_client(trusting)
    pair = meet(client, credential, chosen)
    pair.handshake()
    assert client.tls.selected_alpn_protocol() == agreed
    assert pair.session.alpn == chosen


def test_each_session_has_its_own_protocol(
    credential: Credential,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
):
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    pairs = [meet(python_client(trusting), credential, alpn) for alpn in (b"h2", b"http/1.1", None)]
    for pair in pairs:
        pair.handshake()
    assert [pair.session.alpn for pair in pairs] == [b"h2", b"http/1.1", None]


def test_leaf_alone_is_sent_where_the_credential_has_no_issuers(
    credential: Credential,
    openssl_client: type[OpenSslClient],
    meet: Callable[..., Ends],
):
    alone = dataclasses.replace(credential, issuers=())
    client = openssl_client(SSL.Context(SSL.TLS_CLIENT_METHOD))
    meet(client, alone).handshake()
    chain = client.tls.get_peer_cert_chain(as_cryptography=True)
    assert chain == [credential.certificate]
