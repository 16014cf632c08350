"""An ``asyncio.Transport`` whose TLS stands: what a Python server's protocol is given.

It keeps the contract of asyncio's transports over the loop's own one. That one has the
buffer: data are encrypted at once, so what waits to be sent waits as ciphertext.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import constants, transports
from typing import TYPE_CHECKING, Any, Final, cast

from centcert.errors import SessionBroken
from centcert.frontend.relay import end_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from centcert.frontend.tls_object import TlsObject
    from centcert.tls.session import Session

LINGER_S: Final = 2.0
"""How long a client that was told the end may go on sending. To close while it sends would reset
the connection, and its system would throw away what it has not read yet (nginx: lingering_close).
It need not answer the end: RFC 8446 §6.1."""

MAX_ANSWERS_BYTES: Final = 1024 * 1024
"""What TLS itself may have to say to a client that does not listen. Without it, a TLS 1.2 client
that asks for renegotiation again and again, each time to be told no, would fill the memory."""

_CHUNK_BYTES: Final = 64 * 1024  # what one write of a session takes best
_TLS_1_3: Final = "TLSv1.3"

_logger = logging.getLogger("asyncio")  # where asyncio's own transports warn


# The base class and the mode are what loop.sendfile asks for, of every transport but its own.
class TlsTransport(transports._FlowControlMixin):  # noqa: SLF001
    """One connection whose TLS stands; made by a server, driven by the loop's transport.

    ``get_extra_info`` knows what asyncio's own TLS transport does (``sslcontext``,
    ``ssl_object``, ``cipher``, ``compression``, ``peercert``), and ``server_name``; all
    else is the loop's transport's.

    The client's close_notify is ``eof_received``. As that answers, the other direction
    stays open or ends; with TLS 1.2 it always ends (RFC 5246 §7.2.1). A connection that
    breaks off without close_notify looks the same and always ends, as in asyncio: so a
    protocol must know by itself whether something is missing (RFC 8446 §6.1).
    """

    _sendfile_compatible = constants._SendfileMode.FALLBACK  # noqa: SLF001

    def __init__(
        self,
        raw: asyncio.Transport,
        tls: TlsObject,
        session: Session,
        *,
        shutdown_s: float,
    ) -> None:
        """Take over ``raw``, whose protocol passes on what it is told; nothing before ``start``.

        Args:
            raw: the loop's transport.
            tls: the facts of the handshake.
            session: TLS, after its handshake.
            shutdown_s: how long what is written may take to leave after ``close``.
        """
        loop = asyncio.get_running_loop()
        super().__init__(None, loop)
        self._event_loop = loop
        self._raw = raw
        self._tls = tls
        self._session = session
        self._shutdown_s = shutdown_s
        self._protocol: asyncio.BaseProtocol
        self._take: Callable[[bytes], bytes]
        self._lost: Callable[[], None]
        self._timer: asyncio.TimerHandle | None = None
        self._unread = b""  # what the protocol, having paused, has not been given yet
        self._reading = True
        self._closing = False
        self._write_ended = False
        self._eof_told = False
        self._raw_ended = False
        self._error: Exception | None = None
        self._answers_bytes = 0
        self._useless_writes = 0

    def start(self, protocol: asyncio.BaseProtocol, lost: Callable[[], None]) -> None:
        """Hand the connection to ``protocol``; at its very end call ``lost``."""
        self._lost = lost
        self.set_protocol(protocol)
        protocol.connection_made(self)
        self._give(self._decrypt(b""))  # what the client has sent with the end of its handshake
        if not self._closing:
            self._flush()  # what ends the handshake, unless it has left with an answer

    def __repr__(self) -> str:
        state = "closing" if self._closing else "open"
        return f"<TlsTransport {self._tls.server_hostname} {state} over {self._raw!r}>"

    # --- asyncio.BaseTransport ---------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  asyncio's own
        """See the class, and ``asyncio.BaseTransport.get_extra_info``."""
        match name:
            case "ssl_object":
                return self._tls
            case "sslcontext":
                return self._tls.context
            case "cipher":
                return self._tls.cipher()
            case "compression" | "peercert":
                return None
            case "server_name":
                return self._tls.server_hostname
            case _:
                return self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol take what comes from now on."""
        self._protocol = protocol
        buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._take = self._fill if buffered else self._pass

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Say whether the connection is over or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what was written and close_notify; receive nothing more."""
        if self._closing:
            return
        self._closing = True
        if self._raw_ended or self._session.ended:
            self._say_close_notify()
            self._close_raw()
            return
        self._end_tls()
        self._give_up_later()
        self._raw.resume_reading()  # to throw it away
        self._raw.set_write_buffer_limits(0)  # so resume_writing says when all has left
        if not self._raw.get_write_buffer_size():
            self._linger()

    def abort(self) -> None:
        """End at once; what was not sent yet is lost."""
        self._closing = True
        self._raw.abort()

    # --- asyncio.ReadTransport -----------------------------------------------------

    def is_reading(self) -> bool:
        """Say whether the protocol is given what comes."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Give the protocol nothing more, and let the client wait."""
        if self.is_reading():
            self._reading = False
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on where it paused, but not from within this call."""
        if not self._reading and not self._closing:
            self._reading = True
            self._event_loop.call_soon(self._read_on)

    # --- asyncio.WriteTransport ----------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is paused and resumed, in bytes of ciphertext."""
        if not self._closing:
            self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return low and high."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return what waits to be sent, in bytes of ciphertext."""
        return self._raw.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send ``data``; what the client does not take yet is kept."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if self._write_ended and not self._closing:
            raise RuntimeError("Cannot call write() after write_eof()")
        if len(data) <= _CHUNK_BYTES and not isinstance(data, memoryview):  # the common case
            self._send(data)
            return
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK_BYTES):
            self._send(view[start : start + _CHUNK_BYTES])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send one after the other, in as few records as they fit in."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Say whether one direction can end alone: in TLS 1.3 (RFC 8446 §6.1)."""
        return self._session.version == _TLS_1_3

    def write_eof(self) -> None:
        """Send what was written and close_notify; go on receiving.

        Raises:
            NotImplementedError: TLS 1.2 has no such thing (RFC 5246 §7.2.1).
        """
        if not self.can_write_eof():
            raise NotImplementedError("TLS 1.2 cannot end one direction alone")
        if not self._closing:
            self._end_tls()

    # --- what the wire brings --------------------------------------------------------

    def received(self, data: bytes | memoryview) -> None:
        """Take ciphertext; after ``close``, throw it away."""
        plaintext = self._decrypt(data)
        if not self._closing:
            self._answer()
            self._give(plaintext)

    def ended(self) -> bool:
        """Take the end of TCP's stream; say whether the other direction stays open."""
        self._raw_ended = True
        if self._closing:
            return False
        if self._session.ended:  # which the protocol knows, or will when it reads on
            return True
        self._tell_eof()
        self.close()
        return False

    def lost(self, error: Exception | None) -> None:
        """Tell the protocol that it is over."""
        self._closing = True
        self._unread = b""
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._protocol.connection_lost(self._error or error)
        finally:
            self._lost()

    def full(self) -> None:
        """Tell the protocol to write no more."""
        self._protocol_paused = True
        if not self._closing:
            self._protocol.pause_writing()

    def empty(self) -> None:
        """Tell the protocol to write on; or, after ``close``, that all has left."""
        self._protocol_paused = False
        if self._closing:
            self._linger()
        else:
            self._protocol.resume_writing()

    # --- reading -----------------------------------------------------------------------

    def _decrypt(self, data: bytes | memoryview) -> bytes:
        if self._closing:
            return b""
        try:
            return self._session.read(data)
        except SessionBroken as error:
            self._break(error)
            return b""

    def _read_on(self) -> None:
        """Go on after a pause: first with what has been decrypted already."""
        unread, self._unread = self._unread, b""
        try:
            self._give(unread)
        except Exception as error:  # noqa: BLE001  as the loop does around a protocol's methods
            self._event_loop.call_exception_handler(
                {"message": "A protocol failed", "exception": error, "protocol": self._protocol}
            )
            self._error = error
            self.abort()
        if self.is_reading():
            self._raw.resume_reading()

    def _give(self, plaintext: bytes) -> None:
        while plaintext and self.is_reading():
            plaintext = self._take(plaintext)
        self._unread = plaintext
        if self._session.ended and self.is_reading() and not self._eof_told:
            keep_open = self._tell_eof()
            if not keep_open or not self.can_write_eof():
                self.close()

    def _pass(self, plaintext: bytes) -> bytes:
        cast("asyncio.Protocol", self._protocol).data_received(plaintext)
        return b""

    def _fill(self, plaintext: bytes) -> bytes:
        """Give a ``BufferedProtocol`` what its buffer holds; return the rest."""
        protocol = cast("asyncio.BufferedProtocol", self._protocol)
        buffer = cast("memoryview", protocol.get_buffer(len(plaintext)))
        size = min(len(buffer), len(plaintext))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = plaintext[:size]
        protocol.buffer_updated(size)
        return plaintext[size:]

    def _tell_eof(self) -> bool:
        self._eof_told = True
        return bool(cast("asyncio.Protocol", self._protocol).eof_received())

    # --- writing and ends --------------------------------------------------------------

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            self._warn_of_writes()
            return
        try:
            self._session.write(data)
        except SessionBroken as error:
            self._break(error)
            return
        self._flush()

    def _flush(self) -> int:
        out = self._session.outgoing()
        if out and not self._write_ended:
            self._raw.write(out)
        return len(out)

    def _answer(self) -> None:
        """Send what TLS itself says to what came: a key update, a refusal to renegotiate."""
        sent = self._flush()
        if not sent:
            return
        self._answers_bytes = (self._answers_bytes + sent) * bool(self.get_write_buffer_size())
        if self._answers_bytes > MAX_ANSWERS_BYTES:
            self.abort()

    def _end_tls(self) -> None:
        """Say close_notify, and that TCP's stream ends too."""
        self._say_close_notify()
        end_writing(self._raw)

    def _say_close_notify(self) -> None:
        self._session.close()
        self._flush()
        self._write_ended = True

    def _close_raw(self) -> None:
        """End TCP's connection once all has left, if the client takes it."""
        if self._raw.get_write_buffer_size():
            self._give_up_later()
        self._raw.close()

    def _give_up_later(self) -> None:
        self._timer = self._event_loop.call_later(self._shutdown_s, self._give_up)

    def _linger(self) -> None:
        """All has left: let the client end as well, but not for long."""
        self._stop_timer()
        self._timer = self._event_loop.call_later(LINGER_S, self._raw.close)

    def _give_up(self) -> None:
        self._error = TimeoutError(f"The client took no more for {self._shutdown_s:g} s.")
        self._raw.abort()

    def _break(self, error: SessionBroken) -> None:
        """End a connection that TLS forbids to go on, with the alert that says why."""
        self._closing = True
        # Servers expect a ConnectionError of a client that is to blame.
        self._error = ConnectionAbortedError(str(error))
        self._error.__cause__ = error
        self._flush()
        self._close_raw()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _warn_of_writes(self) -> None:
        if self._useless_writes == constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            _logger.warning("%r is closed, and still written to", self)
        self._useless_writes += 1
