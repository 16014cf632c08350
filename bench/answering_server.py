"""Centcert's ``start_server`` with the smallest application: each request gets 16 bytes.

python -m bench.answering_server PORT STORE
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from centcert import Provider, open_store, start_server

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + bytes(16)


class Answering(asyncio.Protocol):
    """Answers whatever ends with an empty line."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(_ANSWER)


async def serve(port: int, store_url: str) -> None:
    """Serve until it is killed."""
    async with open_store(store_url) as store, Provider(store) as provider:
        server = await start_server(Answering, provider, "127.0.0.1", port, backlog=1024)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
