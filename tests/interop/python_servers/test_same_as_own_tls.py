"""uvicorn and Hypercorn answer as with their own TLS: the same scope, headers and bodies."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.interop.python_servers.conftest import EXAMPLES, NAMES, running

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from centcert.testing import Authority

NAME = NAMES[0]

APP = """
import asyncio, json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"]["begun"] = "yes"
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    told = json.dumps({k: v for k, v in scope.items() if k != "app"}, default=str).encode()
    status = 404 if scope["path"] == "/missing" else 200
    headers = [(b"x-told", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in (told, b"\\n", body):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})
"""

REQUESTS: list[dict[str, Any]] = [
    {"method": "GET", "url": "/"},
    {"method": "GET", "url": "/a%20b/ü?q=1&q=%32", "headers": {"x-one": "1", "cookie": "a=b"}},
    {"method": "HEAD", "url": "/"},
    {"method": "GET", "url": "/missing"},
    {"method": "POST", "url": "/", "content": os.urandom(300_000).hex()},
    {"method": "DELETE", "url": "/", "headers": {"connection": "close"}},
]


async def told(port: int, trust: ssl.SSLContext, version: str) -> list[object]:
    """Ask everything; return the answers without what must differ: ports and the time."""
    answers: list[object] = []
    async with httpx.AsyncClient(
        verify=trust, http1=version == "HTTP/1.1", http2=version == "HTTP/2", timeout=20
    ) as client:
        for request in REQUESTS:
            reply = await client.request(
                **request | {"url": f"https://127.0.0.1:{port}{request['url']}"},
                extensions={"sni_hostname": NAME},
            )
            assert reply.http_version == version
            headers = [(key, value) for key, value in reply.headers.raw if key.lower() != b"date"]
            scope, _, body = reply.content.partition(b"\n")
            facts = json.loads(re.sub(rb"\b\d{4,5}\b", b"0", scope)) if scope else None
            answers.append((reply.status_code, headers, facts, body))
    return answers


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> dict[str, str]:
    """The folder of the application, with its certificate for a server's own TLS."""
    (tmp_path / "hello_asgi.py").write_text(APP)
    (tmp_path / "pem").write_bytes(authority.issue(NAME).pem())
    for name in ("uvicorn_server", "hypercorn_server"):
        (tmp_path / f"{name}.py").write_text((EXAMPLES / f"{name}.py").read_text())
    return {"pem": str(tmp_path / "pem"), "folder": str(tmp_path)}


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(
    ("server", "version"),
    [("uvicorn", "HTTP/1.1"), ("hypercorn", "HTTP/1.1"), ("hypercorn", "HTTP/2")],
)
async def test_the_answers_are_the_same(
    server: str,
    version: str,
    files: dict[str, str],
    store: Path,
    tmp_path: Path,
    trust: ssl.SSLContext,
    port: int,
    other_port: int,
):
    own, ours = port, other_port
    command = {
        "uvicorn": ("--port", str(own), "--ssl-certfile", files["pem"], "--ssl-keyfile"),
        "hypercorn": ("--bind", f"127.0.0.1:{own}", "--certfile", files["pem"], "--keyfile"),
    }[server]
    by_itself = ("-m", server, "hello_asgi:app", *command, files["pem"])
    by_store = (f"{server}_server.py", str(store), str(ours))
    with (
        running(*by_itself, port=own, folder=tmp_path),
        running(*by_store, port=ours, folder=tmp_path),
    ):
        expected = await told(own, trust, version)
        assert await told(ours, trust, version) == expected
    assert len(expected) == len(REQUESTS)
