"""Somebody between client and server, who sees every frame and may do as he likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

Meddle: TypeAlias = Callable[[bool, bytes], list[bytes]]
"""Given whether a frame comes from the server, and the frame: what to pass on instead."""


def pass_on(from_server: bool, frame: bytes) -> list[bytes]:  # noqa: ARG001, FBT001
    return [frame]


class Proxy:
    """One listener before one server; ``meddle`` may be exchanged at any time.

    Attributes:
        port: where it listens.
        seen: each frame that came by, as it came, and whether from the server.
    """

    def __init__(self, upstream_port: int) -> None:
        self.meddle: Meddle = pass_on
        self.port = 0
        self.seen: list[tuple[bool, bytes]] = []
        self.handlers: set[asyncio.Task[None]] = set()
        self._upstream_port = upstream_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self.handlers.add(handler)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            await asyncio.gather(
                self._carry(reader, upstream, from_server=False),
                self._carry(upstream_reader, writer, from_server=True),
            )
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            for end in (writer, upstream):
                end.transport.abort()
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await reader.readexactly(4)
                frame = await reader.readexactly(int.from_bytes(length, "big"))
                self.seen.append((from_server, frame))
                for passed in self.meddle(from_server, frame):
                    writer.write(len(passed).to_bytes(4, "big") + passed)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Stand before the server on ``port``."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        for handler in proxy.handlers:
            handler.cancel()
        await asyncio.gather(*proxy.handlers, return_exceptions=True)
