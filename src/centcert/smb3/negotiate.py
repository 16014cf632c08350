"""NEGOTIATE: SMB 3.1.1 or nothing. Pure: bytes in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812  it is an exception
from typing import TYPE_CHECKING, Final

from centcert.smb3.errors import ProtocolViolation, SecurityViolation
from centcert.smb3.sealing import Cipher, Signing
from centcert.smb3.status import Status, phrase_for
from centcert.smb3.wire import HEADER_BYTES, Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from centcert.smb3.wire import Reply

DIALECT: Final = 0x0311
"""SMB 3.1.1 ([MS-SMB2] 2.2.3): the only one with pre-authentication integrity."""

CIPHERS: Final = (Cipher.AES_128_GCM, Cipher.AES_256_GCM)
SIGNINGS: Final = (Signing.AES_GMAC, Signing.AES_CMAC)

_SIGNING_ENABLED: Final = 0x01
_SIGNING_REQUIRED: Final = 0x02

# [MS-SMB2] 2.2.3: StructureSize, DialectCount, SecurityMode, Reserved, Capabilities,
# ClientGuid, NegotiateContextOffset, NegotiateContextCount, Reserved2, one dialect,
# and padding to the 8-byte boundary at which the contexts begin.
_REQUEST: Final = Struct("<HHHHI16sIHHHH")
# [MS-SMB2] 2.2.4: StructureSize, SecurityMode, DialectRevision, NegotiateContextCount,
# ServerGuid, Capabilities, MaxTransactSize, MaxReadSize, MaxWriteSize, SystemTime,
# ServerStartTime, SecurityBufferOffset, SecurityBufferLength, NegotiateContextOffset.
_RESPONSE: Final = Struct("<HHHH16sIIIIQQHHI")
_CONTEXT: Final = Struct("<HHI")  # [MS-SMB2] 2.2.3.1: ContextType, DataLength, Reserved
_PREAUTH_SALT: Final = Struct("<HHH")
_ONE_OF: Final = Struct("<HH")

_LARGE_MTU: Final = 0x04  # more than 64 KiB at once, several credits a request
_ENCRYPTION: Final = 0x40

_PREAUTH_INTEGRITY: Final = 0x0001
_ENCRYPTION_CIPHERS: Final = 0x0002
_SERVER_NAME: Final = 0x0005
_SIGNING_ALGORITHMS: Final = 0x0008
_SHA_512: Final = 0x0001

_MAX_CONTEXTS: Final = 16
"""There are eight kinds; a server that lists more is not listened to."""

_MIN_SIZE: Final = 64 * 1024
"""What every 3.x server must take in one read ([MS-SMB2] 3.3.5.4)."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What client and server have agreed on.

    Attributes:
        cipher: what the session is sealed with.
        signing: how the last message of the session set-up is signed.
        max_transact: bytes in one listing or notification.
        max_read: bytes in one READ.
        max_write: bytes in one WRITE.
        server_time: FILETIME: the server's clock as it answered; 0 if it does not say.
    """

    cipher: Cipher
    signing: Signing
    max_transact: int
    max_read: int
    max_write: int
    server_time: int


def negotiate_request(
    server_name: str, client_id: bytes, salt: bytes, ciphers: Sequence[Cipher]
) -> bytes:
    """Build the body of NEGOTIATE ([MS-SMB2] 2.2.3).

    Args:
        server_name: what the server is called by the client.
        client_id: 16 random bytes.
        salt: 32 random bytes ([MS-SMB2] 2.2.3.1.1).
        ciphers: best first; ``CIPHERS``, but for the probe that shows what a client
            without encryption would reach.
    """
    contexts = [
        (_PREAUTH_INTEGRITY, _PREAUTH_SALT.pack(1, len(salt), _SHA_512) + salt),
        (_SERVER_NAME, server_name.encode("utf-16-le", "replace")),
        (_SIGNING_ALGORITHMS, _numbers(SIGNINGS)),
    ]
    capabilities = _LARGE_MTU
    if ciphers:
        contexts.insert(1, (_ENCRYPTION_CIPHERS, _numbers(ciphers)))
        capabilities |= _ENCRYPTION
    body = bytearray(
        _REQUEST.pack(
            36,
            1,
            _SIGNING_ENABLED | _SIGNING_REQUIRED,
            0,
            capabilities,
            client_id,
            HEADER_BYTES + _REQUEST.size,
            len(contexts),
            0,
            DIALECT,
            0,
        )
    )
    for kind, data in contexts:
        body += bytes(-len(body) % 8)
        body += _CONTEXT.pack(kind, len(data), 0) + data
    return bytes(body)


def negotiated(reply: Reply, ciphers: Sequence[Cipher]) -> Negotiated:
    """Read the answer ([MS-SMB2] 2.2.4, 3.2.5.2) and hold it against what was offered.

    Raises:
        SecurityViolation: the server offers less than SMB 3.1.1 with AES-GCM.
        ProtocolViolation: the answer is malformed.
    """
    if reply.command != Command.NEGOTIATE:
        raise ProtocolViolation("The server answered the negotiation with something else.")
    if reply.status == Status.NOT_SUPPORTED:
        raise SecurityViolation("The server does not speak SMB 3.1.1.")
    if reply.status:
        raise SecurityViolation(
            f"The server refused to negotiate SMB 3.1.1: {phrase_for(reply.status)}."
        )
    message = reply.packet[reply.start : reply.end]
    try:
        fields = _RESPONSE.unpack_from(message, HEADER_BYTES)
        contexts = dict(_contexts(message, offset=fields[13], count=fields[3]))
        return _agreed(fields, contexts, ciphers)
    except StructError:
        raise ProtocolViolation("The server's answer to the negotiation is cut short.") from None


def _agreed(
    fields: tuple[int, ...], contexts: dict[int, bytes], ciphers: Sequence[Cipher]
) -> Negotiated:
    dialect = fields[2]
    if dialect != DIALECT:
        raise SecurityViolation(f"The server chose dialect 0x{dialect:04X}, not SMB 3.1.1.")
    _, _, preauth_hash = _PREAUTH_SALT.unpack_from(contexts.get(_PREAUTH_INTEGRITY, b""))
    if preauth_hash != _SHA_512:
        raise SecurityViolation("The server does not protect the negotiation with SHA-512.")
    max_transact, max_read, max_write = fields[6:9]
    if min(max_transact, max_read, max_write) < _MIN_SIZE:
        raise ProtocolViolation("The server's largest message is smaller than SMB 3 allows.")
    signing: int = Signing.AES_CMAC  # of a server that says nothing (2.2.4.1.7, 3.2.5.2)
    if _SIGNING_ALGORITHMS in contexts:
        _, signing = _ONE_OF.unpack_from(contexts[_SIGNING_ALGORITHMS])
    if signing not in SIGNINGS:
        raise SecurityViolation("The server chose a signature that was not offered.")
    return Negotiated(
        cipher=_chosen_cipher(contexts, ciphers),
        signing=Signing(signing),
        max_transact=max_transact,
        max_read=max_read,
        max_write=max_write,
        server_time=fields[9],
    )


def _chosen_cipher(contexts: dict[int, bytes], ciphers: Sequence[Cipher]) -> Cipher:
    if not ciphers:
        return Cipher.AES_128_GCM  # of the probe, which never comes to seal anything
    if _ENCRYPTION_CIPHERS not in contexts:
        raise SecurityViolation("The server does not offer encryption.")
    count, chosen = _ONE_OF.unpack_from(contexts[_ENCRYPTION_CIPHERS])
    # 0 is a server's way to say that it has none of those offered (2.2.4.1.2).
    if count != 1 or chosen not in ciphers:
        raise SecurityViolation("The server does not offer encryption with AES-GCM.")
    return Cipher(chosen)


def _contexts(message: bytes, *, offset: int, count: int) -> Iterator[tuple[int, bytes]]:
    if count > _MAX_CONTEXTS or offset < HEADER_BYTES + _RESPONSE.size:
        raise ProtocolViolation("The server's list of negotiated properties is malformed.")
    for index in range(count):
        if index:
            offset += -offset % 8
        kind, length, _ = _CONTEXT.unpack_from(message, offset)
        offset += _CONTEXT.size
        if offset + length > len(message):
            raise ProtocolViolation("A negotiated property leaves the server's answer.")
        yield kind, message[offset : offset + length]
        offset += length


def _numbers(values: Sequence[int]) -> bytes:
    return Struct(f"<{len(values) + 1}H").pack(len(values), *values)
