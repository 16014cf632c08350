"""Whom a listener answers, with which site, and how it refuses."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from centcert.errors import Alert, HandshakeFailed, UnknownName
from centcert.frontend.events import (
    Accepted,
    Closed,
    Full,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.tls.hello import alert_record
from tests.front_end.conftest import echo
from tests.visitor import NAME, TLS_1_2, Alerted, Cut, Visitor, ask_again, reset

if TYPE_CHECKING:
    from tests.front_end.conftest import Backend, Serve

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


def name_of(visitor: Visitor) -> str:
    """Return the name that the certificate which came is for."""
    leaf = visitor.tls.get_peer_certificate(as_cryptography=True)
    assert leaf is not None
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    del reader
    writer.write(text)
    writer.close()


@pytest.fixture
async def two(backend: Backend) -> tuple[str, str]:
    """The addresses of two backends that say ``one`` and ``two``."""
    one = await backend(lambda reader, writer: greeting(reader, writer, b"one"))
    two = await backend(lambda reader, writer: greeting(reader, writer, b"two"))
    return one, two


# --- the steps -----------------------------------------------------------------------


async def test_a_hello_that_is_asked_for_again_is_answered_once(serve: Serve, backend: Backend):
    """Guards: the HelloRetryRequest was told as a ServerHello, and so was the real one."""
    async with serve(await backend(echo)) as running:
        await ask_again(running.address, NAME)
        await running.heard.first(HandshakeDone)
        await running.heard.first(Closed)
    assert len(running.heard.of(ServerHelloSent)) == 1


# --- the name -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (NAME, NAME),
        (NAME.upper(), NAME),
        ("a.tenants.example", "*.tenants.example"),
        ("B.Tenants.Example", "*.tenants.example"),
    ],
)
async def test_a_name_gets_its_certificate(
    serve: Serve, backend: Backend, asked: str, answered: str
):
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.arrive(running.address, asked)
        assert name_of(visitor) == answered
        visitor.leave()
    assert running.heard.of(HelloRead)[0].name == asked.lower()


@pytest.mark.parametrize(
    ("asked", "alert"),
    [
        ("nobody.contoso.example", b"unrecognized name"),
        ("tenants.example", b"unrecognized name"),
        ("a.b.tenants.example", b"unrecognized name"),
        ("192.0.2.1", b"unrecognized name"),
        ("_.tenants.example", b"unrecognized name"),
        ("..\\..\\etc", b"unrecognized name"),
    ],
)
@pytest.mark.parametrize("highest", [None, TLS_1_2], ids=["TLS 1.3", "TLS 1.2"])
async def test_a_name_without_a_file_is_refused_with_alert_112(
    serve: Serve, asked: str, alert: bytes, highest: int | None
):
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address, asked, highest=highest)
        with pytest.raises(Alerted) as refused:
            await visitor.handshake()
        assert alert.decode() in str(refused.value)
        visitor.leave()
    assert not running.heard.of(HandshakeDone)
    (told,) = running.heard.of(HandshakeRefused)
    assert (told.asked, told.error.alert) == (asked, Alert.UNRECOGNIZED_NAME)
    assert told.client == running.heard.of(Accepted)[0].client


async def test_the_client_is_told_by_its_address(serve: Serve):
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address, None)
        host, port = visitor.socket.getsockname()
        assert (await running.heard.first(Accepted)).client == f"{host}:{port}"
        visitor.leave()


async def test_no_name_is_refused_with_alert_109(serve: Serve):
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address, None)
        with pytest.raises(Alerted, match="missing extension"):
            await visitor.handshake()
        visitor.leave()
    (told,) = running.heard.of(HandshakeRefused)
    assert told.asked is None


@pytest.mark.parametrize("asked", [None, "nobody.contoso.example", "192.0.2.1"])
async def test_the_default_name_brings_its_site_with_it(
    serve: Serve, two: tuple[str, str], asked: str | None
):
    """Guards: its certificate came with the backend and the protocol of the name asked for."""
    sites = [
        {"name": "*.contoso.example", "to": two[0], "alpn": ["http/1.1"]},
        {"name": "any.tenants.example", "to": two[1], "alpn": ["h2"]},
    ]
    async with serve(two[0], default_name="any.tenants.example", sites=sites) as running:
        visitor = await Visitor.arrive(running.address, asked, alpn=[b"http/1.1", b"h2"])
        assert name_of(visitor) == "*.tenants.example"
        assert visitor.tls.get_alpn_proto_negotiated() == b"h2"
        assert await visitor.receive_all() == b"two"
        visitor.leave()


async def test_a_default_name_without_a_file_is_refused(serve: Serve):
    async with serve("unix:/nonexistent", default_name="default.example") as running:
        visitor = await Visitor.connect(running.address, "nobody.example")
        with pytest.raises(Alerted, match="unrecognized name"):
            await visitor.handshake()
        visitor.leave()
    assert isinstance(running.heard.of(HandshakeRefused)[0].error, UnknownName)


# --- the site -----------------------------------------------------------------------


async def test_each_site_has_its_backend_and_its_protocols(serve: Serve, two: tuple[str, str]):
    sites = [{"name": "*.tenants.example", "to": two[1], "alpn": ["h2"]}]
    async with serve(two[0], sites=sites, alpn=["http/1.1", "h2"]) as running:
        for name, said, protocol in (
            (NAME, b"one", b"http/1.1"),
            ("a.tenants.example", b"two", b"h2"),
        ):
            visitor = await Visitor.arrive(running.address, name, alpn=[b"h2", b"http/1.1"])
            assert visitor.tls.get_alpn_proto_negotiated() == protocol
            assert await visitor.receive_all() == said
            visitor.leave()
    assert [done.alpn for done in running.heard.of(HandshakeDone)] == ["http/1.1", "h2"]


async def test_protocols_without_overlap_are_refused_with_alert_120(serve: Serve):
    async with serve("unix:/nonexistent", alpn=["h2"]) as running:
        visitor = await Visitor.connect(running.address, alpn=[b"http/1.1"])
        with pytest.raises(Alerted, match="no application protocol"):
            await visitor.handshake()
        visitor.leave()


@pytest.mark.parametrize(("site", "client"), [([], [b"h2"]), (["h2"], None)])
async def test_protocols_of_one_side_alone_are_left_out(
    serve: Serve, backend: Backend, site: list[str], client: list[bytes] | None
):
    async with serve(await backend(echo), alpn=site) as running:
        visitor = await Visitor.arrive(running.address, alpn=client)
        assert visitor.tls.get_alpn_proto_negotiated() == b""
        visitor.leave()


# --- clients that do not do as they should ------------------------------------------


async def test_a_hello_in_two_segments(serve: Serve, backend: Backend):
    """As an X25519MLKEM768 hello comes: longer than a segment."""
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.connect(running.address)
        hello = visitor.hello()
        assert len(hello) > 1460
        await visitor.send_raw(hello[:1460])
        await asyncio.sleep(0.05)  # so that they are not read at once
        assert not running.heard.of(HelloRead)
        await visitor.send_raw(hello[1460:])
        await visitor.handshake()
        assert visitor.tls.get_group_name() == "X25519MLKEM768"
        visitor.leave()
    assert running.heard.of(HelloRead)[0].size == len(hello)


@pytest.mark.parametrize("sent", [b"", b"\x16", b"half"], ids=["nothing", "a byte", "half"])
async def test_a_client_that_stops_is_ended(serve: Serve, sent: bytes):
    async with serve("unix:/nonexistent", handshake_timeout=0.3) as running:
        visitor = await Visitor.connect(running.address)
        hello = visitor.hello()
        await visitor.send_raw(hello[: len(hello) // 2] if sent == b"half" else sent)
        with pytest.raises((Cut, ConnectionError)):
            await visitor.handshake()
        visitor.leave()
    (told,) = running.heard.of(HandshakeRefused)
    assert isinstance(told.error, HandshakeFailed)
    assert str(told.error) == "The handshake took longer than 0.3 s."


async def test_a_client_that_stops_after_the_server_hello_is_ended(serve: Serve):
    async with serve("unix:/nonexistent", handshake_timeout=2.0) as running:
        visitor = await Visitor.connect(running.address)
        await visitor.send_raw(visitor.hello())
        assert await visitor.receive_raw_all()
        visitor.leave()
    assert running.heard.of(HandshakeRefused)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x03\x01"]
)
async def test_a_client_that_does_not_speak_tls_gets_an_alert(serve: Serve, said: bytes):
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address)
        await visitor.send_raw(said)
        assert await visitor.receive_raw_all() == alert_record(Alert.UNEXPECTED_MESSAGE)
        visitor.leave()
    assert running.heard.of(HandshakeRefused)[0].asked is None


@pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])
async def test_a_client_that_resets_before_it_is_accepted(serve: Serve, backend: Backend):
    """Guards: it has no address any more, and the error left a connection that never ended."""
    async with serve(await backend(echo)) as running:
        for _ in range(3):  # without a pause: the loop has no time to accept them
            reset(socket.create_connection(running.address))
        (await Visitor.arrive(running.address)).leave()


async def test_a_refused_client_that_goes_on_sending_gets_its_alert(serve: Serve):
    """Closing while it sends would reset the connection, and the alert with it."""
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address, "nobody.example")
        await visitor.send_raw(visitor.hello())
        await running.heard.first(HandshakeRefused)
        for _ in range(32):
            await visitor.send_raw(bytes(65_536))
        assert await visitor.receive_raw_all() == alert_record(Alert.UNRECOGNIZED_NAME)
        visitor.leave()


async def test_a_refused_client_that_never_leaves_is_ended(serve: Serve):
    async with serve("unix:/nonexistent") as running:
        visitor = await Visitor.connect(running.address, "nobody.example")
        await visitor.send_raw(visitor.hello())
        await running.heard.first(HandshakeRefused)
        with pytest.raises(ConnectionError):
            await drip(visitor)
        visitor.leave()


async def drip(visitor: Visitor) -> None:
    while True:
        await visitor.send_raw(bytes(1024))
        await asyncio.sleep(0.01)


async def test_a_forged_record_ends_the_connection_with_its_alert(serve: Serve, backend: Backend):
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(Alerted, match="bad record mac"):
            await visitor.receive()
        visitor.leave()


# --- limits -------------------------------------------------------------------------


async def test_one_client_too_many_is_turned_away(serve: Serve, backend: Backend):
    async with serve(await backend(echo), connections=2) as running:
        first, second = [await Visitor.arrive(running.address) for _ in range(2)]
        third = await Visitor.connect(running.address)
        with pytest.raises((Cut, ConnectionError)):
            await third.handshake()
        host, port = third.socket.getsockname()
        assert (await running.heard.first(Full)).client == f"{host}:{port}"
        first.leave()
        third.leave()
        for _ in range(100):
            fourth = await Visitor.connect(running.address)
            try:
                await fourth.handshake()
            except (Cut, ConnectionError):
                await asyncio.sleep(0.02)
            else:
                break
        await fourth.send(b"x")
        assert await fourth.receive_exactly(1) == b"x"
        fourth.leave()
        second.leave()
