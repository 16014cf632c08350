"""What a protocol may expect of a transport whose TLS stands, whoever made it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.contract.transport.conftest import Buffered, Recorder, Whole
from tests.visitor import NAME, TLS_1_2, Cut, Visitor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.transport.conftest import Listen

MEGABYTES = os.urandom(1 << 20) * 3

kinds = pytest.mark.parametrize("make", [Whole, Buffered])


@kinds
async def test_small_words_go_both_ways(listen: Listen, make: type[Recorder]):
    async with listen(make) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        await client.send(b"hello")
        assert await protocol.received(5) == b"hello"
        protocol.transport.write(b"good ")
        protocol.transport.write(bytearray(b"day"))
        protocol.transport.writelines([b", ", memoryview(b"you")])
        assert await client.receive_exactly(13) == b"good day, you"
        assert protocol.calls == ["made", "data"]


@kinds
async def test_megabytes_go_both_ways(listen: Listen, make: type[Recorder]):
    async with listen(make) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        await client.send(MEGABYTES)
        assert await protocol.received(len(MEGABYTES)) == MEGABYTES
        protocol.transport.write(memoryview(MEGABYTES))
        assert await client.receive_exactly(len(MEGABYTES)) == MEGABYTES


async def test_data_that_come_with_the_end_of_the_handshake_are_not_lost(listen: Listen):
    async with listen() as server:
        client = await Visitor.connect(server.address)
        await client.send_raw(client.hello())
        await client._fill()
        client.tls.do_handshake()
        await client.send(b"at once")  # in one segment with Finished
        protocol = await server.accepted()
        assert await protocol.received(7) == b"at once"
        assert protocol.calls == ["made", "data"]


async def test_the_extra_information(listen: Listen):
    async with listen(alpn=["h2", "http/1.1"]) as server:
        client = await Visitor.arrive(server.address, alpn=[b"http/1.1", b"h2"])
        transport = (await server.accepted()).transport
        assert transport.get_extra_info("peername") == client.socket.getsockname()
        assert transport.get_extra_info("sockname") == server.address
        assert transport.get_extra_info("socket").getsockname() == server.address
        assert transport.get_extra_info("sslcontext")
        assert transport.get_extra_info("compression", "?") is None
        assert transport.get_extra_info("peercert", "?") is None
        assert transport.get_extra_info("what is this", "?") == "?"
        cipher = transport.get_extra_info("cipher")
        assert cipher == (client.tls.get_cipher_name(), "TLSv1.3", client.tls.get_cipher_bits())
        tls = transport.get_extra_info("ssl_object")
        assert tls.context is transport.get_extra_info("sslcontext")
        assert tls.cipher() == cipher
        assert tls.selected_alpn_protocol() == "h2"
        assert tls.version() == "TLSv1.3"
        assert tls.compression() is None
        assert tls.getpeercert() is None
        assert tls.getpeercert(binary_form=True) is None
        assert tls.server_side is True


async def test_a_client_of_tls_1_2(listen: Listen):
    async with listen() as server:
        client = await Visitor.connect(server.address, highest=TLS_1_2)
        await client.handshake()
        protocol = await server.accepted()
        name, version, bits = protocol.transport.get_extra_info("cipher")
        assert (name, version) == (client.tls.get_cipher_name(), "TLSv1.2")
        assert bits == client.tls.get_cipher_bits()
        tls = protocol.transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.2"
        assert tls.selected_alpn_protocol() is None
        protocol.transport.write(b"old")
        assert await client.receive_exactly(3) == b"old"
        assert not protocol.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            protocol.transport.write_eof()


# --- flow control --------------------------------------------------------------


@kinds
async def test_nothing_is_given_to_a_protocol_that_has_paused(listen: Listen, make: type[Recorder]):
    async with listen(make) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        transport = protocol.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await client.send(b"x" * 5_000)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert protocol.data == b""  # not from within the call
        assert await protocol.received(5_000) == b"x" * 5_000


async def test_a_protocol_that_pauses_amid_a_record_is_given_the_rest_later(listen: Listen):
    async with listen(Buffered) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.on_data = protocol.transport.pause_reading
        sent = os.urandom(3_500)
        await client.send(sent)
        for size in (1_000, 2_000, 3_000, 3_500):
            await protocol.received(size)
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert len(protocol.data) <= size
            protocol.transport.resume_reading()
        assert protocol.data == sent


@kinds
async def test_the_end_waits_until_a_paused_protocol_reads_on(listen: Listen, make: type[Recorder]):
    async with listen(make) as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.transport.pause_reading()
        await client.send(b"last words")
        await client.close_notify()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert protocol.calls == ["made"]
        protocol.transport.resume_reading()
        await protocol.called("eof")
        assert protocol.data == b"last words"
        client.fin()
        await protocol.called("lost")


async def test_a_slow_client_pauses_the_writer_and_a_reading_one_resumes_it(listen: Listen):
    async with listen() as server:
        client = await Visitor.connect(server.address, receive_buffer=8_192)
        await client.handshake()
        protocol = await server.accepted()
        transport = protocol.transport
        transport.set_write_buffer_limits(high=100_000, low=10_000)
        assert transport.get_write_buffer_limits() == (10_000, 100_000)
        while "pause" not in protocol.calls:
            transport.write(MEGABYTES)
        assert transport.get_write_buffer_size() > 100_000
        while "resume" not in protocol.calls:
            assert await client.receive()
            await asyncio.sleep(0)
        transport.abort()
        await protocol.called("lost")
        assert protocol.calls == ["made", "pause", "resume", "lost"]


async def test_no_high_water_pauses_as_soon_as_something_waits(listen: Listen):
    async with listen() as server:
        client = await Visitor.connect(server.address, receive_buffer=8_192)
        await client.handshake()
        protocol = await server.accepted()
        protocol.transport.set_write_buffer_limits(high=0)
        assert protocol.transport.get_write_buffer_limits() == (0, 0)
        protocol.transport.write(MEGABYTES * 4)
        await protocol.called("pause")


# --- ends ----------------------------------------------------------------------


@kinds
async def test_close_sends_everything_and_close_notify(listen: Listen, make: type[Recorder]):
    async with listen(make) as server:
        client = await Visitor.connect(server.address, receive_buffer=8_192)
        await client.handshake()
        protocol = await server.accepted()
        protocol.transport.write(MEGABYTES)
        assert not protocol.transport.is_closing()
        protocol.transport.close()
        assert protocol.transport.is_closing()
        assert "lost" not in protocol.calls  # not from within the call
        assert await client.receive_all() == MEGABYTES
        await client.close_notify()
        client.fin()
        await protocol.called("lost")
        assert protocol.error is None
        assert protocol.calls.count("lost") == 1


async def test_after_close_nothing_is_received_nor_written(listen: Listen, kind: str):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        transport = protocol.transport
        transport.write(b"bye")
        transport.close()
        if kind == "centcert":  # asyncio's TLS forgets itself the second time
            transport.close()
        transport.write(b"lost")
        transport.writelines([b"lost", b"too"])
        await client.send(b"too late")
        assert await client.receive_all() == b"bye"
        await client.close_notify()
        client.fin()
        await protocol.called("lost")
        # asyncio's contract says that nothing more is received; its TLS does not keep it.
        assert protocol.data in ([b"", b"too late"] if kind == "ssl" else [b""])
        assert protocol.calls.count("lost") == 1


async def test_a_client_that_does_not_take_what_is_left_is_given_up(listen: Listen):
    async with listen(shutdown_s=0.05) as server:
        client = await Visitor.connect(server.address, receive_buffer=8_192)
        await client.handshake()
        protocol = await server.accepted()
        protocol.transport.write(MEGABYTES * 4)
        protocol.transport.close()
        await protocol.called("lost")
        assert isinstance(protocol.error, TimeoutError)
        client.leave()


async def test_abort_ends_at_once_and_without_close_notify(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.transport.abort()
        protocol.transport.abort()
        assert protocol.transport.is_closing()
        assert protocol.calls == ["made"]
        await protocol.called("lost")
        assert protocol.error is None
        with pytest.raises((Cut, ConnectionError)):
            await client.receive()
        assert protocol.calls == ["made", "lost"]


async def test_a_client_that_says_close_notify_ends_both_directions(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        await client.send(b"that is all")
        await client.close_notify()
        assert await client.receive_all() == b""
        await protocol.called("lost")
        assert protocol.error is None
        assert protocol.calls == ["made", "data", "eof", "lost"]


async def test_a_protocol_can_write_at_the_end_of_what_it_reads(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        protocol.on_data = lambda: protocol.transport.write(b"noted")
        await client.send(b"that is all")
        assert await client.receive_exactly(5) == b"noted"
        await client.close_notify()
        assert await client.receive_all() == b""
        await protocol.called("lost")


@pytest.mark.parametrize("how", ["fin", "leave", "reset"])
async def test_a_client_that_leaves_without_a_word(listen: Listen, how: str):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        await client.send(b"?")
        await protocol.received(1)
        getattr(client, how)()
        await protocol.called("lost")
        # Who leaves without having read the session's tickets resets the connection.
        reset = isinstance(protocol.error, ConnectionError)
        assert reset if how == "reset" else reset or protocol.error is None
        assert protocol.calls.count("lost") == 1
        assert protocol.transport.is_closing()
        protocol.transport.write(b"nobody is there")
        protocol.transport.close()
        protocol.transport.abort()
        assert protocol.calls.count("lost") == 1


async def test_a_forged_record_ends_the_connection(listen: Listen, kind: str):
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        await client.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        await protocol.called("lost")
        assert isinstance(protocol.error, ssl.SSLError if kind == "ssl" else ConnectionError)
        assert protocol.calls == ["made", "lost"]
    assert not faults


async def test_a_protocol_that_fails_is_lost_and_reported(listen: Listen, kind: str):
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()

        def fail() -> None:
            raise ZeroDivisionError

        protocol.on_data = fail
        await client.send(b"1/0")
        await protocol.called("lost")
        if kind == "centcert":  # uvloop's TLS tells the protocol of no error
            assert isinstance(protocol.error, ZeroDivisionError)
        assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]


# --- the rest ------------------------------------------------------------------


async def test_a_protocol_can_hand_over_amid_its_data(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        first = await server.accepted()
        second = Buffered()
        assert id(first.transport.get_protocol()) == id(first)
        first.on_data = lambda: first.transport.set_protocol(second)
        await client.send(b"upgrade")
        await first.received(7)
        assert id(first.transport.get_protocol()) == id(second)
        await client.send(b"upgraded")
        assert await second.received(8) == b"upgraded"
        assert first.data == b"upgrade"
        client.leave()
        await second.called("lost")
        assert "lost" not in first.calls


async def test_only_bytes_are_written(listen: Listen):
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        with pytest.raises(TypeError):
            protocol.transport.write("text")  # type: ignore[arg-type]
        protocol.transport.write(b"")
        protocol.transport.write(b"bytes")
        assert await client.receive_exactly(5) == b"bytes"


async def test_streams_read_write_and_end(listen: Listen):
    """asyncio's own streams are the protocol that most programs have."""
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        reader = asyncio.StreamReader()
        streams = asyncio.StreamReaderProtocol(reader)
        protocol.transport.set_protocol(streams)
        streams.connection_made(protocol.transport)
        writer = asyncio.StreamWriter(
            protocol.transport, streams, reader, asyncio.get_running_loop()
        )
        await client.send(b"one\ntwo\n")
        assert await reader.readline() == b"one\n"
        assert await reader.readline() == b"two\n"
        writer.write(b"three\n")
        await writer.drain()
        assert await client.receive_exactly(6) == b"three\n"
        await client.send(MEGABYTES)
        await client.close_notify()
        assert await reader.read() == MEGABYTES
        assert await client.receive_all() == b""
        writer.close()
        client.fin()
        await writer.wait_closed()


async def test_a_file_is_sent_by_loop_sendfile(listen: Listen, tmp_path: Path):
    """aiohttp sends its static files so. uvloop has no sendfile for any transport."""
    loop = asyncio.get_running_loop()
    (tmp_path / "file").write_bytes(MEGABYTES)
    async with listen() as server:
        client = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        with (tmp_path / "file").open("rb") as file:
            if type(loop).__module__.startswith("uvloop"):
                with pytest.raises(NotImplementedError):
                    await loop.sendfile(protocol.transport, file)
            else:
                async with asyncio.TaskGroup() as tasks:
                    received = tasks.create_task(client.receive_exactly(len(MEGABYTES)))
                    await loop.sendfile(protocol.transport, file)
                assert received.result() == MEGABYTES
        await client.send(b"and on")
        assert await protocol.received(6) == b"and on"


async def test_a_client_that_does_not_trust_the_certificate_meets_no_protocol(listen: Listen):
    async with listen() as server:

        def mistrust() -> None:
            context = ssl.create_default_context()
            with socket.create_connection(server.address) as plain:
                context.wrap_socket(plain, server_hostname=NAME)

        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(mistrust)
        trusting = await Visitor.arrive(server.address)
        protocol = await server.accepted()
        assert protocol.transport.get_extra_info("peername") == trusting.socket.getsockname()
