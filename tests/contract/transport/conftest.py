"""The same server by asyncio's TLS and by Centcert's, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, cast

import pytest
import uvloop

from centcert import Provider, ServerLimits, start_server
from centcert.credential import decode
from centcert.frontend.events import Accepted, Closed
from centcert.stores import MemoryStore
from centcert.testing import Authority
from tests.visitor import NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from centcert.credential import Credential
    from centcert.frontend.events import Event
    from centcert.stores import Blob

    Listen = Callable[..., AbstractAsyncContextManager["Server"]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    del config, item
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


class InProcess:
    """Decodes here: these tests are not about decoding."""

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        return decode(blob.data, key=blob.key, passwords=passwords)


class Recorder:
    """Writes down what its transport calls; a test says what it answers."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.calls: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self.keep_open = False
        self.on_data: Callable[[], None] = lambda: None
        self.on_made: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    def _note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call or call != "data":
            self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def called(self, call: str) -> None:
        await self.until(lambda: call in self.calls)

    async def received(self, size: int) -> bytes:
        await self.until(lambda: len(self.data) >= size)
        return self.data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # not all of uvloop's are one
        self._note("made")
        self.on_made()

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._note("lost")


class Whole(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data")
        self.on_data()


class Buffered(Recorder, asyncio.BufferedProtocol):
    """With a buffer so small that a record does not fit in."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1_000)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self._note("data")
        self.on_data()


class Server:
    """Hands out the protocols it makes, in order."""

    def __init__(self, make: type[Recorder]) -> None:
        self._make = make
        self._made: asyncio.Queue[Recorder] = asyncio.Queue()
        self._all: list[Recorder] = []
        self.address: tuple[str, int]

    def __call__(self) -> asyncio.BaseProtocol:
        protocol = self._make()
        protocol.on_made = lambda: self._made.put_nowait(protocol)
        self._all.append(protocol)
        assert isinstance(protocol, asyncio.BaseProtocol)
        return protocol

    async def accepted(self) -> Recorder:
        """The next client's protocol, whose TLS stands."""
        return await self._made.get()

    @asynccontextmanager
    async def open(self, server: asyncio.Server) -> AsyncIterator[Self]:
        """Serve for so long as a test may take, and leave nothing open."""
        self.address = server.sockets[0].getsockname()
        try:
            async with asyncio.timeout(20):  # pytest's own cannot interrupt uvloop
                yield self
        finally:
            server.close()
            for protocol in self._all:
                if "made" in protocol.calls and "lost" not in protocol.calls:
                    protocol.transport.abort()
            for _ in range(10):  # what was aborted is closed in the loop's next rounds
                await asyncio.sleep(0)


def count(events: list[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in events)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def pem(authority: Authority) -> bytes:
    return authority.issue(NAME).pem()


@pytest.fixture(params=["ssl", "centcert"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whose TLS it is."""
    kind: str = request.param
    return kind


@pytest.fixture
def listen(kind: str, pem: bytes, tmp_path: Path) -> Callable[..., object]:
    @asynccontextmanager
    async def by_ssl(
        make: type[Recorder], alpn: Sequence[str], shutdown_s: float
    ) -> AsyncIterator[Server]:
        (tmp_path / "pem").write_bytes(pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "pem")
        context.set_alpn_protocols(list(alpn))
        serving = Server(make)
        server = await asyncio.get_running_loop().create_server(
            serving, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=shutdown_s
        )
        async with serving.open(server):
            yield serving

    @asynccontextmanager
    async def by_centcert(
        make: type[Recorder], alpn: Sequence[str], shutdown_s: float
    ) -> AsyncIterator[Server]:
        store = MemoryStore()
        store.put(f"{NAME}.pem", pem)
        serving = Server(make)
        events: list[Event] = []
        async with Provider(store, decoder=InProcess()) as provider:
            server = await start_server(
                serving,
                provider,
                "127.0.0.1",
                0,
                alpn=alpn,
                limits=ServerLimits(shutdown_s=shutdown_s),
                listener=events.append,
            )
            async with serving.open(server):
                yield serving
            async with asyncio.timeout(10):
                while count(events, Closed) < count(events, Accepted):
                    await asyncio.sleep(0.001)

    def listen(
        make: type[Recorder] = Whole, *, alpn: Sequence[str] = (), shutdown_s: float = 30
    ) -> AbstractAsyncContextManager[Server]:
        by = by_ssl if kind == "ssl" else by_centcert
        return by(make, alpn, shutdown_s)

    return listen
