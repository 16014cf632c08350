"""``Application`` with real clients: HTTP/1.1, HTTP/2 and WebSockets over every name of a store."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
import websockets

from centcert import Application, Provider, start_server
from centcert.credential import decode
from centcert.frontend.events import Accepted, Closed
from centcert.stores import MemoryStore
from centcert.testing import Authority, FaultyStore

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        MutableMapping,
        Sequence,
    )

    from centcert.credential import Credential
    from centcert.frontend.events import Event
    from centcert.stores import Blob

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

Test = TypeVar("Test", bound="Callable[..., Any]")

NAME = "www.contoso.example"
MEGABYTES = os.urandom(1 << 20) * 6


class InProcess:
    """Decodes here: these tests are not about decoding."""

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        return decode(blob.data, key=blob.key, passwords=passwords)


class App:
    """Says what it is asked for, and notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while "lifespan.shutdown" not in self.said:
                self.said.append((await receive())["type"])
                await send({"type": f"{self.said[-1]}.complete"})
        elif scope["type"] == "websocket":
            await self.talk(scope, receive, send)
        else:
            await getattr(self, scope["path"][1:])(scope, receive, send)

    async def scope(self, scope: Message, _receive: Receive, send: Send) -> None:
        told = {
            key: scope[key]
            for key in (
                "scheme",
                "http_version",
                "method",
                "path",
                "client",
                "server",
                "extensions",
            )
        }
        await answer(send, json.dumps(told).encode())

    async def echo(self, _scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            self.asked.set()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def slow(self, _scope: Message, _receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.may_answer.wait()
        await answer(send, b"at last")
        self.said.append("answered")

    async def endless(self, _scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.asked.set()

        async def until_disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(until_disconnected())
            while not self.disconnected.is_set():
                await send(
                    {"type": "http.response.body", "body": bytes(100_000), "more_body": True}
                )
                await asyncio.sleep(0)

    async def talk(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        tls = scope["extensions"]["tls"]
        await send({"type": "websocket.send", "text": f"{scope['scheme']} {tls['tls_version']:x}"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        self.said.append("websocket closed")


async def answer(send: Send, body: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Served:
    """An application that is served, and what a test turns and looks at."""

    def __init__(self, authority: Authority, grace_s: float) -> None:
        self.app = App()
        self.authority = authority
        self.files = MemoryStore()
        self.store = FaultyStore(self.files)
        self.put(NAME)
        self.application = Application(self.app, grace_s=grace_s)
        self.events: list[Event] = []
        self.address: tuple[str, int]

    @property
    def trust(self) -> ssl.SSLContext:
        """A client's context: each client sets its own protocols in it."""
        return ssl.create_default_context(cadata=self.authority.root_pem.decode())

    def put(self, name: str) -> None:
        self.files.put(f"{name}.pem", self.authority.issue(name).pem())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with (
            asyncio.timeout(30),
            Provider(self.store, decoder=InProcess()) as provider,
            self.application as application,
        ):
            server = await start_server(
                application.protocol,
                provider,
                "127.0.0.1",
                0,
                alpn=application.alpn,
                listener=self.events.append,
            )
            self.address = server.sockets[0].getsockname()
            yield
            server.close()

    def client(self, version: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"https://{self.address[0]}:{self.address[1]}",
            verify=self.trust,
            http1=version == "HTTP/1.1",
            http2=version == "HTTP/2",
            headers={"host": NAME},
            timeout=20,
            event_hooks={"request": [ask_for_name]},
        )

    async def tls(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, ssl=self.trust, server_hostname=name)

    async def until_nobody_is_connected(self) -> None:
        def count(kind: type[Event]) -> int:
            return sum(isinstance(event, kind) for event in self.events)

        while count(Closed) < count(Accepted):
            await asyncio.sleep(0.005)


async def ask_for_name(request: httpx.Request) -> None:
    request.extensions["sni_hostname"] = NAME


@pytest.fixture
async def served(authority: Authority) -> AsyncIterator[Served]:
    served = Served(authority, grace_s=30)
    async with served.open():
        yield served


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect what the test leaves within it, with its warnings."""
    yield
    gc.collect()


def being_cancelled(test: Test) -> Test:
    """Hypercorn's own way to be cancelled makes a warning."""
    ignored = "ignore:coroutine 'TCPServer._idle_timeout' was never awaited"
    used = pytest.mark.usefixtures("collected")
    marked: Test = used(pytest.mark.filterwarnings(ignored)(test))
    return marked


versions = pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])


@versions
async def test_the_scope_tells_of_tls(served: Served, version: str):
    async with served.client(version) as client:
        reply = await client.get("/scope")
        stream = reply.extensions["network_stream"]
        connected = stream.get_extra_info("ssl_object")
        assert reply.http_version == version
        told = reply.json()
        assert told["scheme"] == "https"
        assert told["http_version"] == version.removeprefix("HTTP/")
        assert told["server"] == list(served.address)
        assert told["client"] == list(stream.get_extra_info("client_addr"))
        tls = told["extensions"]["tls"]
        assert tls["tls_version"] == 0x0304
        number = next(
            c["id"] for c in served.trust.get_ciphers() if c["name"] == connected.cipher()[0]
        )
        assert tls["cipher_suite"] == number & 0xFFFF
        der = ssl.PEM_cert_to_DER_cert(tls["server_cert"])
        assert der == connected.getpeercert(binary_form=True)
        assert tls["client_cert_chain"] == []
        assert tls["client_cert_name"] is tls["client_cert_error"] is None


def test_the_numbers_of_cipher_suites_are_right():
    from centcert.asgi import _SUITES  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    known = {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
    assert known == _SUITES


@versions
async def test_large_bodies_go_both_ways(served: Served, version: str):
    async with served.client(version) as client:
        reply = await client.post("/echo", content=MEGABYTES)
        assert hashlib.sha256(reply.content).digest() == hashlib.sha256(MEGABYTES).digest()


@versions
async def test_a_connection_is_kept_alive(served: Served, version: str):
    async with served.client(version) as client:
        told = [(await client.get("/scope")).json()["client"] for _ in range(20)]
        assert told == [told[0]] * 20
    await served.until_nobody_is_connected()


async def test_a_websocket(served: Served):
    async with websockets.connect(
        f"wss://{NAME}/",
        host=served.address[0],
        port=served.address[1],
        ssl=served.trust,
        max_size=None,
    ) as socket:
        assert await socket.recv() == "wss 304"
        for size in (0, 5, 1 << 20):
            await socket.send(MEGABYTES[:size])
            assert await socket.recv() == MEGABYTES[:size]
    await served.until_nobody_is_connected()
    assert "websocket closed" in served.app.said


@versions
async def test_a_client_that_leaves_amid_its_request(served: Served, version: str):
    async with served.client(version) as client:

        async def body() -> AsyncIterator[bytes]:
            yield b"begun"
            await served.app.asked.wait()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await client.post("/echo", content=body())
    await served.app.disconnected.wait()
    await served.until_nobody_is_connected()


@being_cancelled
@versions
async def test_a_client_that_leaves_amid_its_answer(authority: Authority, version: str):
    """Hypercorn leaves the application waiting to send, until the grace is over."""
    served = Served(authority, grace_s=0.1)
    async with served.open():
        async with served.client(version) as client, client.stream("GET", "/endless") as reply:
            async for chunk in reply.aiter_bytes():
                assert chunk
                break
        await served.app.disconnected.wait()
        await served.until_nobody_is_connected()


# --- names -------------------------------------------------------------------


async def ask(served: Served, name: str) -> bytes:
    """Fetch over a connection of its own; return the certificate that was served."""
    reader, writer = await served.tls(name)
    writer.write(f"GET /scope HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
    assert b"200 OK" in await reader.readline()
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_five_hundred_names(authority: Authority):
    served = Served(authority, grace_s=30)
    names = [f"site-{number}.contoso.example" for number in range(500)]
    for name in names:
        served.put(name)
    seen = set()
    async with served.open():
        for start in range(0, 500, 50):
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(ask(served, name)) for name in names[start : start + 50]]
            seen |= {task.result() for task in asked}  # each client has checked its name
    assert len(seen) == 500


async def test_a_slow_first_fetch_delays_nobody_else(served: Served):
    await ask(served, NAME)
    served.put("slow.contoso.example")
    served.store.hold()
    async with served.client("HTTP/2") as client:
        await client.get("/scope")
        fetched = served.store.fetched.total()
        slow = asyncio.ensure_future(ask(served, "slow.contoso.example"))
        await served.store.until_fetched(fetched + 1)
        for _ in range(10):
            await ask(served, NAME)  # a new handshake
            await client.get("/scope")  # a request on an old connection
        assert not slow.done()
        served.store.release()
        assert await slow


async def test_a_replaced_certificate_is_served_to_the_next_connection(served: Served):
    async with served.client("HTTP/1.1") as client:
        before = (await client.get("/scope")).json()["extensions"]["tls"]["server_cert"]
        first = await ask(served, NAME)
        served.put(NAME)
        while await ask(served, NAME) == first:
            await asyncio.sleep(0.01)
        # The connection that is there goes on as it began.
        after = (await client.get("/scope")).json()["extensions"]["tls"]["server_cert"]
        assert after == before


async def test_a_name_that_is_unknown_is_refused_and_meets_no_application(served: Served):
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        await asyncio.to_thread(ssl_connect, served, "nobody.example")
    await ask(served, NAME)


def ssl_connect(served: Served, name: str) -> None:
    import socket  # noqa: PLC0415

    with socket.create_connection(served.address) as plain:
        served.trust.wrap_socket(plain, server_hostname=name).close()


# --- lifespan ------------------------------------------------------------------


@versions
async def test_a_request_under_way_is_finished_before_the_lifespan_ends(
    authority: Authority, version: str
):
    served = Served(authority, grace_s=20)
    async with served.open():
        assert served.app.said == ["lifespan.startup"]
        client = served.client(version)
        asked = asyncio.ensure_future(client.get("/slow"))
        await served.app.asked.wait()
        asyncio.get_running_loop().call_later(0.2, served.app.may_answer.set)
    assert (await asked).text == "at last"
    assert served.app.said == ["lifespan.startup", "answered", "lifespan.shutdown"]
    await client.aclose()
    await served.until_nobody_is_connected()


@being_cancelled
@versions
async def test_a_request_that_takes_longer_than_the_grace_is_ended(
    authority: Authority, version: str
):
    served = Served(authority, grace_s=0.1)
    async with served.open():
        client = served.client(version)
        asked = asyncio.ensure_future(client.get("/slow"))
        await served.app.asked.wait()
    if version == "HTTP/1.1":  # uvicorn still says so
        assert (await asked).status_code == 500
    else:
        with pytest.raises(httpx.HTTPError):
            await asked
    assert served.app.said == ["lifespan.startup", "lifespan.shutdown"]
    await client.aclose()
    await served.until_nobody_is_connected()
