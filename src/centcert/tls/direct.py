"""Sessions over OpenSSL itself: what a warm connection does most, without what is around it.

For each message pyOpenSSL allocates the largest buffer, asks for errors that did not happen,
and raises exceptions for what is no fault; for each connection it keeps a weak reference that
only callbacks use. That is a tenth of a whole visit. So what is done over and over goes past
it, to the functions that it calls itself; what is done once, and whatever goes wrong, is left
to it. Nobody promises that they stay where they are: where they are not, ``session_maker``
returns ``Session``, which does the same by what pyOpenSSL publishes, and costs that tenth.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from OpenSSL import SSL

from centcert.errors import HandshakeFailed
from centcert.tls.session import (
    MAX_PLAINTEXT_BYTES,
    OUTGOING_BYTES,
    Session,
    handshake_failed,
    session_broken,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker: TypeAlias = Callable[[SSL.Context, bytes | None], Session]

_PLAIN_BYTES: Final = 8 * MAX_PLAINTEXT_BYTES
_WANT_READ: Final = 2  # SSL_get_error(3)
_ZERO_RETURN: Final = 6
_NO_HELLO: Final = b"GET / HTTP/1.1\r\n"
_INSIDES: Final[Any] = SSL


class OpenSsl:
    """The functions that are called directly, and the memory that they write to.

    What is written there is copied before the next call: for one thread only.

    Raises:
        AttributeError: this pyOpenSSL does not have them where others had them.
    """

    __slots__ = (
        "bio_read",
        "bio_write",
        "bytes_at",
        "do_handshake",
        "error_of",
        "memory_of",
        "outgoing",
        "plain",
        "read",
        "write",
    )

    def __init__(self) -> None:
        lib, ffi = _INSIDES._lib, _INSIDES._ffi  # noqa: SLF001  see the module
        self.bio_read, self.bio_write = lib.BIO_read, lib.BIO_write
        self.do_handshake, self.error_of = lib.SSL_do_handshake, lib.SSL_get_error
        self.read, self.write = lib.SSL_read, lib.SSL_write
        self.memory_of, self.bytes_at = ffi.from_buffer, ffi.buffer
        self.plain = ffi.new("char[]", _PLAIN_BYTES)
        self.outgoing = ffi.new("char[]", OUTGOING_BYTES)


class _Connection(SSL.Connection):
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

    def __init__(self, openssl: OpenSsl, context: SSL.Context, alpn: bytes | None) -> None:
        super().__init__(context, alpn)
        self._openssl = openssl
        connection: Any = self.connection
        self._ssl = connection._ssl  # noqa: SLF001  see the module
        self._incoming = connection._into_ssl  # noqa: SLF001
        self._outgoing = connection._from_ssl  # noqa: SLF001

    def _connect(self, context: SSL.Context, alpn: bytes | None) -> SSL.Connection:
        return _Connection(context, called_back=alpn is not None)

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


def session_maker() -> Maker:
    """Return what makes sessions over memory; all those of one maker belong to one thread."""
    try:
        maker = partial(DirectSession, OpenSsl())
        trial = maker(SSL.Context(SSL.TLS_SERVER_METHOD), b"h2")
        trial.close()
        trial.handshake(_NO_HELLO)
    except HandshakeFailed:  # for the right reason: everything is in its place
        return maker
    except (AttributeError, TypeError):
        pass
    return Session
