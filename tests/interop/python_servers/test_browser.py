"""Chromium opens an application's page by HTTP/2, and its script's WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.interop.python_servers.conftest import NAMES
from tests.interop.test_chromium import Demo, chromium, trust

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.python_servers.conftest import Start

APP = '''
import asyncio

# The page has loaded when its last script has, and that waits for the WebSocket.
PAGE = b"""<!doctype html><p id=version>%s</p><p id=heard></p><script>
const socket = new WebSocket("wss://" + location.host + "/");
socket.onmessage = event => {
  document.getElementById("heard").textContent = event.data;
  socket.send("thanks");
};
</script><script src=/late.js></script>"""
thanked = asyncio.Event()

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "heard by " + scope["scheme"]})
        await receive()
        thanked.set()
    elif scope["type"] == "http":
        script = scope["path"] == "/late.js"
        if script:
            await thanked.wait()
        headers = [(b"content-type", b"text/javascript" if script else b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"" if script else PAGE % scope["http_version"].encode()
        await send({"type": "http.response.body", "body": body})
    else:
        raise NotImplementedError
'''


def test_a_page_and_its_websocket(serve_app: Start, root: Path, tmp_path: Path):
    (tmp_path / "page.py").write_text(APP)
    trust(str(root), tmp_path)
    with serve_app("page:app", folder=tmp_path) as program:
        demo = Demo(f"127.0.0.1:{program.port}", str(root))
        with chromium(demo, tmp_path, f"https://{NAMES[0]}/") as browser:
            browser.communicate(timeout=50)
    page = (tmp_path / "page").read_text()
    assert '<p id="version">2</p>' in page
    assert '<p id="heard">heard by wss</p>' in page
