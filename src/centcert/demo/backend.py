"""The demo's backend: a page that shows what TLS found out about the visitor's connection.

It learns that as any backend may: from the PROXY protocol v2 header before the request.
"""

from __future__ import annotations

import asyncio
import html
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from centcert.frontend import proxy_protocol as pp2
from centcert.names import HostName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
 :root {{ --ink: #1c2733; --quiet: #5b6b7a; --page: #eef2f5; --card: #fff }}
 @media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4eaf0; --quiet: #93a3b3; --page: #11161b; --card: #1b232b }} }}
 body {{ font: 17px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
        margin: 0 }}
 main {{ max-width: 34rem; margin: 12vh auto; background: var(--card); padding: 2.5rem 3rem;
        border-radius: .75rem; box-shadow: 0 1px 3px #0002, 0 12px 40px #0001 }}
 @media (max-width: 42rem) {{ main {{ margin: 1rem; padding: 1.5rem }} }}
 h1 {{ font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere }}
 p {{ margin: 0 0 1.5rem; color: var(--quiet) }}
 dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; margin: 0 }}
 dt {{ color: var(--quiet) }} dd {{ margin: 0; font-family: ui-monospace, monospace;
        overflow-wrap: anywhere }}
</style></head><body><main><h1>{name}</h1>
<p>This server keeps no certificate: it was read from the central store.</p>
<dl>{facts}</dl></main></body></html>
"""


@asynccontextmanager
async def backend(socket: Path) -> AsyncIterator[None]:
    """Serve the page on the Unix socket ``socket`` while the block runs."""
    server = await asyncio.start_unix_server(_answer, socket)
    async with server:
        yield


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        facts = await _read_facts(reader)
        while await reader.readuntil(b"\r\n\r\n"):
            page = _page(facts)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
                b"Cache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # the visitor has left
    finally:
        writer.close()


async def _read_facts(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read the PROXY protocol header: what there is to show, by its title."""
    start = await reader.readexactly(16)
    (length,) = struct.unpack_from("!H", start, 14)
    body = await reader.readexactly(length)
    values = dict(_values(body[12 if start[13] == pp2.TCP_OVER_IPV4 else 36 :]))
    tls = dict(_values(values.pop(pp2.PP2_TYPE_SSL)[5:]))
    titles = {
        "Name": values.get(pp2.PP2_TYPE_AUTHORITY),
        "File in the store": values.get(pp2.PP2_TYPE_STORE_KEY),
        "TLS version": tls.get(pp2.PP2_SUBTYPE_SSL_VERSION),
        "Key exchange": tls.get(pp2.PP2_SUBTYPE_SSL_GROUP),
        "Cipher": tls.get(pp2.PP2_SUBTYPE_SSL_CIPHER),
        "ALPN": values.get(pp2.PP2_TYPE_ALPN),
    }
    return {title: value.decode() for title, value in titles.items() if value is not None}


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, length = struct.unpack_from("!BH", data)
        yield kind, data[3 : 3 + length]
        data = data[3 + length :]


def _page(facts: dict[str, str]) -> bytes:
    rows = "".join(
        f"<dt>{html.escape(title)}</dt><dd>{html.escape(value)}</dd>"
        for title, value in facts.items()
    )
    name = HostName.parse(facts["Name"]).unicode
    return _PAGE.format(name=html.escape(name), facts=rows).encode()
