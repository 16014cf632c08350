"""From the first byte to a session that is sealed. No I/O, no clock, no randomness.

This is where the package's promise is kept, and it has no switch: SMB 3.1.1, AES-GCM,
an account that is neither a guest nor nobody, and a signature at the end that proves
that both sides saw the same bytes and know the same secret.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from centcert.smb3 import replies, requests
from centcert.smb3.credits import Credits
from centcert.smb3.errors import LoginRefused, ProtocolViolation, SecurityViolation, StatusError
from centcert.smb3.negotiate import CIPHERS, Negotiated, negotiate_request, negotiated
from centcert.smb3.sealing import SessionKeys, verify_signature
from centcert.smb3.status import Kind, Status, kind_of
from centcert.smb3.wire import Command, Request, frame, header, replies_in

if TYPE_CHECKING:
    from centcert.smb3.sealing import Cipher
    from centcert.smb3.wire import Octets, Reply


_GUEST: Final = "The server did not recognise the account and let it in as a guest."


@dataclass(frozen=True, slots=True)
class Session:
    """A session that the server has proven itself for.

    Attributes:
        session_id: the server's number of it.
        keys: their ``repr`` shows nothing of them.
        negotiated: what was agreed on.
        server_encrypts: the server asks for all of it to be sealed; it is in any case.
        credits: the purse, which goes on counting where the handshake ended.
    """

    session_id: int
    keys: SessionKeys
    negotiated: Negotiated
    server_encrypts: bool
    credits: Credits


class Handshake:
    """NEGOTIATE and SESSION_SETUP, one request and one reply at a time.

    ``negotiate``, then ``negotiated`` with the reply; then ``authenticate`` with a
    token and ``authenticated`` with the reply until that says that the server has
    accepted; then ``session``. A reply that is merely interim is answered ``None``:
    wait for the next frame.
    """

    _ciphers: ClassVar[tuple[Cipher, ...]] = CIPHERS

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name
        self._credits = Credits()
        self._expected = 0  # the message id of the one request on its way
        self._asked = 0
        self._session_id = 0
        # [MS-SMB2] 3.1.4.4.1: every byte of the set-up goes into one hash.
        self._preauth_hash = bytes(64)
        self._agreed: Negotiated | None = None
        self._accepted: tuple[Reply, replies.SessionReply] | None = None

    def negotiate(self, random: bytes) -> bytes:
        """Return the frame of NEGOTIATE. ``random`` is 48 bytes that nobody can guess."""
        body = negotiate_request(self._server_name, random[:16], random[16:], self._ciphers)
        return self._send(Request(Command.NEGOTIATE, body))

    def negotiated(self, received: Octets) -> Negotiated | None:
        """Take the server's frame.

        Raises:
            SecurityViolation: it offers less than this client accepts.
            ProtocolViolation: it is malformed.
        """
        reply = self._receive(received, Command.NEGOTIATE)
        if reply is None:
            return None
        self._hash(reply.packet)
        self._agreed = negotiated(reply, self._ciphers)
        return self._agreed

    def authenticate(self, token: bytes) -> bytes:
        """Return the frame of SESSION_SETUP with a token of the account's proof."""
        return self._send(requests.session_setup(token))

    def authenticated(self, received: Octets) -> replies.SessionReply | None:
        """Take the server's frame: a challenge, or its acceptance (see ``accepted``).

        Raises:
            LoginRefused: the server refuses the account.
            StatusError: it refuses for another reason.
            SecurityViolation: it took the account for a guest's or for nobody's.
            ProtocolViolation: the frame is malformed.
        """
        reply = self._receive(received, Command.SESSION_SETUP)
        if reply is None:
            return None
        if reply.status not in {Status.SUCCESS, Status.MORE_PROCESSING_REQUIRED}:
            refused = LoginRefused if kind_of(reply.status) is Kind.LOGIN else StatusError
            raise refused(reply.status, Command.SESSION_SETUP)
        answer = replies.session_setup(reply)
        self._session_id = reply.session_id
        if reply.status == Status.MORE_PROCESSING_REQUIRED:
            self._hash(reply.packet)
        else:
            # The last reply is not hashed ([MS-SMB2] 3.2.5.3.1): its signature is made
            # with the keys that the hash gives.
            self._accepted = reply, answer
        return answer

    @property
    def accepted(self) -> bool:
        """Whether the server has accepted the account."""
        return self._accepted is not None

    def session(self, session_key: bytes) -> Session:
        """Return the session, if the end of its set-up is signed with the right key.

        Args:
            session_key: from the account's proof.

        Raises:
            SecurityViolation: a guest's session, or the signature is missing or wrong.
        """
        if self._agreed is None or self._accepted is None:
            raise ValueError("the server has not accepted the account yet")
        reply, answer = self._accepted
        if answer.guest or answer.anonymous:
            raise SecurityViolation(_GUEST)
        keys = SessionKeys.derive(session_key, self._preauth_hash, self._agreed.cipher)
        verify_signature(reply.packet, keys.signing, self._agreed.signing)
        return Session(
            session_id=self._session_id,
            keys=keys,
            negotiated=self._agreed,
            server_encrypts=answer.encrypts,
            credits=self._credits,
        )

    def _send(self, request: Request) -> bytes:
        self._expected, self._asked = self._credits.take(request.charge)
        message = (
            header(
                request.command,
                message_id=self._expected,
                credits_asked=self._asked,
                session_id=self._session_id,
            )
            + request.body
        )
        self._hash(message)
        return frame(message)

    def _receive(self, received: Octets, command: Command) -> Reply | None:
        arrived = replies_in(bytes(received))
        reply = arrived[0]
        if len(arrived) > 1 or reply.message_id != self._expected or reply.command != command:
            raise ProtocolViolation(f"The server did not answer {command.name}.")
        self._credits.settle(self._asked, reply.credits)
        self._asked = 0
        if reply.status == Status.PENDING:
            return None
        if self._session_id and reply.session_id != self._session_id:
            raise ProtocolViolation("The server changed the session while it was set up.")
        return reply

    def _hash(self, message: bytes) -> None:
        self._preauth_hash = hashlib.sha512(self._preauth_hash + message).digest()
