"""One server's end of a TLS connection over memory: bytes in, bytes out, no socket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL

from centcert.errors import HandshakeFailed, SessionBroken

if TYPE_CHECKING:
    from OpenSSL.SSL import Connection, Context, Error

    from centcert.credential import Credential

MAX_PLAINTEXT_BYTES: Final = 1 << 14
"""RFC 8446 §5.1: one read takes a whole record."""

OUTGOING_BYTES: Final = 72 * 1024
"""Holds 64 KiB of plaintext as records."""

# OpenSSL 3.0, 3.5 and 4.0 each have their own spelling, and some alerts lack the word.
_ALERT: Final = re.compile(r"(?:(?:sslv3|ssl/tls|tls) alert|tlsv13?(?: alert)?) (.+)")
_NO_REASON: Final = "OpenSSL gives no reason"
_ALERT_MEANS: Final = {
    "unknown ca": "it does not trust the issuer of the certificate",
    "bad certificate": "it does not accept the certificate",
    "certificate unknown": "it does not accept the certificate",
    "unsupported certificate": "it cannot use this kind of certificate",
    "certificate expired": "it takes the certificate for expired; both clocks matter",
    "certificate revoked": "the certificate's issuer has revoked it",
    "handshake failure": "nothing offered here suits it",
    "protocol version": "it speaks none of the versions offered here",
    "access denied": "it does not want this connection",
    "internal error": "it failed itself",
    "decrypt error": "a signature or a key did not verify",
    "unrecognized name": "it asked for another name",
}


class Sessions:
    """Begins sessions by what pyOpenSSL publishes. Not for use by several threads."""

    def begin(self, context: Context, alpn: bytes | None) -> Session:
        """Begin a session.

        Args:
            context: without SSL_MODE_ENABLE_PARTIAL_WRITE, as ``Session.write`` takes all.
            alpn: the protocol to agree on; ``None``: ALPN is not answered.
        """
        return Session(SSL.Connection(context), alpn)

    def certify(self, served: Context | Connection, credential: Credential) -> None:
        """Have a context or a connection serve a certificate with its key.

        Raises:
            SSL.Error: OpenSSL will not.
            ValueError, UnsupportedKey: it is no certificate or no key.
        """
        served.use_certificate(credential.certificate)
        served.use_privatekey(credential.private_key)


class Session:
    """A TLS connection from the ClientHello to the close_notify alerts.

    The owner moves the bytes: what arrives goes into ``handshake`` until that is done, then
    into ``read``; after each call of these, of ``write`` and of ``close`` (also one that
    raised) what ``outgoing`` returns is to be sent. Begun by ``ServerContexts.session``.

    Attributes:
        connection: pyOpenSSL's part of it, to give it a certificate before it begins.
        ended: whether the client sent close_notify: nothing more will be read (RFC 8446
            §6.1). A connection that breaks off without it is for the owner to notice.
    """

    __slots__ = ("connection", "ended")

    def __init__(self, connection: Connection, alpn: bytes | None) -> None:
        connection.set_app_data(alpn)
        connection.set_accept_state()
        self.connection = connection
        self.ended = False

    @property
    def version(self) -> str:
        """For example ``TLSv1.3``; known once the handshake is done, as all facts are."""
        return self.connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """OpenSSL's name, for example ``TLS_AES_256_GCM_SHA384``."""
        return self.connection.get_cipher_name() or ""

    @property
    def cipher_bits(self) -> int:
        """The length of its key, for example 256."""
        return self.connection.get_cipher_bits() or 0

    @property
    def group(self) -> str | None:
        """The key exchange, for example ``X25519MLKEM768``; ``None`` if OpenSSL cannot tell."""
        try:
            return self.connection.get_group_name()
        except NotImplementedError:  # before OpenSSL 3.2
            return None

    @property
    def alpn(self) -> bytes | None:
        """The protocol agreed on, ``None`` if the client was told none."""
        return self.connection.get_alpn_proto_negotiated() or None

    def handshake(self, data: bytes | bytearray | memoryview) -> bool:
        """Take ciphertext, ``HelloReader.raw`` first; say whether the handshake is done.

        Raises:
            HandshakeFailed: it cannot be done. ``outgoing`` holds the alert, if one is to be sent.
        """
        try:
            if data:
                self.connection.bio_write(data)
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise handshake_failed(error) from error
        return True

    def read(self, data: bytes | bytearray | memoryview = b"") -> bytes:
        """Take ciphertext; return the plaintext of all whole records, ``b""`` if there is none.

        Raises:
            SessionBroken: a record is forged or damaged, or the client sent a fatal
                alert; data before it in the same call are lost with the connection.
        """
        chunks: list[bytes] = []
        try:
            if data:
                self.connection.bio_write(data)
            while True:
                chunks.append(self.connection.recv(MAX_PLAINTEXT_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            raise session_broken(error) from error
        return b"".join(chunks)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt all of ``data``. Chunks of 64 KiB serve best: OpenSSL never shrinks its BIO.

        Raises:
            SessionBroken: the handshake is not done, or the session is closed or broken.
        """
        if not data:
            return
        try:
            self.connection.send(data)
        except SSL.Error as error:
            raise session_broken(error) from error

    def outgoing(self) -> bytes:
        """Return the ciphertext to be sent now; ``b""`` if there is none."""
        chunks: list[bytes] = []
        try:
            while True:
                chunks.append(self.connection.bio_read(OUTGOING_BYTES))
        except SSL.WantReadError:
            return b"".join(chunks)

    def close(self) -> None:
        """Say close_notify: nothing more will be written, though reading goes on.

        Does nothing before the handshake is done (the end of an unfinished one needs no
        alert, RFC 8446 §6.1), after a failure, and the second time.
        """
        if self.connection.get_shutdown() & SSL.SENT_SHUTDOWN:
            return
        try:
            self.connection.shutdown()
        except SSL.Error:
            return


def handshake_failed(error: Error) -> HandshakeFailed:
    """Put OpenSSL's error into the sentence of a handshake that cannot be done."""
    return HandshakeFailed(f"The TLS handshake failed: {reason_of(error)}.")


def session_broken(error: Error) -> SessionBroken:
    """Put OpenSSL's error into the sentence of a session that cannot go on."""
    return SessionBroken(f"The TLS connection broke: {reason_of(error)}.")


def reason_of(error: Exception) -> str:
    """Put OpenSSL's reason into words, without a full stop, if ``error`` has one."""
    if isinstance(error, SSL.ZeroReturnError):
        return "the client closed the connection"
    queue: object = error.args[0] if error.args else None
    if not isinstance(queue, list) or not queue:
        return _NO_REASON
    # The oldest entry of TLS itself; what it builds on may have complained before.
    of_tls = [reason for library, _, reason in queue if library == "SSL routines"]
    reason: str = (of_tls or [queue[0][2]])[0]
    if not reason:
        return _NO_REASON
    alert = _ALERT.fullmatch(reason)
    if alert is None:
        return f"OpenSSL says: {reason}"
    name = alert[1].replace(" ", "_")
    meaning = _ALERT_MEANS.get(alert[1])
    return f"the client sent the alert {name}" + (f": {meaning}" if meaning else "")
