"""Keys, signatures and seals, against Microsoft's own numbers where there are any."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from centcert.smb3.errors import ConnectionLost, SecurityViolation
from centcert.smb3.sealing import (
    Cipher,
    Opener,
    Sealer,
    SessionKeys,
    Signing,
    signature,
    verify_signature,
)

KEY = bytes(range(16))
SESSION_ID = 0x100000000019
MESSAGE = b"\xfeSMB" + bytes(range(100))

# "SMB 2 and SMB 3 security in Windows 10: the anatomy of signing and cryptographic
# keys", Microsoft, 2017: the 3.1.1 sample.
PREAUTH_HASH = bytes.fromhex(
    "0DD13628CC3ED218EF9DF9772D436D0887AB9814BFAE63A80AA845F36909DB79"
    "28622DDDAD522D9751640A459762C5A9D6BB084CBB3CE6BDADEF5D5BCE3C6C01"
)
SESSION_KEY = bytes.fromhex("270E1BA896585EEB7AF3472D3B4C75A7")
SIGNED_BY_WINDOWS = bytes.fromhex(
    "FE534D4240000100000000000100800009000000000000000300000000000000FFFE000000000000"
    "1900000000100000EBE146DA120BA25FC3376A49DFE31BC10900000048001D00A11B3019A0030A01"
    "00A3120410010000003B453CDC3524164200000000"
)


def test_the_keys_are_those_of_windows():
    keys = SessionKeys.derive(SESSION_KEY, PREAUTH_HASH, Cipher.AES_128_GCM)

    assert keys.signing.hex().upper() == "73FE7A9A77BEF0BDE49C650D8CCB5F76"
    assert keys.client_to_server.hex().upper() == "629BCBC54422A0F572B97F45989B6073"
    assert keys.server_to_client.hex().upper() == "E2AF0DCEFAC68DA71A0DFBD0D1350D74"


def test_the_signature_of_windows_is_verified():
    keys = SessionKeys.derive(SESSION_KEY, PREAUTH_HASH, Cipher.AES_128_GCM)

    verify_signature(SIGNED_BY_WINDOWS, keys.signing, Signing.AES_CMAC)


@pytest.mark.parametrize("position", [0, 12, 17, 24, 47, 48, 63, 64, len(SIGNED_BY_WINDOWS) - 1])
def test_one_bit_breaks_the_signature(position: int):
    keys = SessionKeys.derive(SESSION_KEY, PREAUTH_HASH, Cipher.AES_128_GCM)
    edited = bytearray(SIGNED_BY_WINDOWS)
    edited[position] ^= 0x10

    with pytest.raises(SecurityViolation, match="wrongly signed"):
        verify_signature(edited, keys.signing, Signing.AES_CMAC)


def test_an_unsigned_message_is_refused():
    edited = bytearray(SIGNED_BY_WINDOWS)
    edited[16] &= ~0x08

    with pytest.raises(SecurityViolation, match="did not sign"):
        verify_signature(edited, KEY, Signing.AES_CMAC)


def test_a_gmac_is_bound_to_the_message_id_and_the_direction():
    request = bytearray(SIGNED_BY_WINDOWS)
    request[16] = 0x08
    other = bytearray(SIGNED_BY_WINDOWS)
    other[24] ^= 1
    sent = bytes(request[:48]) + bytes(16) + bytes(request[64:])
    zeroed = SIGNED_BY_WINDOWS[:48] + bytes(16) + SIGNED_BY_WINDOWS[64:]
    nonce = zeroed[24:32] + b"\x01\0\0\0"
    nonce_of_a_request = zeroed[24:32] + bytes(4)

    assert signature(SIGNED_BY_WINDOWS, KEY, Signing.AES_GMAC) == AESGCM(KEY).encrypt(
        nonce, b"", zeroed
    )
    assert signature(request, KEY, Signing.AES_GMAC) == AESGCM(KEY).encrypt(
        nonce_of_a_request, b"", sent
    )
    assert (
        len({signature(m, KEY, Signing.AES_GMAC) for m in (SIGNED_BY_WINDOWS, request, other)}) == 3
    )


def test_aes_256_takes_the_whole_key_and_signs_with_the_first_half():
    long = bytes(range(32))
    keys = SessionKeys.derive(long, PREAUTH_HASH, Cipher.AES_256_GCM)
    other = SessionKeys.derive(long[:31] + b"x", PREAUTH_HASH, Cipher.AES_256_GCM)

    assert len(keys.client_to_server) == len(keys.server_to_client) == 32
    assert keys.signing == other.signing
    assert keys.client_to_server != other.client_to_server


def test_keys_are_not_shown():
    assert "73" not in repr(SessionKeys(b"\x73" * 16, b"\x73" * 16, b"\x73" * 16)).split(" at ")[0]


@pytest.mark.parametrize("key", [KEY, KEY * 2], ids=["AES-128", "AES-256"])
def test_what_is_sealed_can_be_opened(key: bytes):
    sealed = Sealer(key, SESSION_ID).seal(MESSAGE)

    assert int.from_bytes(sealed[:4], "big") == len(sealed) - 4
    assert sealed[4:8] == b"\xfdSMB"
    assert MESSAGE[:16] not in sealed
    assert Opener(key, SESSION_ID).open(sealed[4:]) == MESSAGE


def test_no_nonce_is_used_twice():
    sealer = Sealer(KEY, SESSION_ID)

    assert len({sealer.seal(MESSAGE)[24:40] for _ in range(1_000)}) == 1_000


def test_a_key_is_never_used_more_often_than_it_may():
    sealer = Sealer(KEY, SESSION_ID, max_seals=3)
    for _ in range(3):
        sealer.seal(MESSAGE)

    for _ in range(2):
        with pytest.raises(ConnectionLost, match="used up"):
            sealer.seal(MESSAGE)


def test_any_flipped_bit_is_noticed():
    sealed = Sealer(KEY, SESSION_ID).seal(MESSAGE)[4:]
    opener = Opener(KEY, SESSION_ID)
    for bit in range(len(sealed) * 8):
        edited = bytearray(sealed)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecurityViolation):
            opener.open(edited)


def sealed_with(flags: int = 1, size: int = len(MESSAGE), session_id: int = SESSION_ID) -> bytes:
    """A frame that is authentic, whatever its header says."""
    additional = struct.pack("<16sIHHQ", b"n" * 12, size, 0, flags, session_id)
    sealed = AESGCM(KEY).encrypt(b"n" * 12, MESSAGE, additional)
    return b"\xfdSMB" + sealed[-16:] + additional + sealed[:-16]


def test_what_is_put_together_by_hand_is_opened():
    assert Opener(KEY, SESSION_ID).open(sealed_with()) == MESSAGE  # else the next is for nothing


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(sealed_with(flags=0), id="not marked as sealed"),
        pytest.param(sealed_with(size=len(MESSAGE) - 1), id="of another size"),
        pytest.param(sealed_with(session_id=0), id="of no session"),
        pytest.param(MESSAGE, id="plain"),
        pytest.param(b"\xffSMB" + bytes(200), id="SMB 1"),
        pytest.param(b"\xfcSMB" + bytes(200), id="compressed"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xfdSMB" + bytes(111), id="short"),
        pytest.param(Sealer(KEY, SESSION_ID + 1).seal(MESSAGE)[4:], id="another session"),
        pytest.param(Sealer(KEY[::-1], SESSION_ID).seal(MESSAGE)[4:], id="another key"),
        pytest.param(Sealer(KEY, SESSION_ID).seal(MESSAGE)[4:] + b"x", id="longer"),
        pytest.param(Sealer(KEY, SESSION_ID).seal(MESSAGE)[4:-1], id="shorter"),
    ],
)
def test_what_is_not_sealed_for_the_session_is_refused(frame: bytes):
    with pytest.raises(SecurityViolation):
        Opener(KEY, SESSION_ID).open(frame)
