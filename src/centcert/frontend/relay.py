"""The backend's side of a relayed connection: plain bytes, both ways, at the slower one's pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from centcert.frontend.connection import ClientConnection


class BackendConnection(asyncio.BufferedProtocol):
    """A connection to the backend on behalf of one client."""

    def __init__(self, client: ClientConnection) -> None:
        self._client: ClientConnection | None = client
        self._buffer = client.buffer
        self.ended = False
        """Whether the backend has said all it had to say."""

    # --- the transport's calls -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all connections of the loop share."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on to the client what the backend has sent."""
        if self._client is not None:
            self._client.send(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Pass on that the backend has said all; the client may have more to say."""
        self.ended = True
        if self._client is not None:
            self._client.backend_ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the client's side."""
        client, self._client = self._client, None
        if client is not None:
            client.backend_lost(None if exc is None else str(exc))

    def pause_writing(self) -> None:
        """Let the client wait."""
        if self._client is not None:
            self._client.pause_reading()

    def resume_writing(self) -> None:
        """Let the client go on."""
        if self._client is not None:
            self._client.resume_reading()

    # --- the client's side -----------------------------------------------------

    def write(self, plaintext: bytes) -> None:
        """Send what the client has sent."""
        self._transport.write(plaintext)

    def write_eof(self) -> None:
        """Send that the client has said all."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        """Read no more until the client has caught up."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def client_lost(self) -> None:
        """End the connection, after what is still on its way.

        In order even if the client left without close_notify, as nginx and HAProxy do: a
        reset would throw away what the client had sent, and many clients just leave.
        """
        self._client = None
        self._transport.close()
