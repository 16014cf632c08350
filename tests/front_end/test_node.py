"""A node as a whole: faults stay where they are, settings change, the loop stays free."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.admin.settings import ListenSettings, StoreSettings
from centcert.background import Background
from centcert.credential import decode
from centcert.der import INTEGER, SEQUENCE, element, fields
from centcert.errors import Overloaded, SettingsError
from centcert.frontend import Backend as To
from centcert.frontend import FrontEnd, Limits, Listener, Site, TcpAddress
from centcert.frontend.events import Closed, HandshakeRefused, HelloRead
from centcert.frontend.sockets import OpenSockets
from centcert.provider import Provider
from centcert.provider.events import Decoded
from centcert.stores import MemoryStore
from centcert.testing import Authority, FaultyStore
from tests.front_end.conftest import PATIENCE_S, Heard, echo
from tests.visitor import NAME, Alerted, Cut, Visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from centcert.credential import Credential
    from centcert.names import HostName
    from tests.front_end.conftest import Backend, Running, Serve

RSA_SITES = 20


class Node:
    """A front end over a store that can be made to fail."""

    def __init__(
        self, front_end: FrontEnd, provider: Provider, store: FaultyStore, heard: Heard
    ) -> None:
        self.front_end = front_end
        self.provider = provider
        self.store = store
        self.heard = heard

    @property
    def address(self) -> tuple[str, int]:
        return self.front_end.addresses[0]


@asynccontextmanager
async def over_faulty_store(
    to: str,
    authority: Authority,
    limits: Limits | None = None,
    provider_class: type[Provider] = Provider,
) -> AsyncIterator[Node]:
    files = MemoryStore()
    for name in (NAME, "b.example"):
        files.put(f"{name}.pfx", authority.issue(name).pfx())
    files.put("bad.example.pfx", b"bad")
    store, heard = FaultyStore(files), Heard()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(Background())
        provider = await stack.enter_async_context(provider_class(store))
        address = TcpAddress("127.0.0.1", 0)
        sockets = OpenSockets({})
        await sockets.open([address])
        stack.callback(sockets.close_but, ())
        front_end = FrontEnd(
            provider, tasks, limits=limits, listener=heard, inherited=sockets.by_address
        )
        front_end.listen([Listener(address, Site(To.parse(to)))])
        stack.push_async_callback(front_end.close, 5)
        async with asyncio.timeout(PATIENCE_S):
            yield Node(front_end, provider, store, heard)


# --- while a name is looked up ------------------------------------------------------


@pytest.mark.usefixtures("faults")
async def test_one_handshake_too_many_waits_for_the_store(backend: Backend, authority: Authority):
    async with over_faulty_store(await backend(echo), authority, Limits(waiting=1)) as node:
        node.store.hold()
        first = await Visitor.connect(node.address)
        handshake = asyncio.ensure_future(first.handshake())
        await node.store.until_fetched(1)
        second = await Visitor.connect(node.address, "b.example")
        with pytest.raises(Alerted, match="internal error"):
            await second.handshake()
        assert isinstance((await node.heard.first(HandshakeRefused)).error, Overloaded)
        node.store.release()
        await handshake
        third = await Visitor.arrive(node.address, "b.example")
        for visitor in (first, second, third):
            visitor.leave()


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("leave", ["leave", "reset"])
async def test_a_client_that_leaves_during_its_look_up(authority: Authority, leave: str):
    async with over_faulty_store("unix:/nonexistent", authority) as node:
        node.store.hold()
        visitor = await Visitor.connect(node.address)
        await visitor.send_raw(visitor.hello())
        await node.store.until_fetched(1)
        getattr(visitor, leave)()
        node.store.release()
        await node.heard.first(Closed)


@pytest.mark.usefixtures("faults")
async def test_a_look_up_that_takes_too_long(authority: Authority):
    limits = Limits(handshake_s=0.3)
    async with over_faulty_store("unix:/nonexistent", authority, limits) as node:
        node.store.hold()
        visitor = await Visitor.connect(node.address)
        with pytest.raises((Cut, ConnectionError)):
            await visitor.handshake()
        visitor.leave()
        assert "longer than 0.3 s" in str((await node.heard.first(HandshakeRefused)).error)
        node.store.release()
        await node.heard.first(Closed)


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", [NAME, "bad.example"])
async def test_the_end_of_a_look_up_and_of_the_connection_at_once(authority: Authority, name: str):
    """An answer for a connection that is being aborted is too late, and no fault."""
    async with over_faulty_store("unix:/nonexistent", authority) as node:
        node.store.hold()
        visitor = await Visitor.connect(node.address, name)
        await visitor.send_raw(visitor.hello())
        await node.store.until_fetched(1)
        for look_up in tuple(node.provider._look_ups._under_way.values()):
            look_up.add_done_callback(lambda _: abort_all(node.front_end))
        node.store.release()
        await node.heard.first(Closed)
        visitor.leave()


def abort_all(front_end: FrontEnd) -> None:
    for connection in front_end._connections:
        connection.abort()


# --- faults of our own --------------------------------------------------------------


class Wrong(Provider):
    """Has a bug at one name."""

    async def credential(self, name: HostName) -> Credential:
        if name == "b.example":
            raise TypeError("a bug")
        return await super().credential(name)


async def test_a_bug_ends_one_connection_and_nothing_else(
    backend: Backend, authority: Authority, faults: list[dict[str, object]]
):
    """Guards: an exception in a connection's task ended the whole node."""
    to = await backend(echo)
    async with over_faulty_store(to, authority, provider_class=Wrong) as node:
        visitor = await Visitor.connect(node.address, "b.example")
        with pytest.raises((Cut, ConnectionError)):
            await visitor.handshake()
        visitor.leave()
        fault = faults.pop()
        assert fault["message"] == "A connection has failed"
        assert isinstance(fault["exception"], TypeError)
        visitor = await Visitor.arrive(node.address)
        visitor.leave()


async def test_a_listener_that_raises_harms_nobody(
    serve: Serve, backend: Backend, faults: list[dict[str, object]]
):
    """Guards: what a user's hook raised ended connections and, in a task, the node."""

    async with serve(await backend(echo)) as running:

        def broken(event: object) -> None:
            Heard.__call__(running.heard, event)
            raise OSError("the log is full")

        running.heard.__class__ = type("Broken", (Heard,), {"__call__": lambda _, e: broken(e)})
        for _ in range(2):
            visitor = await Visitor.arrive(running.address)
            await visitor.send(b"x")
            assert await visitor.receive_exactly(1) == b"x"
            visitor.leave()
        running.heard.__class__ = Heard
    told = {str(fault["message"]) for fault in faults}
    assert "The listener failed at HandshakeDone" in told
    assert all(message.startswith("The listener failed at ") for message in told)
    faults.clear()


# --- settings that change -----------------------------------------------------------


def listening(to: str, *addresses: str) -> tuple[ListenSettings, ...]:
    return tuple(ListenSettings(address, to) for address in addresses)


async def until_refused(address: tuple[str, int]) -> None:
    """Wait until nobody listens there any more."""
    while True:
        try:
            (await Visitor.connect(address)).leave()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the queue of the socket that closed
            pass
        await asyncio.sleep(0.01)


async def test_listeners_come_and_go(serve: Serve, backend: Backend):
    to = await backend(echo)
    async with serve(to) as running:
        first = running.address
        stays = await Visitor.arrive(first)
        both = listening(to, "127.0.0.1:0", "[::1]:0")
        await running.node.reload(msgspec.structs.replace(running.settings, listen=both))
        assert running.address == first, "a listener that stays is not opened anew"
        second = running.node.addresses[1]
        assert second[0] == "::1"
        (await Visitor.arrive(second)).leave()
        await running.node.reload(msgspec.structs.replace(running.settings, listen=both[1:]))
        assert running.node.addresses == [second]
        await until_refused(first)
        await stays.send(b"still here")
        assert await stays.receive_exactly(10) == b"still here"
        stays.leave()


async def test_a_listener_that_stays_changes_what_it_offers(serve: Serve, backend: Backend):
    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"bye")
        writer.close()

    async with serve(await backend(echo)) as running:
        changed = listening(await backend(bye), "127.0.0.1:0")
        await running.node.reload(msgspec.structs.replace(running.settings, listen=changed))
        visitor = await Visitor.arrive(running.address)
        assert await visitor.receive_all() == b"bye"
        visitor.leave()


async def test_settings_that_cannot_be_carried_out_change_nothing(
    serve: Serve, backend: Backend, tmp_path: Path
):
    to = await backend(echo)
    async with serve(to) as running:
        replace, settings = msgspec.structs.replace, running.settings
        taken = "{}:{}".format(*running.address)
        for wrong, reason in (
            (replace(settings, listen=listening(to, "[::1]:0", taken)), "Address already in use"),
            (
                replace(settings, store=StoreSettings("gopher://x", last_good=False)),
                "No kind of store",
            ),
            (
                replace(
                    settings,
                    store=StoreSettings("/", last_good=False, key_password_files=(tmp_path,)),
                ),
                "Is a directory",
            ),
            (
                replace(
                    settings,
                    store=StoreSettings(str(tmp_path), last_good=False),
                    listen=listening(to, "192.0.2.1:1"),
                ),
                "Cannot assign requested address",
            ),
        ):
            with pytest.raises(SettingsError, match=reason):
                await running.node.reload(wrong)
            assert len(running.node.addresses) == 1
            (await Visitor.arrive(running.address)).leave()


APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the application"})
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ASGI application that can be imported."""
    (tmp_path / "node_app.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    return "node_app:app"


async def ask_app(address: tuple[str, int]) -> bytes:
    visitor = await Visitor.arrive(address)
    await visitor.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await visitor.receive_all()
    visitor.leave()
    return said


async def test_an_address_goes_to_an_application_and_back(serve: Serve, backend: Backend, app: str):
    """Guards: each side bound the address for itself, while the other still had it."""
    to = await backend(echo)
    async with serve(to) as running:
        address, replace = running.address, msgspec.structs.replace
        relayed = await Visitor.arrive(address)
        by_app = replace(running.settings, listen=(ListenSettings("127.0.0.1:0", app=app),))
        await running.node.reload(by_app)
        assert running.node.addresses == [address], "it stayed open"
        assert b"the application" in await ask_app(address)
        await running.node.reload(running.settings)
        assert running.node.addresses == [address]
        visitor = await Visitor.arrive(address)
        for one in (relayed, visitor):
            await one.send(b"echo")
            assert await one.receive_exactly(4) == b"echo"
            one.leave()
    await until_refused(address)


async def test_settings_that_cannot_be_carried_out_close_and_start_nothing(
    serve: Serve, backend: Backend, app: str
):
    """Guards: listeners were closed and opened again, on another port if the kernel chose it."""
    async with serve(await backend(echo)) as running, serve(await backend(echo)) as other:
        before = running.node.addresses
        taken = "{}:{}".format(*other.address)
        for listen in (
            (ListenSettings(taken, app=app),),
            (ListenSettings("[::1]:0", app=app), ListenSettings(taken, "127.0.0.1:1")),
            (ListenSettings("[::1]:0", app=app), ListenSettings("127.0.0.2:0", app="no_app:app")),
        ):
            with pytest.raises(SettingsError):
                await running.node.reload(msgspec.structs.replace(running.settings, listen=listen))
            assert running.node.addresses == before
            assert not running.node._entrance._applications._running
            assert set(running.node._entrance._sockets.by_address) == {TcpAddress("127.0.0.1", 0)}
            (await Visitor.arrive(running.address)).leave()


async def test_the_limit_of_connections_is_the_nodes(serve: Serve, backend: Backend, app: str):
    """Guards: each listener of an application had a limit of its own."""
    async with serve(await backend(echo), connections=2) as running:
        listen = (
            *running.settings.listen,
            ListenSettings("127.0.0.2:0", app=app),
            ListenSettings("127.0.0.3:0", app=app),
        )
        await running.node.reload(msgspec.structs.replace(running.settings, listen=listen))
        relayed, one, other = running.node.addresses
        for full in ((relayed, one), (one, other), (other, relayed)):
            inside = [await Visitor.arrive(address) for address in full]
            for address in (relayed, one, other):
                visitor = await Visitor.connect(address)
                with pytest.raises((Cut, ConnectionError)):
                    await visitor.handshake()
                visitor.leave()
            assert (await running.node.status()).connections == 2
            for visitor in inside:
                visitor.leave()
            while (await running.node.status()).connections:
                await asyncio.sleep(0.001)


async def test_another_store(serve: Serve, backend: Backend, authority: Authority, tmp_path: Path):
    (tmp_path / "new.example.pfx").write_bytes(authority.issue("new.example").pfx())
    async with serve(await backend(echo)) as running:
        (await Visitor.arrive(running.address)).leave()
        moved = msgspec.structs.replace(
            running.settings, store=StoreSettings(str(tmp_path), last_good=False)
        )
        await running.node.reload(moved)
        (await Visitor.arrive(running.address, "new.example")).leave()
        visitor = await Visitor.connect(running.address)
        with pytest.raises(Alerted):
            await visitor.handshake()
        visitor.leave()


@pytest.mark.usefixtures("faults")
async def test_a_look_up_goes_on_in_the_new_store(backend: Backend, authority: Authority):
    """Guards: first visits during a reload were refused with an internal error."""
    async with over_faulty_store(await backend(echo), authority) as node, AsyncExitStack() as stack:
        files = MemoryStore()
        files.put(f"{NAME}.pfx", authority.issue(NAME).pfx())
        provider = Provider(files)
        await stack.enter_async_context(provider)
        node.store.hold()
        visitor = await Visitor.connect(node.address)
        handshake = asyncio.ensure_future(visitor.handshake())
        await node.store.until_fetched(1)
        old, node.front_end.provider = node.provider, provider
        await old.__aexit__(None, None, None)
        await handshake
        visitor.leave()
        await node.front_end.close(5)


# --- the end ------------------------------------------------------------------------


async def test_connections_finish_within_the_grace(serve: Serve, backend: Backend):
    async with serve(await backend(echo), grace=30.0) as running:
        visitor = await Visitor.arrive(running.address)
        address = running.address

        async def finish() -> None:
            await until_refused(address)
            await visitor.send(b"last words")
            assert await visitor.receive_exactly(10) == b"last words"
            visitor.leave()

        finishing = asyncio.ensure_future(finish())
    await finishing


async def test_what_does_not_finish_is_ended_after_the_grace(serve: Serve, backend: Backend):
    async with serve(await backend(echo), grace=0.1) as running:
        visitor = await Visitor.arrive(running.address)
        await running.heard.first(HelloRead)
    with pytest.raises((Cut, ConnectionError)):
        await visitor.receive()
    visitor.leave()


# --- the event loop -----------------------------------------------------------------


def cpu_s_of_decoding(data: bytes) -> float:
    began = time.process_time()
    decode(data, key="0.example.pfx", passwords=())
    return time.process_time() - began


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_first_visits_leave_the_loop_free(
    serve: Serve,
    backend: Backend,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Decoding holds the interpreter's lock, so a thread is no help.

    These files take long: one without MAC is left to the library, which proves the primes of
    its key.

    Counted in the CPU time of this process, which waits for nobody: a busy machine does
    not count, a child process does not, and a thread that holds the lock does.
    """
    names = [f"{number}.example" for number in range(RSA_SITES + 1)]
    (body,) = fields(authority.issue(*names, key_type="rsa-2048").pfx(), SEQUENCE)
    version, auth_safe, _mac = fields(body)
    data = element(SEQUENCE, element(INTEGER, version), element(SEQUENCE, auth_safe))
    for name in names:
        (tmp_path / f"{name}.pfx").write_bytes(data)
    decoding_s = min(cpu_s_of_decoding(data) for _ in range(3))
    longest_s = 0.0
    run = asyncio.Handle._run

    def timed_run(handle: asyncio.Handle) -> None:
        nonlocal longest_s
        began = time.process_time()
        run(handle)
        longest_s = max(longest_s, time.process_time() - began)

    async def visit(running: Running, name: str) -> None:
        (await Visitor.arrive(running.address, name)).leave()

    async with serve(await backend(echo), url=tmp_path) as running:
        await visit(running, names.pop())  # imports and tables
        gc.collect()
        gc.disable()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.Handle, "_run", timed_run)
                began = time.process_time()
                await asyncio.gather(*(visit(running, name) for name in names))
                took_s = time.process_time() - began
        finally:
            gc.enable()
    assert len(running.heard.of(Decoded)) == RSA_SITES + 1
    assert longest_s < 0.75 * decoding_s, "one callback took as long as a decoding"
    assert took_s < 0.5 * decoding_s * RSA_SITES, "each first visit took half as long as a decoding"
