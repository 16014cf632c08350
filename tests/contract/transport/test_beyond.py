"""What Centcert's transport does that asyncio's and uvloop's TLS do not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from tests.contract.transport.conftest import Buffered, Recorder, Whole
from tests.front_end.test_relay import Sealer, send_again_and_again
from tests.visitor import NAME, TLS_1_2, Visitor

if TYPE_CHECKING:
    from tests.contract.transport.conftest import Listen


@pytest.fixture
def kind() -> str:
    return "centcert"


@pytest.fixture
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stays silent is not waited for long."""
    monkeypatch.setattr("centcert.frontend.transport.LINGER_S", 0.2)


async def test_the_server_name_is_known(listen: Listen):
    async with listen() as server:
        await Visitor.arrive(server.address, NAME.upper())
        transport = (await server.accepted()).transport
        assert transport.get_extra_info("server_name") == NAME
        assert transport.get_extra_info("ssl_object").server_hostname == NAME
        assert f"<TlsTransport {NAME} open over" in repr(transport)


@pytest.mark.parametrize("make", [Whole, Buffered])
async def test_one_direction_ends_alone_in_tls_1_3(listen: Listen, make: type[Recorder]):
    """RFC 8446 §6.1: close_notify ends what its sender writes, and nothing else."""
    async with listen(make) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.keep_open = True
        transport = protocol.transport
        assert transport.can_write_eof()
        transport.write(b"that is all from me")
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"no, it is not")
        assert not transport.is_closing()
        assert await client.receive_all() == b"that is all from me"
        await client.send(b"but not from me")
        assert await protocol.received(15) == b"but not from me"
        transport.close()
        client.fin()
        await protocol.called("lost")
        assert protocol.error is None


async def test_a_protocol_may_go_on_writing_after_the_client_has_ended(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.keep_open = True
        await client.send(b"question")
        await client.close_notify()
        client.fin()
        await protocol.called("eof")
        for _ in range(20):
            await asyncio.sleep(0.001)
        protocol.transport.write(b"answer")
        assert await client.receive_exactly(6) == b"answer"
        protocol.transport.close()
        assert await client.receive_all() == b""
        await protocol.called("lost")
        assert protocol.calls == ["made", "data", "eof", "lost"]


async def test_tls_1_2_ends_both_directions_whatever_the_protocol_wants(listen: Listen):
    """RFC 5246 §7.2.1."""
    async with listen() as server:
        client = await Visitor.connect(server.address, highest=TLS_1_2)
        await client.handshake()
        protocol = await server.accepted()
        protocol.keep_open = True
        await client.close_notify()
        assert await client.receive_all() == b""
        await protocol.called("lost")
        assert protocol.calls == ["made", "eof", "lost"]


@pytest.mark.usefixtures("_brief")
async def test_a_client_that_has_been_told_the_end_may_stay_silent(listen: Listen):
    """It need not answer close_notify (RFC 8446 §6.1), and nobody waits long for it."""
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.transport.close()
        assert await client.receive_all() == b""
        await protocol.called("lost")
        assert protocol.error is None


async def test_a_client_that_has_ended_and_takes_no_more_is_given_up(listen: Listen):
    async with listen(shutdown_s=0.05) as server:
        client = await Visitor.connect(server.address, receive_buffer=8_192)
        await client.handshake()
        protocol = await server.accepted()
        protocol.keep_open = True
        await client.close_notify()
        await protocol.called("eof")
        protocol.transport.write(bytes(16 << 20))
        protocol.transport.close()
        await protocol.called("lost")
        assert isinstance(protocol.error, TimeoutError)
        client.leave()


async def test_an_answer_reaches_a_client_that_is_still_sending(listen: Listen):
    """A server that closes while data arrive would reset what it has just said."""
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()

        def refuse() -> None:
            protocol.on_data = lambda: None
            protocol.transport.write(b"413 Content Too Large")
            protocol.transport.close()

        protocol.on_data = refuse
        for _ in range(40):
            await client.send(b"x" * 16_384)
        assert await client.receive_all() == b"413 Content Too Large"
        client.leave()
        await protocol.called("lost")


async def test_writes_to_a_closed_transport_are_warned_of(
    listen: Listen, caplog: pytest.LogCaptureFixture
):
    async with listen() as server:
        await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.transport.abort()
        await protocol.called("lost")
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(5):
                protocol.transport.write(b"?")
            assert not caplog.records
            protocol.transport.write(b"?")
            protocol.transport.write(b"?")
            assert len(caplog.records) == 1


async def test_an_empty_buffer_of_a_protocol_is_its_fault(listen: Listen):
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with listen(Buffered) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        assert isinstance(protocol, Buffered)
        protocol.buffer = bytearray()
        await client.send(b"?")
        await protocol.called("lost")
        assert isinstance(protocol.error, RuntimeError)
        assert len(faults) == 1


async def test_a_protocol_that_fails_as_it_reads_on_is_lost(listen: Listen):
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with listen(Buffered) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.on_data = protocol.transport.pause_reading
        await client.send(bytes(2_000))
        await protocol.received(1_000)

        def fail() -> None:
            raise ZeroDivisionError

        protocol.on_data = fail
        protocol.transport.resume_reading()
        await protocol.called("lost")
        assert isinstance(protocol.error, ZeroDivisionError)
        assert len(faults) == 1


async def test_an_end_that_comes_with_the_last_words_waits_for_a_paused_protocol(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.on_data = protocol.transport.pause_reading
        client.tls.sendall(b"last words")
        client.tls.shutdown()
        await client.flush()  # both in one segment
        await protocol.received(10)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert protocol.calls == ["made", "data"]
        protocol.transport.resume_reading()
        await protocol.called("lost")
        assert protocol.calls == ["made", "data", "eof", "lost"]


@pytest.mark.usefixtures("_brief")
async def test_less_than_the_low_water_is_sent_before_the_end(listen: Listen):
    """So little that nobody was told to pause; its leaving is noticed all the same."""
    async with listen(shutdown_s=15.0) as server:
        client = await Visitor.connect(server.address, receive_buffer=4_096)
        await client.handshake()
        protocol = await server.accepted()
        transport = protocol.transport
        transport.set_write_buffer_limits(high=1 << 30, low=1 << 29)
        transport.write(bytes(8 << 20))
        assert transport.get_write_buffer_size()
        transport.close()
        assert len(await client.receive_all()) == 8 << 20
        await protocol.called("lost")  # after the silence of a client that has been told the end
        assert protocol.error is None
        assert protocol.calls == ["made", "lost"]


async def test_an_answer_reaches_a_sending_client_also_from_a_paused_protocol(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.transport.pause_reading()
        sending = asyncio.ensure_future(client.send(bytes(16 << 20)))
        await asyncio.sleep(0.05)  # by now it waits for the server to read
        assert not sending.done()
        protocol.transport.write(b"413 Content Too Large")
        protocol.transport.close()
        assert await client.receive_all() == b"413 Content Too Large"
        await sending
        client.leave()
        await protocol.called("lost")


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_client_that_makes_tls_talk_without_end_is_ended(listen: Listen):
    """Each refusal of a renegotiation is an alert; unread, they would fill the memory."""
    async with listen() as server:
        client = await Visitor.connect(server.address, highest=TLS_1_2, receive_buffer=4_096)
        hello = client.hello()
        await client.send_raw(hello)
        await client.handshake()
        protocol = await server.accepted()
        with pytest.raises(ConnectionError):
            await send_again_and_again(client, Sealer(client.tls), hello[5:])
        await protocol.called("lost")
        client.leave()
