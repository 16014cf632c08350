"""What Caddy's ``get_certificate http`` asks: PEM from memory over HTTP, nothing else.

python -m bench.certificate_server PORT FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Certificates(asyncio.Protocol):
    """Answers ``GET /?server_name=NAME&…`` with what is in memory."""

    def __init__(self, files: dict[bytes, bytes]) -> None:
        self._files = files
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._held.endswith(b"\r\n\r\n"):
            name = self._held.partition(b"server_name=")[2].split(b"&")[0].split(b" ")[0]
            self._held = b""
            self._transport.write(self._files.get(name, _NOT_FOUND))


def read_answers(folder: Path) -> dict[bytes, bytes]:
    """Return the whole answer for each name."""
    files = {}
    for file in folder.iterdir():
        pem = file.read_bytes()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(pem)
        files[file.stem.encode()] = head + pem
    return files


async def serve(port: int, files: dict[bytes, bytes]) -> None:
    """Serve until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Certificates(files), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), read_answers(Path(sys.argv[2]))))
