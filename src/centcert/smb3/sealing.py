"""Keys, signatures and sealed frames of a session. No I/O, no randomness.

A session has one key for each direction, used for nothing else, and the nonce is a
counter: a pair of key and nonce is never used twice.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from centcert.smb3.errors import ConnectionLost, SecurityViolation
from centcert.smb3.wire import HEADER_BYTES, SIGNATURE, SIGNED, TRANSFORM_ID, frame

if TYPE_CHECKING:
    from centcert.smb3.wire import Octets

MAX_SEALS: Final = 2**32
"""Frames sealed under one key. NIST SP 800-38D §8.3 allows as many for any nonce scheme."""

# [MS-SMB2] 2.2.41 after ProtocolId and Signature: Nonce, OriginalMessageSize,
# Reserved, Flags, SessionId. It is also the additional data of the AEAD (3.1.4.3).
_TRANSFORM: Final = Struct("<16sIHHQ")
_TAG: Final = slice(4, 20)
_ADDITIONAL: Final = slice(20, 52)
TRANSFORM_BYTES: Final = 52
_ENCRYPTED: Final = 0x0001
_NONCE_BYTES: Final = 12


class Cipher(IntEnum):
    """What a session may be sealed with ([MS-SMB2] 2.2.3.1.2). There is nothing weaker."""

    AES_128_GCM = 0x0002
    AES_256_GCM = 0x0004

    @property
    def key_bytes(self) -> int:
        """The length of its keys."""
        return 32 if self is Cipher.AES_256_GCM else 16


class Signing(IntEnum):
    """What a message may be signed with ([MS-SMB2] 2.2.3.1.7). HMAC-SHA256 is not for 3.1.1."""

    AES_CMAC = 0x0001
    AES_GMAC = 0x0002


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """The keys of one session ([MS-SMB2] 3.2.5.3.1)."""

    signing: bytes
    client_to_server: bytes
    server_to_client: bytes

    @classmethod
    def derive(cls, session_key: bytes, preauth_hash: bytes, cipher: Cipher) -> SessionKeys:
        """Derive them from what the account's proof left behind.

        Args:
            session_key: the GSS key, whole. SMB's own ``SessionKey`` is its first 16
                bytes, padded with zeros; AES-256 takes all of it (``FullSessionKey``).
            preauth_hash: the 64 bytes that pin every byte of negotiation and session
                set-up: an edited byte gives other keys.
            cipher: as negotiated.
        """
        short = session_key[:16].ljust(16, b"\0")
        long = session_key if cipher is Cipher.AES_256_GCM else short
        size = cipher.key_bytes
        return cls(
            signing=_derive(short, b"SMBSigningKey\0", preauth_hash, 16),
            client_to_server=_derive(long, b"SMBC2SCipherKey\0", preauth_hash, size),
            server_to_client=_derive(long, b"SMBS2CCipherKey\0", preauth_hash, size),
        )


class Sealer:
    """Seals what this client sends: one key, each nonce once."""

    __slots__ = ("_aead", "_left", "_nonce", "_session_id")

    def __init__(self, key: bytes, session_id: int, *, max_seals: int = MAX_SEALS) -> None:
        self._aead = AESGCM(key)
        self._session_id = session_id
        self._nonce = 0
        self._left = max_seals

    def seal(self, message: bytes) -> bytes:
        """Return the frame for ``message`` ([MS-SMB2] 3.1.4.3).

        Raises:
            ConnectionLost: the key has sealed all it may; a new session is needed.
        """
        if not self._left:
            raise ConnectionLost("The session's key is used up; connect anew.")
        self._left -= 1
        self._nonce += 1
        nonce = self._nonce.to_bytes(_NONCE_BYTES, "little")
        additional = _TRANSFORM.pack(nonce, len(message), 0, _ENCRYPTED, self._session_id)
        sealed = self._aead.encrypt(nonce, message, additional)
        return frame(TRANSFORM_ID, sealed[-16:], additional, sealed[:-16])


class Opener:
    """Opens what the server sends; whatever is not sealed for this session is refused."""

    __slots__ = ("_aead", "_session_id")

    def __init__(self, key: bytes, session_id: int) -> None:
        self._aead = AESGCM(key)
        self._session_id = session_id

    def open(self, sealed: Octets) -> bytes:
        """Return the message in a frame ([MS-SMB2] 3.2.5.1.1).

        Raises:
            SecurityViolation: not sealed, for another session, or not by the server.
        """
        if sealed[:4] != TRANSFORM_ID:
            raise SecurityViolation("The server sent a frame that is not encrypted.")
        if len(sealed) < TRANSFORM_BYTES + HEADER_BYTES:
            raise SecurityViolation("The server sent an encrypted frame that is cut short.")
        additional = sealed[_ADDITIONAL]
        nonce, size, _, flags, session_id = _TRANSFORM.unpack(additional)
        if flags != _ENCRYPTED or session_id != self._session_id:
            raise SecurityViolation("The server sent a frame that is sealed for another session.")
        if size != len(sealed) - TRANSFORM_BYTES:
            raise SecurityViolation("The server sent an encrypted frame of a wrong length.")
        try:
            return self._aead.decrypt(
                nonce[:_NONCE_BYTES],
                b"".join((sealed[TRANSFORM_BYTES:], sealed[_TAG])),
                additional,
            )
        except InvalidTag:
            raise SecurityViolation(
                "A frame was not sealed by the server, or was changed on its way."
            ) from None


def signature(message: Octets, key: bytes, signing: Signing) -> bytes:
    """Compute the 16 bytes that sign ``message`` ([MS-SMB2] 3.1.4.1).

    ``message`` is one message with its header; whatever its signature field holds
    counts as zeros.
    """
    zeroed = bytearray(message)
    zeroed[SIGNATURE] = bytes(16)
    if signing is Signing.AES_GMAC:
        # The nonce is the MessageId, then one bit for "from the server" and one for
        # CANCEL, which this client never signs.
        from_server = zeroed[16] & 0x01
        nonce = bytes(zeroed[24:32]) + bytes((from_server, 0, 0, 0))
        return AESGCM(key).encrypt(nonce, b"", bytes(zeroed))
    cmac = CMAC(AES(key))
    cmac.update(bytes(zeroed))
    return cmac.finalize()


def verify_signature(message: Octets, key: bytes, signing: Signing) -> None:
    """Check that the server has signed ``message``.

    Raises:
        SecurityViolation: not signed, or not by whom knows the session's key.
    """
    if not message[16] & SIGNED:
        raise SecurityViolation("The server did not sign the end of the session set-up.")
    if not hmac.compare_digest(message[SIGNATURE], signature(message, key, signing)):
        raise SecurityViolation(
            "The session set-up is wrongly signed: somebody changed it on its way,"
            " or the server does not know the account's secret."
        )


def _derive(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    # [MS-SMB2] 3.1.4.2: SP 800-108 in counter mode, HMAC-SHA256, r = 32, L in 32 bits.
    kdf = KBKDFHMAC(
        SHA256(), Mode.CounterMode, size, 4, 4, CounterLocation.BeforeFixed, label, context, None
    )
    return kdf.derive(key)
