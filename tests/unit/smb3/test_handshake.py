"""NEGOTIATE and SESSION_SETUP: what is offered, what is accepted, what is refused."""

from __future__ import annotations

import struct

import pytest

from centcert.smb3.errors import (
    LoginRefused,
    ProtocolViolation,
    SecurityViolation,
    SmbError,
    StatusError,
)
from centcert.smb3.handshake import Handshake, Session
from centcert.smb3.sealing import Cipher, Signing
from tests.smb3_peer import (
    SESSION_ID,
    SESSION_KEY,
    Server,
    context,
    message,
    one_of,
    preauth,
    setup_body,
)

RANDOM = bytes(range(48))


def set_up(server: Server, signing: Signing = Signing.AES_GMAC) -> Session:
    handshake = Handshake("server")
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    server.hear(handshake.authenticate(b"hello"))
    answer = handshake.authenticated(server.challenge())
    assert answer is not None
    assert answer.token == b"challenge"
    server.hear(handshake.authenticate(b"proof"))
    handshake.authenticated(server.acceptance(signing=signing))
    assert handshake.accepted
    return handshake.session(SESSION_KEY)


def test_only_smb_3_1_1_with_aes_gcm_and_sha_512_is_offered():
    offer = Handshake("server").negotiate(RANDOM)[4:]

    (count,) = struct.unpack_from("<H", offer, 66)
    offset, contexts = struct.unpack_from("<IH", offer, 92)
    assert (count, offer[100:102]) == (1, b"\x11\x03")
    found = {}
    for _ in range(contexts):
        offset += -offset % 8
        kind, length, _ = struct.unpack_from("<HHI", offer, offset)
        found[kind] = offer[offset + 8 : offset + 8 + length]
        offset += 8 + length
    assert offset == len(offer)
    assert found[1] == struct.pack("<HHH", 1, 32, 1) + RANDOM[16:]
    assert found[2] == struct.pack("<HHH", 2, Cipher.AES_128_GCM, Cipher.AES_256_GCM)
    assert found[8] == struct.pack("<HHH", 2, Signing.AES_GMAC, Signing.AES_CMAC)
    assert found[5] == "server".encode("utf-16-le")


def test_a_server_as_it_should_be_gives_a_session():
    session = set_up(Server())

    assert session.session_id == SESSION_ID
    assert session.negotiated.cipher is Cipher.AES_128_GCM
    assert not session.server_encrypts
    assert "k" * 16 not in repr(session)


def test_a_server_that_names_no_signature_signs_with_cmac():
    server = Server(contexts=[preauth(), one_of(2, Cipher.AES_128_GCM)])

    assert set_up(server, Signing.AES_CMAC).negotiated.signing is Signing.AES_CMAC


def test_a_server_that_asks_for_encryption_is_told_of():
    assert set_up(Server(flags=4)).server_encrypts


GCM, GMAC = one_of(2, 2), one_of(8, 2)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(Server(dialect=0x0302), id="SMB 3.0.2"),
        pytest.param(Server(dialect=0x0210), id="SMB 2.1"),
        pytest.param(Server(dialect=0x02FF), id="wildcard"),
        pytest.param(Server(contexts=[preauth(), GMAC]), id="no cipher"),
        pytest.param(Server(contexts=[preauth(), one_of(2, 0), GMAC]), id="no common cipher"),
        pytest.param(Server(contexts=[preauth(), one_of(2, 1), GMAC]), id="AES-128-CCM"),
        pytest.param(Server(contexts=[preauth(), one_of(2, 3), GMAC]), id="AES-256-CCM"),
        pytest.param(Server(contexts=[preauth(), one_of(2, 2, count=2), GMAC]), id="two ciphers"),
        pytest.param(Server(contexts=[preauth(), GCM, one_of(8, 0)]), id="HMAC-SHA256"),
        pytest.param(Server(contexts=[preauth(2), GCM, GMAC]), id="another hash"),
        pytest.param(Server(status=0xC00000BB), id="not supported"),
        pytest.param(Server(status=0xC0000022), id="denied"),
    ],
)
def test_a_server_that_offers_less_is_refused(server: Server):
    handshake = Handshake("server")
    server.hear(handshake.negotiate(RANDOM))

    with pytest.raises(SecurityViolation):
        handshake.negotiated(server.negotiated())


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(Server(contexts=[]), id="no contexts"),
        pytest.param(Server(contexts=[GCM, GMAC]), id="no hash"),
        pytest.param(Server(max_size=65_535), id="small"),
        pytest.param(Server(contexts=[preauth()] * 17), id="many contexts"),
        pytest.param(Server(contexts=[preauth(), context(2, b"\x01")]), id="short context"),
        pytest.param(Server(contexts=[preauth(), GCM, b"\x05\0\x05\0\0\0\0\0abcd"]), id="cut"),
    ],
)
def test_a_malformed_answer_is_refused(server: Server):
    handshake = Handshake("server")
    server.hear(handshake.negotiate(RANDOM))

    with pytest.raises(ProtocolViolation):
        handshake.negotiated(server.negotiated())


@pytest.mark.parametrize("flags", [1, 2, 3, 5], ids=["guest", "anonymous", "both", "sealed guest"])
def test_a_guest_gets_no_session(flags: int):
    with pytest.raises(SecurityViolation, match="guest"):
        set_up(Server(flags=flags))


def test_a_byte_changed_on_the_way_gives_no_session():
    class Meddler(Server):
        def hear(self, frame: bytes) -> bytes:
            return super().hear(frame[:-1] + bytes([frame[-1] ^ 1]))

    with pytest.raises(SecurityViolation, match="signed"):
        set_up(Meddler())


def test_a_server_that_does_not_know_the_key_gives_no_session():
    handshake = Handshake("server")
    server = Server()
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    server.hear(handshake.authenticate(b"proof"))
    handshake.authenticated(server.acceptance(message_id=1))

    with pytest.raises(SecurityViolation, match="signed"):
        handshake.session(b"another key 1234")


def test_there_is_no_session_before_the_server_accepts():
    handshake = Handshake("server")
    server = Server()
    with pytest.raises(ValueError, match="not accepted"):
        handshake.session(SESSION_KEY)
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    server.hear(handshake.authenticate(b"hello"))
    handshake.authenticated(server.challenge())
    with pytest.raises(ValueError, match="not accepted"):
        handshake.session(SESSION_KEY)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0xC000006D, LoginRefused), (0xC0000234, LoginRefused), (0xC0000022, StatusError)],
)
def test_a_refusal_is_told_from_a_refused_account(status: int, kind: type[SmbError]):
    handshake = Handshake("server")
    server = Server()
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    handshake.authenticate(b"proof")

    with pytest.raises(StatusError) as refused:
        handshake.authenticated(message(1, 1, status=status))
    assert type(refused.value) is kind


def test_an_interim_reply_is_waited_out():
    handshake = Handshake("server")
    server = Server()
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    server.hear(handshake.authenticate(b"proof"))

    assert handshake.authenticated(message(1, 1, status=0x103, async_id=5)) is None
    handshake.authenticated(server.acceptance(message_id=1))

    assert handshake.session(SESSION_KEY).session_id == SESSION_ID


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(message(0, 1, setup_body(b"")), id="another command"),
        pytest.param(message(1, 2, setup_body(b"")), id="another id"),
        pytest.param(message(1, 1, b""), id="no body"),
        pytest.param(message(1, 1, struct.pack("<HHHH", 9, 0, 72, 1)), id="no token"),
        pytest.param(message(1, 1, struct.pack("<HHHH", 9, 0, 10, 1)), id="token in the header"),
    ],
)
def test_a_malformed_reply_is_refused(reply: bytes):
    handshake = Handshake("server")
    server = Server()
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    handshake.authenticate(b"proof")

    with pytest.raises(ProtocolViolation):
        handshake.authenticated(reply)


def test_a_session_that_changes_its_number_is_refused():
    handshake = Handshake("server")
    server = Server()
    server.hear(handshake.negotiate(RANDOM))
    handshake.negotiated(server.negotiated())
    handshake.authenticate(b"hello")
    handshake.authenticated(server.challenge())
    handshake.authenticate(b"proof")

    with pytest.raises(ProtocolViolation):
        handshake.authenticated(message(1, 2, setup_body(b""), session_id=SESSION_ID + 1))
