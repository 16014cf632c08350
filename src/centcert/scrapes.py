"""Answers scrapes: HTTP/1.1, one request a connection, for nobody but this machine.

It is one page for a program that asks every few seconds, so it is made of the event loop's
streams; everything a client may send or take is bounded.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from centcert.control import make_room
from centcert.errors import SettingsError
from centcert.frontend.addresses import TcpAddress, reason_of
from centcert.metrics import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from centcert.control import NodeStatus

MAX_HEAD_BYTES: Final = 16 * 1024
"""Of a request. Prometheus sends some 300."""

MAX_AT_ONCE: Final = 8
SCRAPE_S: Final = 10.0
"""For request and answer; Prometheus' own default."""

_TEXT: Final = "text/plain; charset=utf-8"

_HOST: Final = re.compile(rb"\r\nhost:([^\r\n]*)", re.IGNORECASE)
_OF_THIS_MACHINE: Final = re.compile(
    rb"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]*)?", re.IGNORECASE
)
"""What a client calls this page by. Any other name is a web page's that a visitor's browser on
this machine has open, and that has its name lead here: DNS rebinding."""


@asynccontextmanager
async def metrics_page(
    address: TcpAddress | Path, status: Callable[[], Awaitable[NodeStatus]]
) -> AsyncIterator[str]:
    """Answer ``GET /metrics`` at ``address`` while the block runs; yields where that is.

    A Unix socket has mode 0660: who scrapes there belongs to the node's group.

    Raises:
        SettingsError: nothing can be opened there.
    """
    talks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(talks) >= MAX_AT_ONCE:
            writer.close()
            return
        talk = _talk(reader, writer, status, over_tcp=isinstance(address, TcpAddress))
        task = asyncio.get_running_loop().create_task(talk)
        talks.add(task)
        task.add_done_callback(talks.discard)

    try:
        listening, where = _listening(address)
        server = await asyncio.start_server(serve, sock=listening, limit=MAX_HEAD_BYTES)
    except OSError as error:
        raise SettingsError(f"Metrics: cannot listen on {address}: {reason_of(error)}.") from error
    try:
        async with server:
            try:
                yield where
            finally:  # nobody who is slow keeps the node from ending
                server.close()
                for task in tuple(talks):
                    task.cancel()
    finally:
        if isinstance(address, Path):
            with suppress(OSError):
                os.unlink(address)  # noqa: PTH108  in memory: no disk is waited for


def _listening(address: TcpAddress | Path) -> tuple[socket.socket, str]:
    if isinstance(address, TcpAddress):
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.create_server((address.host, address.port), family=family)
        own = TcpAddress(*listening.getsockname()[:2])
        return listening, f"http://{own}/metrics"
    make_room(address, "--metrics")
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(address))
        os.chmod(address, 0o660)  # noqa: PTH101  before it listens: nobody can have connected
    except OSError:
        listening.close()
        raise
    return listening, f"unix:{address}"


async def _talk(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    status: Callable[[], Awaitable[NodeStatus]],
    *,
    over_tcp: bool,
) -> None:
    try:
        async with asyncio.timeout(SCRAPE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            if over_tcp and not _is_meant(head):  # no browser opens a Unix socket
                writer.write(_response("421 Misdirected Request", b"Ask for localhost.\n"))
            else:
                writer.write(await _answer(head, status))
            await writer.drain()
            writer.write_eof()
            await reader.read()  # until it has read all and leaves
    except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
        pass  # it left, says nothing, or without end
    finally:
        writer.close()


def _is_meant(head: bytes) -> bool:
    return all(_OF_THIS_MACHINE.fullmatch(host.strip()) for host in _HOST.findall(head))


async def _answer(head: bytes, status: Callable[[], Awaitable[NodeStatus]]) -> bytes:
    request = head.partition(b"\r\n")[0].split(b" ")
    if len(request) != 3 or not request[2].startswith(b"HTTP/1."):  # noqa: PLR2004  RFC 9112 §3
        return _response("400 Bad Request", b"This is no HTTP/1.1 request.\n")
    method, target, _ = request
    if target.partition(b"?")[0] != b"/metrics":
        return _response("404 Not Found", b"The metrics are at /metrics.\n")
    if method not in {b"GET", b"HEAD"}:
        return _response("405 Method Not Allowed", b"Only GET and HEAD.\n", "Allow: GET, HEAD\r\n")
    page = _response("200 OK", exposition(await status()), kind=CONTENT_TYPE)
    return page if method == b"GET" else page.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _response(outcome: str, body: bytes, more: str = "", kind: str = _TEXT) -> bytes:
    head = (
        f"HTTP/1.1 {outcome}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
