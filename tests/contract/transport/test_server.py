"""What ``start_server`` does with clients whose TLS does not stand, and how many it takes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from centcert import HostName, Provider, ServerLimits, TlsTransport, start_server
from centcert.errors import (
    HandshakeFailed,
    HelloRefused,
    NoServerName,
    Overloaded,
    StoreUnavailable,
    UnknownName,
)
from centcert.frontend.events import (
    Accepted,
    Closed,
    Full,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.stores import MemoryStore
from centcert.testing import FaultyStore
from tests.contract.transport.conftest import InProcess, Whole, count
from tests.visitor import NAME, Alerted, Cut, Visitor, ask_again

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from centcert.frontend.events import Event


class Rig:
    """A server over a store that fails when told to."""

    def __init__(self, pem: bytes) -> None:
        self.files = MemoryStore()
        self.files.put(f"{NAME}.pem", pem)
        self.store = FaultyStore(self.files)
        self.events: list[Event] = []
        self.made: list[Whole] = []
        self.address: tuple[str, int]

    def protocol(self) -> Whole:
        self.made.append(Whole())
        return self.made[-1]

    @asynccontextmanager
    async def serve(
        self, limits: ServerLimits | None = None, default_name: HostName | None = None
    ) -> AsyncIterator[None]:
        async with asyncio.timeout(20), Provider(self.store, decoder=InProcess()) as provider:
            server = await start_server(
                self.protocol,
                provider,
                "127.0.0.1",
                0,
                alpn=["h2"],
                limits=limits,
                default_name=default_name,
                listener=self.events.append,
            )
            self.address = server.sockets[0].getsockname()
            yield
            server.close()
            for protocol in self.made:
                protocol.transport.abort()
            await self.until(lambda: count(self.events, Closed) == count(self.events, Accepted))

    async def until(self, condition: object) -> None:
        assert callable(condition)
        while not condition():
            await asyncio.sleep(0.002)

    def refusal(self) -> Exception:
        (refused,) = [event for event in self.events if isinstance(event, HandshakeRefused)]
        return refused.error


@pytest.fixture
def rig(pem: bytes) -> Rig:
    return Rig(pem)


async def test_the_steps_are_told_in_order(rig: Rig):
    async with rig.serve():
        client = await Visitor.arrive(rig.address, alpn=[b"h2"])
        await rig.until(lambda: rig.made)
        assert isinstance(rig.made[0].transport, TlsTransport)
        client.leave()
        await rig.made[0].called("lost")
    kinds = [Accepted, HelloRead, ServerHelloSent, HandshakeDone, Closed]
    assert [type(event) for event in rig.events] == kinds
    assert {getattr(event, "connection", None) for event in rig.events} == {1}
    (done,) = [event for event in rig.events if isinstance(event, HandshakeDone)]
    assert (done.name, done.key, done.version, done.alpn) == (NAME, f"{NAME}.pem", "TLSv1.3", "h2")


async def test_a_hello_that_is_asked_for_again_is_answered_once(rig: Rig):
    """Guards: the HelloRetryRequest was told as a ServerHello, and so was the real one."""
    async with rig.serve():
        await ask_again(rig.address, NAME)
        await rig.until(lambda: count(rig.events, Closed))
    assert count(rig.events, ServerHelloSent) == 1
    assert count(rig.events, HandshakeDone) == 1


async def refused(rig: Rig, name: str | None, alpn: bytes = b"h2") -> str:
    client = await Visitor.connect(rig.address, name, alpn=[alpn])
    with pytest.raises(Alerted) as alerted:
        await client.handshake()
    client.leave()
    await rig.until(lambda: count(rig.events, Closed) == count(rig.events, Accepted))
    assert not rig.made
    return str(alerted.value)


async def test_a_client_that_names_nobody(rig: Rig):
    async with rig.serve():
        assert "missing extension" in await refused(rig, None)
    assert isinstance(rig.refusal(), NoServerName)


async def test_a_client_that_asks_for_an_unknown_name(rig: Rig):
    async with rig.serve():
        assert "unrecognized name" in await refused(rig, "nobody.example")
    assert isinstance(rig.refusal(), UnknownName)


async def test_a_client_that_speaks_none_of_the_protocols(rig: Rig):
    async with rig.serve():
        assert "no application protocol" in await refused(rig, NAME, b"imap")
    assert isinstance(rig.refusal(), HelloRefused)


async def test_a_store_that_is_away(rig: Rig):
    rig.store.fail()
    async with rig.serve():
        assert "internal error" in await refused(rig, NAME)
    assert isinstance(rig.refusal(), StoreUnavailable)


@pytest.mark.parametrize("asked", [None, "nobody.example", "192.0.2.1"])
async def test_the_default_name_answers_for_what_is_unknown(rig: Rig, asked: str | None):
    async with rig.serve(default_name=HostName.parse(NAME)):
        client = await Visitor.arrive(rig.address, asked)
        await rig.until(lambda: rig.made and "made" in rig.made[0].calls)
        assert rig.made[0].transport.get_extra_info("server_name") == NAME
        client.leave()


async def test_a_client_for_whom_no_protocol_can_be_made_is_let_go(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    def protocol() -> Whole:
        raise LookupError

    monkeypatch.setattr(rig, "protocol", protocol)
    async with rig.serve():
        client = await Visitor.arrive(rig.address)
        with pytest.raises((Cut, ConnectionError)):
            await client.receive()
        await rig.until(lambda: count(rig.events, Closed) == 1)
    assert [type(fault["exception"]) for fault in faults] == [LookupError]


async def test_words_that_are_no_tls(rig: Rig):
    async with rig.serve():
        client = await Visitor.connect(rig.address)
        await client.send_raw(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.receive_raw_all())[:2] == b"\x15\x03"  # an alert
        client.leave()
    assert isinstance(rig.refusal(), HelloRefused)


async def test_a_handshake_that_takes_too_long(rig: Rig):
    async with rig.serve(ServerLimits(handshake_s=0.05)):
        client = await Visitor.connect(rig.address)
        with pytest.raises((Cut, ConnectionError)):
            await client.receive()
        client.leave()
    assert isinstance(rig.refusal(), HandshakeFailed)


async def test_one_client_more_than_may_be_is_turned_away(rig: Rig):
    async with rig.serve(ServerLimits(connections=2)):
        first, second = [await Visitor.arrive(rig.address) for _ in range(2)]
        third = await Visitor.connect(rig.address)
        with pytest.raises((Cut, ConnectionError)):
            await third.handshake()
        third.leave()
        assert count(rig.events, Full) == 1
        first.leave()
        await rig.made[0].called("lost")
        await Visitor.arrive(rig.address)  # its place is free
        second.leave()


async def test_one_handshake_more_than_may_wait_is_refused(rig: Rig):
    rig.store.hold()
    async with rig.serve(ServerLimits(waiting=1)):
        waits = await Visitor.connect(rig.address)
        await waits.send_raw(waits.hello())
        await rig.until(lambda: count(rig.events, HelloRead) == 1)
        client = await Visitor.connect(rig.address)
        with pytest.raises(Alerted):
            await client.handshake()
        client.leave()
        assert isinstance(rig.refusal(), Overloaded)
        rig.store.release()
        await waits.handshake()
        await Visitor.arrive(rig.address)  # nobody waits any more
        waits.leave()


async def test_a_client_that_leaves_while_the_store_is_asked(rig: Rig):
    rig.store.hold()
    async with rig.serve(ServerLimits(waiting=1)):
        client = await Visitor.connect(rig.address)
        await client.send_raw(client.hello())
        await rig.until(lambda: count(rig.events, HelloRead) == 1)
        client.reset()
        rig.store.release()
        await rig.until(lambda: count(rig.events, Closed) == 1)
        assert not rig.made
        await Visitor.arrive(rig.address)
