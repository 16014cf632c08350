"""A node in the test's own event loop, on uvloop and on asyncio's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pytest
import uvloop

from centcert.admin.settings import LimitSettings, ListenSettings, Settings, StoreSettings
from centcert.admin.units import Duration
from centcert.frontend.events import Accepted, Closed
from centcert.node import Node
from centcert.testing import Authority
from tests.visitor import NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Event = object
    Serve = Callable[..., AbstractAsyncContextManager["Running"]]
    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Backend = Callable[[Handler], Awaitable[str]]

E = TypeVar("E")

PATIENCE_S = 20.0
"""For one test. The loop would swallow what pytest-timeout raises in a callback."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    del config, item
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


class Heard:
    """The events of a node, and a way to wait for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def first(self, kind: type[E], times: int = 1) -> E:
        """Wait until there were so many; return the first."""
        while len(self.of(kind)) < times:
            self._more.clear()
            await self._more.wait()
        return self.of(kind)[0]


class Running:
    """A node under test."""

    def __init__(self, node: Node, settings: Settings, heard: Heard) -> None:
        self.node = node
        self.settings = settings
        self.heard = heard

    @property
    def address(self) -> tuple[str, int]:
        return self.node.addresses[0]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def store(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``www.contoso.example`` and the wildcard of ``tenants.example``."""
    folder = tmp_path_factory.mktemp("store")
    (folder / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    (folder / "_.tenants.example.pfx").write_bytes(authority.issue("*.tenants.example").pfx())
    return folder


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, object]]]:
    """What reached the loop's exception handler: nothing, unless the test takes it out."""
    found: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield found
    assert not found


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """``await backend(handler)``: a TCP server; returns its address."""
    servers = []

    async def backend(handler: Handler) -> str:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        servers.append(server)
        return "{}:{}".format(*server.sockets[0].getsockname())

    yield backend
    for server in servers:
        server.close()


@pytest.fixture
def serve(store: Path, faults: list[dict[str, object]]) -> Serve:
    """``serve(to, idle_timeout=…, alpn=…)``: a node; settings go where they belong.

    At the end every connection that was accepted must be over on its own, on both sides.
    """
    del faults  # but they are looked for at the end

    @asynccontextmanager
    async def serve(to: str, *, url: Path = store, **options: object) -> AsyncIterator[Running]:
        limits = {
            name: Duration(value) if isinstance(value, float) else value
            for name, value in options.items()
            if name in LimitSettings.__struct_fields__
        }
        listen = {"address": "127.0.0.1:0", "to": to}
        listen |= {name: value for name, value in options.items() if name not in limits}  # type: ignore[misc]
        settings = Settings(
            store=StoreSettings(str(url), last_good=False),
            listen=(
                msgspec.convert(listen, ListenSettings, dec_hook=lambda kind, text: kind(text)),
            ),
            limits=LimitSettings(**{"grace": Duration(5), **limits}),  # type: ignore[arg-type]
        )
        heard = Heard()
        async with Node(settings, heard) as node:
            async with asyncio.timeout(PATIENCE_S):
                yield Running(node, settings, heard)
        told = Counter(type(event) for event in heard.events)
        assert told[Accepted] == told[Closed]

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each piece with itself, until the end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
