"""Asks a server what it would let others do: guests, and clients that do not encrypt.

The answers are for the administrator. Each question has a connection of its own that
is thrown away; none of it can become a ``Connection``, which is always sealed.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from centcert.smb3 import requests
from centcert.smb3.conversation import authenticate, negotiate, open_link
from centcert.smb3.errors import ConnectionLost, DeadlineMissed, LoginUnusable, StatusError
from centcert.smb3.handshake import Handshake
from centcert.smb3.link import Link
from centcert.smb3.login import PasswordLogin, Proof, prove
from centcert.smb3.sealing import SessionKeys, signature
from centcert.smb3.wire import SIGNATURE, SIGNED, Command, frame, header

if TYPE_CHECKING:
    from centcert.smb3.login import Login
    from centcert.smb3.sealing import Cipher
    from centcert.smb3.wire import Octets


@dataclass(frozen=True, slots=True)
class Exposure:
    """What others may do with a share. All ``False`` is as it should be.

    Attributes:
        anonymous: it can be opened by nobody in particular.
        guest: it can be opened by an account that the server does not know.
        unencrypted: it can be opened without encryption.
    """

    anonymous: bool
    guest: bool
    unencrypted: bool


async def probe(
    host: str,
    share: str,
    login: Login,
    *,
    port: int = 445,
    server_name: str | None = None,
    timeout_s: float = 2.0,
) -> Exposure:
    """Find out what a share is open to. Ask only where ``connect`` has succeeded.

    Three connections, one after the other: as nobody; as an account with a random name
    and password; and as the account itself, signed but not encrypted. The last proves
    the account exactly as ``connect`` does and sends nothing else of it. The share's
    name is sent in clear to a server that lets it come to that.

    Args:
        host: as for ``connect``, like the others.
        share: the share's name.
        login: the account.
        port: TCP.
        server_name: what the server is called in tickets and paths; else ``host``.
        timeout_s: for all of it.

    Raises:
        SmbError: as ``connect``; there is no answer then.
    """
    name = server_name or host
    stranger = PasswordLogin(f"stranger-{secrets.token_hex(4)}", secrets.token_urlsafe(16))

    async def opens(proof: Proof) -> bool:
        return await _opens(host, port, name, share, proof)

    try:
        async with asyncio.timeout(timeout_s) as scope:
            return Exposure(
                anonymous=await opens(_AnonymousProof()),
                guest=await opens(prove(stranger, name)),
                unencrypted=await opens(prove(login, name)),
            )
    except TimeoutError:
        if scope.expired():
            raise DeadlineMissed(f"The server was not probed within {timeout_s:g} s.") from None
        raise


async def _opens(host: str, port: int, server_name: str, share: str, proof: Proof) -> bool:
    link = Link(asyncio.get_running_loop())
    handshake = _PlainHandshake(server_name)
    try:
        await open_link(link, host, port)
        await negotiate(link, handshake)
        try:
            session_key = await authenticate(link, handshake, proof)
        except LoginUnusable:
            # A guest's session has no key, and some servers let one in at once.
            if not handshake.let_in_as_guest:
                raise
            session_key = b""
        request = handshake.tree_connect(server_name, share, session_key)
        while not handshake.tree_connected(await link.converse(request)):
            request = b""
    except StatusError:
        return False
    finally:
        link.abort(ConnectionLost("The probe is done."))
    return True


class _PlainHandshake(Handshake):
    """A handshake that offers no encryption, and opens a share without it."""

    _ciphers: ClassVar[tuple[Cipher, ...]] = ()

    @property
    def let_in_as_guest(self) -> bool:
        return self._accepted is not None and (
            self._accepted[1].guest or self._accepted[1].anonymous
        )

    def tree_connect(self, server_name: str, share: str, session_key: bytes) -> bytes:
        """Return the frame of TREE_CONNECT, signed unless as a guest."""
        request = requests.tree_connect(server_name, share)
        self._expected, self._asked = self._credits.take(request.charge)
        signs = not self.let_in_as_guest
        message = bytearray(
            header(
                request.command,
                message_id=self._expected,
                credits_asked=self._asked,
                flags=SIGNED if signs else 0,
                session_id=self._session_id,
            )
            + request.body
        )
        if signs and self._agreed is not None:
            keys = SessionKeys.derive(session_key, self._preauth_hash, self._agreed.cipher)
            message[SIGNATURE] = signature(message, keys.signing, self._agreed.signing)
        return frame(bytes(message))

    def tree_connected(self, received: Octets) -> bool:
        """Say whether this is the final answer, a good one."""
        reply = self._receive(received, Command.TREE_CONNECT)
        if reply is None:
            return False
        if reply.status:
            raise StatusError(reply.status, Command.TREE_CONNECT)
        return True


# [MS-NLMP] 2.2.1.1: Signature, MessageType, NegotiateFlags, and two empty fields.
_NEGOTIATE: Final = Struct("<8sII16x")
# [MS-NLMP] 2.2.1.3: Signature, MessageType, LmChallengeResponse (length, room, offset),
# five empty fields (length, room, offset), NegotiateFlags, and one byte of payload.
_AUTHENTICATE: Final = Struct("<8sIHHI40sIB")
_EMPTY_FIELD: Final = Struct("<HHI")
_SIGNATURE: Final = b"NTLMSSP\0"
# UNICODE, REQUEST_TARGET, NTLM, ALWAYS_SIGN, EXTENDED_SESSIONSECURITY, 128, 56 bits.
_FLAGS: Final = 0x1 | 0x4 | 0x200 | 0x8000 | 0x80000 | 0x20000000 | 0x80000000
_ANONYMOUS: Final = 0x800


class _AnonymousProof:
    """The proof of nobody ([MS-NLMP] 3.2.5.1.2), which pyspnego does not offer."""

    async def step(self, challenge: bytes | None) -> bytes:
        if challenge is None:
            return _NEGOTIATE.pack(_SIGNATURE, 1, _FLAGS)
        end = _AUTHENTICATE.size
        nothing = _EMPTY_FIELD.pack(0, 0, end) * 5
        return _AUTHENTICATE.pack(_SIGNATURE, 3, 1, 1, end - 1, nothing, _FLAGS | _ANONYMOUS, 0)

    def session_key(self) -> bytes:
        return bytes(16)
