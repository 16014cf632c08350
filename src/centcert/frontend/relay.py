"""The backend's side of a relayed connection: plain bytes, both ways, at the slower one's pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from centcert.frontend.addresses import reason_of

if TYPE_CHECKING:
    from centcert.frontend.connection import ClientConnection


class BackendConnection(asyncio.BufferedProtocol):
    """A connection to the backend on behalf of one client."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._buffer = client.buffer
        self._wanted = False
        self.ended = False
        """Whether the backend has said all it had to say."""

    # --- the transport's calls -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to relay, unless the client has left meanwhile."""
        self._transport = cast("asyncio.Transport", transport)
        self._wanted = self._client.backend_made(self)
        if not self._wanted:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all connections of the loop share."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on to the client what the backend has sent."""
        self._client.send(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Pass on that the backend has said all; the client may have more to say."""
        self.ended = True
        self._client.backend_ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the client's side."""
        if not self._wanted:
            return
        if isinstance(exc, OSError):
            self._client.backend_lost(reason_of(exc))
        else:
            self._client.backend_lost(None if exc is None else str(exc))

    def pause_writing(self) -> None:
        """Let the client wait."""
        self._client.pause_reading()

    def resume_writing(self) -> None:
        """Let the client go on."""
        self._client.resume_reading()

    # --- the client's side -----------------------------------------------------

    def write(self, plaintext: bytes) -> None:
        """Send what the client has sent."""
        self._transport.write(plaintext)

    def write_eof(self) -> None:
        """Send that the client has said all."""
        end_writing(self._transport)

    def pause_reading(self) -> None:
        """Read no more until the client has caught up."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def client_lost(self) -> None:
        """End the connection, after what is still on its way.

        In order even if the client left without close_notify, as nginx and HAProxy do: a
        reset would throw away what the client had sent, and many clients just leave.
        """
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()


def end_writing(transport: asyncio.Transport) -> None:
    """End one direction, after what is still on its way; if it is broken, end both."""
    if transport.is_closing():
        return
    try:
        transport.write_eof()
    except OSError:  # asyncio lets shutdown(2) fail here if the other end has just reset it
        transport.abort()
