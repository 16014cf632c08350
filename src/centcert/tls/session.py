"""One server's end of a TLS connection over memory: bytes in, bytes out, no socket.

Exceptions are dear on this path (3 us of the 20 us that a relayed request may cost), so
a session counts records: it asks OpenSSL for data only while a whole record is there,
and for output only where there may be some.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL

from centcert.errors import HandshakeFailed, SessionBroken

if TYPE_CHECKING:
    from OpenSSL.SSL import Connection, Error

_HEADER_BYTES: Final = 5
_MAX_PLAINTEXT_BYTES: Final = 1 << 14  # RFC 8446 §5.1: one read takes a whole record
_OUTGOING_BYTES: Final = 72 * 1024  # holds 64 KiB of plaintext as records

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


class Session:
    """A TLS connection from the ClientHello to the close_notify alerts.

    The owner moves the bytes: what arrives goes into ``receive``, and after each call of
    ``handshake``, ``read``, ``write`` and ``close`` (also one that raised) what
    ``outgoing`` returns is to be sent. Made by ``ServerContexts.session``.
    """

    __slots__ = ("_connection", "_ended", "_header", "_missing", "_records", "_to_send")

    def __init__(self, connection: Connection, alpn: bytes | None) -> None:
        connection.set_app_data(SSL.NO_OVERLAPPING_PROTOCOLS if alpn is None else alpn)
        connection.set_accept_state()
        self._connection = connection
        self._ended = False
        self._to_send = False  # whether OpenSSL may have output
        # Whole records that OpenSSL holds unread: perhaps fewer, never more than this.
        self._records = 0
        self._missing = 0  # bytes that the record under way still lacks
        self._header = b""  # or what there is of its header

    @property
    def ended(self) -> bool:
        """Whether the client sent close_notify: nothing more will be read (RFC 8446 §6.1).

        A connection that breaks off without it is for the owner to notice.
        """
        return self._ended

    @property
    def version(self) -> str:
        """For example ``TLSv1.3``; known once the handshake is done, as all facts are."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """OpenSSL's name, for example ``TLS_AES_256_GCM_SHA384``."""
        return self._connection.get_cipher_name() or ""

    @property
    def cipher_bits(self) -> int:
        """The length of its key, for example 256."""
        return self._connection.get_cipher_bits() or 0

    @property
    def group(self) -> str | None:
        """The key exchange, for example ``X25519MLKEM768``; ``None`` if OpenSSL cannot tell."""
        try:
            return self._connection.get_group_name()
        except NotImplementedError:  # before OpenSSL 3.2
            return None

    @property
    def alpn(self) -> bytes | None:
        """The protocol agreed on, ``None`` if the client was told none."""
        return self._connection.get_alpn_proto_negotiated() or None

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take ciphertext; the first is ``HelloReader.raw``."""
        if data:
            self._connection.bio_write(data)
            self._count(data)

    def handshake(self) -> bool:
        """Go on with the handshake; say whether it is done.

        Raises:
            HandshakeFailed: it cannot be done. ``outgoing`` holds the alert, if one is to be sent.
        """
        self._to_send = True
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise HandshakeFailed(f"The TLS handshake failed: {reason_of(error)}.") from error
        return True

    def read(self) -> bytes:
        """Return the plaintext of all whole records received; ``b""`` if there is none.

        Raises:
            SessionBroken: a record is forged or damaged, or the client sent a fatal
                alert; data before it in the same call are lost with the connection.
        """
        if not self._records:
            return b""
        chunks: list[bytes] = []
        recv = self._connection.recv
        try:
            while self._records:
                # Each call uses up a record, or more where some carry no data.
                chunks.append(recv(_MAX_PLAINTEXT_BYTES))
                self._records -= 1
        except SSL.WantReadError:
            self._no_data_left()
        except SSL.ZeroReturnError:
            self._no_data_left()
            self._ended = True
        except SSL.Error as error:
            self._no_data_left()
            raise SessionBroken(f"The TLS connection broke: {reason_of(error)}.") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt all of ``data``. Chunks of 64 KiB serve best: OpenSSL never shrinks its BIO.

        Raises:
            SessionBroken: the handshake is not done, or the session is closed or broken.
        """
        if not data:
            return
        self._to_send = True
        try:
            self._connection.send(data)
        except SSL.Error as error:
            raise SessionBroken(f"The TLS connection broke: {reason_of(error)}.") from error

    def close(self) -> None:
        """Say close_notify: nothing more will be written, though reading goes on.

        Does nothing before the handshake is done (the end of an unfinished one needs no
        alert, RFC 8446 §6.1), after a failure, and the second time.
        """
        if self._connection.get_shutdown() & SSL.SENT_SHUTDOWN:
            return
        self._to_send = True
        try:
            self._connection.shutdown()
        except SSL.Error:
            return

    def outgoing(self) -> bytes:
        """Return the ciphertext to be sent now; ``b""`` if there is none."""
        if not self._to_send:
            return b""
        self._to_send = False
        chunks: list[bytes] = []
        try:
            while not chunks or len(chunks[-1]) == _OUTGOING_BYTES:
                chunks.append(self._connection.bio_read(_OUTGOING_BYTES))
        except SSL.WantReadError:
            pass
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _no_data_left(self) -> None:
        # What came besides data, a key update for example, may have made an answer.
        self._records = 0
        self._to_send = True

    def _count(self, data: bytes | bytearray | memoryview) -> None:
        """Count the records that ``data`` completes (RFC 8446 §5.1: length at bytes 3 and 4)."""
        if self._header:
            data = self._header + data
            self._header = b""
        size = len(data)
        end = self._missing  # of the record under way, from the start of data
        if end > size:
            self._missing = end - size
            return
        records = 1 if end else 0
        while end + _HEADER_BYTES <= size:
            end += _HEADER_BYTES + (data[end + 3] << 8 | data[end + 4])
            records += 1
        if end > size:
            records -= 1
            self._missing = end - size
        else:
            self._missing = 0
            self._header = bytes(data[end:])
        self._records += records


def reason_of(error: Error) -> str:
    """Put OpenSSL's reason into words, without a full stop."""
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
