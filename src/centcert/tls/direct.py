"""Sessions over OpenSSL itself: what a warm connection does most, without what is around it.

For each message pyOpenSSL allocates the largest buffer, asks for errors that did not happen,
and raises exceptions for what is no fault; for each connection it keeps a weak reference that
only callbacks use. That is a tenth of a whole visit. So what is done over and over goes past
it, to the functions that it calls itself; what is done once, and whatever goes wrong, is left
to it. Nobody promises that they stay where they are: where they are not, ``best_sessions``
returns ``Sessions``, which does the same by what pyOpenSSL publishes, and costs that tenth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL

from centcert.errors import HandshakeFailed
from centcert.tls.session import (
    MAX_PLAINTEXT_BYTES,
    OUTGOING_BYTES,
    Session,
    Sessions,
    handshake_failed,
    session_broken,
)

if TYPE_CHECKING:
    from centcert.credential import Credential

_PLAIN_BYTES: Final = 8 * MAX_PLAINTEXT_BYTES
_WANT_READ: Final = 2  # SSL_get_error(3)
_ZERO_RETURN: Final = 6
_NO_HELLO: Final = bytes((22, 3, 3, 0, 4, 0, 0, 0, 0))  # a HelloRequest, answered by an alert
_MADE_LATER: Final = {"_alpn_select_callback_args"}
_INSIDES: Final[Any] = SSL


def best_sessions() -> Sessions:
    """Return what begins the cheapest sessions that this pyOpenSSL allows."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        sessions = DirectSessions()
        trial = sessions.begin(context, b"h2")
        trial.connection.set_context(context)
        trial.close()
        trial.handshake(_NO_HELLO)
    except HandshakeFailed:  # for the right reason: everything that a handshake needs is there
        # An attribute that pyOpenSSL's own have more might be missed in its other methods.
        lacking = vars(SSL.Connection(context)).keys() - vars(trial.connection).keys()
        if lacking <= _MADE_LATER and trial.outgoing():
            return sessions
    except (AttributeError, TypeError):
        pass
    return Sessions()


class DirectSessions(Sessions):
    """As ``Sessions``, by the functions beneath pyOpenSSL.

    What OpenSSL writes goes into memory of which there is one piece each, and is copied from
    there before the next call.

    Raises:
        AttributeError: this pyOpenSSL does not have them where others had them.
    """

    def __init__(self) -> None:
        lib, ffi = _INSIDES._lib, _INSIDES._ffi  # noqa: SLF001  see the module
        self.bio_read, self.bio_write = lib.BIO_read, lib.BIO_write
        self.do_handshake, self.error_of = lib.SSL_do_handshake, lib.SSL_get_error
        self.read, self.write = lib.SSL_read, lib.SSL_write
        self.memory_of, self.bytes_at = ffi.from_buffer, ffi.buffer
        self.plain = ffi.new("char[]", _PLAIN_BYTES)
        self.outgoing = ffi.new("char[]", OUTGOING_BYTES)
        self._lib, self._ffi = lib, ffi
        self._read_certificate = lib.d2i_X509_bio, lib.X509_free
        self._read_key = lib.d2i_PrivateKey_bio, lib.EVP_PKEY_free
        self._certify_connection = lib.SSL_use_certificate, lib.SSL_use_PrivateKey
        self._certify_context = lib.SSL_CTX_use_certificate, lib.SSL_CTX_use_PrivateKey
        self._raise_error = _INSIDES._raise_current_error  # noqa: SLF001

    def begin(self, context: SSL.Context, alpn: bytes | None) -> Session:
        """See ``Sessions.begin``."""
        return DirectSession(self, _MemoryConnection(context, called_back=alpn is not None), alpn)

    def certify(self, served: SSL.Context | SSL.Connection, credential: Credential) -> None:
        """See ``Sessions.certify``. Reads the DER once; pyOpenSSL reads and writes it thrice."""
        inside: Any = served
        if isinstance(served, SSL.Context):
            handle, (use_certificate, use_key) = inside._context, self._certify_context  # noqa: SLF001
        else:
            handle, (use_certificate, use_key) = inside._ssl, self._certify_connection  # noqa: SLF001
        if use_certificate(handle, self._parsed(credential.leaf, *self._read_certificate)) != 1:
            self._raise_error()
        if use_key(handle, self._parsed(credential.pkcs8, *self._read_key)) != 1:
            self._raise_error()

    def _parsed(self, der: bytes, parse: Any, free: Any) -> Any:  # noqa: ANN401  OpenSSL's own
        """Return an X509 or an EVP_PKEY; who uses it counts itself in."""
        lib, ffi = self._lib, self._ffi
        source = ffi.gc(lib.BIO_new_mem_buf(self.memory_of(der), len(der)), lib.BIO_free)
        parsed = parse(source, ffi.NULL)
        if parsed == ffi.NULL:
            self._raise_error()
        return ffi.gc(parsed, free)


class _MemoryConnection(SSL.Connection):
    """A server's connection over memory, made with what it needs."""

    def __init__(self, context: SSL.Context, *, called_back: bool) -> None:
        """Make it.

        Args:
            context: what it begins on.
            called_back: whether the context's callbacks will ask for it.
        """
        lib, ffi = _INSIDES._lib, _INSIDES._ffi  # noqa: SLF001  see the module
        ssl = self._ssl = ffi.gc(lib.SSL_new(context._context), lib.SSL_free)  # noqa: SLF001
        self._into_ssl, self._from_ssl = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        if ffi.NULL in (ssl, self._into_ssl, self._from_ssl):
            raise MemoryError
        lib.SSL_set_bio(ssl, self._into_ssl, self._from_ssl)  # it frees them
        context._used = True  # noqa: SLF001
        self._context, self._socket = context, None
        self._verify_helper = self._verify_callback = None
        self._cookie_generate_helper = self._cookie_verify_helper = None
        if called_back:
            self._reverse_mapping[ssl] = self


class DirectSession(Session):
    """As ``Session``, which see."""

    __slots__ = ("_incoming", "_openssl", "_outgoing", "_ssl")

    def __init__(
        self, openssl: DirectSessions, connection: SSL.Connection, alpn: bytes | None
    ) -> None:
        super().__init__(connection, alpn)
        self._openssl = openssl
        inside: Any = connection
        self._ssl = inside._ssl  # noqa: SLF001  see the module
        self._incoming = inside._into_ssl  # noqa: SLF001
        self._outgoing = inside._from_ssl  # noqa: SLF001

    def handshake(self, data: bytes | bytearray | memoryview) -> bool:
        """See ``Session.handshake``."""
        openssl = self._openssl
        if data:
            openssl.bio_write(self._incoming, openssl.memory_of(data), len(data))
        result = openssl.do_handshake(self._ssl)
        if result == 1:
            return True
        if openssl.error_of(self._ssl, result) == _WANT_READ:
            return False
        error = self._error(result)
        raise handshake_failed(error) from error

    def read(self, data: bytes | bytearray | memoryview = b"") -> bytes:
        """See ``Session.read``."""
        openssl = self._openssl
        if data:
            openssl.bio_write(self._incoming, openssl.memory_of(data), len(data))
        ssl, read, plain = self._ssl, openssl.read, openssl.plain
        whole, held = b"", 0
        while (size := read(ssl, plain + held, MAX_PLAINTEXT_BYTES)) > 0:
            held += size
            if held > _PLAIN_BYTES - MAX_PLAINTEXT_BYTES:
                whole += openssl.bytes_at(plain, held)[:]
                held = 0
        stopped = openssl.error_of(ssl, size)
        if stopped == _ZERO_RETURN:
            self.ended = True
        elif stopped != _WANT_READ:
            error = self._error(size)
            raise session_broken(error) from error
        return whole + openssl.bytes_at(plain, held)[:] if held else whole

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Session.write``."""
        if not data:
            return
        openssl = self._openssl
        size = openssl.write(self._ssl, openssl.memory_of(data), len(data))
        if size <= 0:
            error = self._error(size)
            raise session_broken(error) from error

    def outgoing(self) -> bytes:
        """See ``Session.outgoing``."""
        openssl, whole = self._openssl, b""
        while (size := openssl.bio_read(self._outgoing, openssl.outgoing, OUTGOING_BYTES)) > 0:
            whole += openssl.bytes_at(openssl.outgoing, size)[:]
            if size < OUTGOING_BYTES:
                break
        return whole

    def _error(self, result: int) -> SSL.Error:
        """Return what pyOpenSSL makes of a call's ``result``; OpenSSL's queue is empty then."""
        try:
            self.connection._raise_ssl_error(self._ssl, result)  # noqa: SLF001  see the module
        except SSL.Error as error:
            return error
        return SSL.Error()
