"""What passes between client and backend, and every way in which either leaves."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from centcert.frontend.connection import ClientConnection
from centcert.frontend.events import BackendFailed, Closed, HandshakeDone
from tests.front_end.conftest import echo
from tests.visitor import NAME, TLS_1_2, Cut, Visitor, reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from OpenSSL import SSL

    from tests.front_end.conftest import Backend, Serve

CHUNK = bytes(65_536)
ENDLESS = 64 * 1024 * 1024
HELD_ON_THE_WAY = 24 * 1024 * 1024
"""More than the sockets and buffers between two ends may hold; much less than ENDLESS."""


async def test_bytes_pass_both_ways(serve: Serve, backend: Backend):
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.arrive(running.address)
        for size in (1, 16_385, 300_000):
            data = bytes(range(256)) * (size // 256 + 1)
            sending = asyncio.ensure_future(visitor.send(data))
            assert await visitor.receive_exactly(len(data)) == data
            await sending
        await visitor.close_notify()
        assert await visitor.receive_all() == b""
        visitor.leave()
    done = running.heard.of(HandshakeDone)[0]
    assert (done.name, done.key, done.version) == (NAME, f"{NAME}.pfx", "TLSv1.3")
    assert (done.group, done.alpn) == ("X25519MLKEM768", None)


async def test_a_unix_socket_as_backend(serve: Serve, tmp_path: Path):
    server = await asyncio.start_unix_server(echo, tmp_path / "app.sock")
    async with server, serve(f"unix:{tmp_path}/app.sock") as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"hello")
        assert await visitor.receive_exactly(5) == b"hello"
        visitor.leave()


async def test_data_in_the_same_segment_as_finished(serve: Serve, backend: Backend):
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.connect(running.address)
        visitor.flush, flush = held_back, visitor.flush  # type: ignore[method-assign]
        await visitor.send_raw(visitor.hello())
        await visitor.handshake()
        visitor.flush = flush  # type: ignore[method-assign]
        visitor.tls.sendall(b"early")
        visitor.tls.shutdown()
        await visitor.flush()
        assert await visitor.receive_all() == b"early"
        visitor.leave()


async def held_back() -> None:
    """Leave what TLS has to send for later."""


# --- a client that ends first -------------------------------------------------------


async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"got " + await reader.read())
    writer.close()


@pytest.mark.parametrize("half_closes", [False, True], ids=["open", "half closed"])
async def test_a_client_that_said_all_still_gets_the_answer(
    serve: Serve, backend: Backend, *, half_closes: bool
):
    """RFC 8446 §6.1: close_notify ends one direction; FIN after it changes nothing."""
    async with serve(await backend(answer_at_the_end)) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"all")
        await visitor.close_notify()
        if half_closes:
            visitor.fin()
        assert await visitor.receive_all() == b"got all"
        visitor.leave()


@pytest.mark.parametrize("way", ["leave", "reset"])
async def test_a_client_that_just_leaves_is_an_end_for_the_backend(
    serve: Serve, backend: Backend, way: str
):
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.readexactly(4)
        writer.write(b"!")
        got.set_result(start + await reader.read())
        writer.close()

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"some")
        assert await visitor.receive_exactly(1) == b"!"
        getattr(visitor, way)()
        assert await got == b"some"


# --- a backend that ends first ------------------------------------------------------


async def test_a_backend_that_said_all_still_hears(serve: Serve, backend: Backend):
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        assert await visitor.receive_all() == b"bye"
        assert await visitor.receive_raw_all() == b"", "TCP has ended too"
        await visitor.send(b"more")
        await visitor.close_notify()
        assert await got == b"more"
        await running.heard.first(Closed)
        visitor.leave()


@contextlib.contextmanager
def hasty(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a backend that acts as it accepts, not when the node's loop has time."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    act(listener.accept()[0])

        thread.submit(accept)
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            listener.shutdown(socket.SHUT_RDWR)


async def test_a_backend_that_speaks_as_it_accepts(serve: Serve):
    """Guards: under uvloop the first words can come before the task that connects goes on."""

    def speak(accepted: socket.socket) -> None:
        with accepted:
            accepted.sendall(b"220 ready\r\n")

    with hasty(speak) as to:
        async with serve(to) as running:
            for _ in range(50):
                visitor = await Visitor.arrive(running.address)
                assert await visitor.receive_all() == b"220 ready\r\n"
                visitor.leave()


async def test_a_backend_that_resets_as_it_accepts(serve: Serve):
    """Guards: the relay began on a lost connection and the error ended the node."""
    with hasty(reset) as to:
        async with serve(to) as running:
            for _ in range(50):
                visitor = await Visitor.arrive(running.address)
                with pytest.raises((Cut, ConnectionError)):
                    await visitor.receive()
                visitor.leave()


async def test_a_backend_that_resets_in_the_middle(serve: Serve, backend: Backend):
    """The client must not take a part for the whole: no close_notify."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"half")
        await writer.drain()
        await reader.readexactly(2)
        reset_by(writer)

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"go")
        assert await visitor.receive_exactly(4) == b"half"
        await visitor.send(b"on")
        with pytest.raises(Cut):
            await visitor.receive()
        failed = await running.heard.first(BackendFailed)
        assert failed.reason == "Connection reset by peer"
        visitor.leave()


def reset_by(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def test_a_backend_that_answers_early_and_leaves(serve: Serve, backend: Backend):
    """A refusal such as 413 reaches a client that is still sending: no reset throws it away."""
    leave = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"413 too large")
        await leave.wait()
        reset_by(writer)

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(CHUNK)
        assert await visitor.receive_exactly(13) == b"413 too large"
        leave.set()
        await running.heard.first(BackendFailed)
        for _ in range(32):
            await visitor.send(CHUNK)
        with pytest.raises(Cut):
            await visitor.receive()
        visitor.leave()


async def test_a_backend_that_is_down(serve: Serve):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        to = "{}:{}".format(*gone.getsockname())
    async with serve(to) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"hello?")
        with pytest.raises(Cut):
            await visitor.receive()
        visitor.leave()
        failed = await running.heard.first(BackendFailed)
        assert (failed.name, failed.backend, failed.reason) == (NAME, to, "Connection refused")


@pytest.mark.parametrize("to", ["unix:/nonexistent/app.sock", "nowhere.invalid:80"])
async def test_a_backend_that_does_not_exist(serve: Serve, to: str):
    async with serve(to) as running:
        visitor = await Visitor.arrive(running.address)
        with pytest.raises(Cut):
            await visitor.receive()
        visitor.leave()
        failed = await running.heard.first(BackendFailed)
        assert failed.reason in {
            "No such file or directory",
            "Name or service not known",
            "Temporary failure in name resolution",
        }


async def reset_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    reset_by(writer)


async def test_a_client_that_has_ended_is_let_go_when_its_backend_fails(
    serve: Serve, backend: Backend
):
    """Guards: its end had come before, and it was waited for until it had been idle for long."""
    with full_backlog() as never_accepts:
        for to in (never_accepts, await backend(reset_at_the_end)):
            async with serve(to, connect_timeout=0.3) as running:
                visitor = await Visitor.arrive(running.address)
                await visitor.close_notify()
                visitor.fin()
                await running.heard.first(Closed)
                visitor.leave()


# --- a backend that does not accept -------------------------------------------------


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """Yield the address of a listener that lets further connections wait for ever."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield "{}:{}".format(*listener.getsockname())


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_backend_that_does_not_accept_in_time(serve: Serve):
    """Guards: the time for the handshake went on running while the backend was sought."""
    with full_backlog() as to:
        async with serve(to, handshake_timeout=1.0, connect_timeout=1.5) as running:
            visitor = await Visitor.arrive(running.address)
            with pytest.raises(Cut):
                await visitor.receive()
            visitor.leave()
            assert (await running.heard.first(BackendFailed)).reason == "not reached within 1.5 s"


async def test_the_node_ends_while_a_backend_is_sought(serve: Serve):
    with full_backlog() as to:
        async with serve(to, grace=0.05) as running:
            visitor = await Visitor.arrive(running.address)
            await running.heard.first(HandshakeDone)
    with pytest.raises((Cut, ConnectionError)):
        await visitor.receive()
    visitor.leave()


# --- the slower one sets the pace ---------------------------------------------------


class Progress:
    """Counts bytes, and knows when there are no more for now."""

    def __init__(self) -> None:
        self.total = 0

    async def stalled(self) -> int:
        """Wait until nothing has passed for half a second; return what had until then."""
        seen = -1
        while seen != self.total:
            seen = self.total
            await asyncio.sleep(0.5)
        return seen


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_slow_reader_stops_the_backend(serve: Serve, backend: Backend):
    sent = Progress()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        while sent.total < ENDLESS:
            writer.write(CHUNK)
            await writer.drain()
            sent.total += len(CHUNK)
        writer.close()

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        assert await sent.stalled() < HELD_ON_THE_WAY
        received = 0
        while chunk := await visitor.receive():
            received += len(chunk)
        assert received == ENDLESS
        visitor.leave()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_slow_backend_stops_the_client(serve: Serve, backend: Backend):
    go_on = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        received = 0
        while chunk := await reader.read(1 << 20):
            received += len(chunk)
        writer.write(str(received).encode())
        writer.close()

    sent = Progress()

    async def upload(visitor: Visitor) -> None:
        while sent.total < ENDLESS:
            await visitor.send(CHUNK)
            sent.total += len(CHUNK)
        await visitor.close_notify()

    async with serve(await backend(handler)) as running:
        visitor = await Visitor.arrive(running.address)
        uploading = asyncio.ensure_future(upload(visitor))
        assert await sent.stalled() < HELD_ON_THE_WAY
        go_on.set()
        await uploading
        assert await visitor.receive_all() == str(ENDLESS).encode()
        visitor.leave()


# --- nobody waits for ever ----------------------------------------------------------


async def test_an_idle_connection_ends_in_order(serve: Serve, backend: Backend):
    async with serve(await backend(echo), idle_timeout=0.5) as running:
        visitor = await Visitor.arrive(running.address)
        await visitor.send(b"x")
        assert await visitor.receive_all() == b"x"
        visitor.leave()


async def test_a_client_that_takes_nothing_is_idle(serve: Serve, backend: Backend):
    """Guards: closing waited for ever for a client to take what was on its way."""
    left = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(CHUNK)
                await writer.drain()
        left.set()
        writer.close()

    async with serve(await backend(handler), idle_timeout=0.5) as running:
        visitor = await Visitor.arrive(running.address)
        await left.wait()  # and it has taken nothing until then
        await running.heard.first(Closed)
        with pytest.raises((Cut, ConnectionError)):  # no close_notify: it was not all
            await visitor.receive_all()
        visitor.leave()


async def test_a_backend_that_takes_nothing_is_let_go(serve: Serve):
    """Guards: the backend's side waited for ever, and counted nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = "{}:{}".format(*listener.getsockname())
        async with serve(to, idle_timeout=0.5) as running:
            visitor = await Visitor.arrive(running.address)
            uploading = asyncio.ensure_future(forever(visitor))
            assert await visitor.receive() == b""
            uploading.cancel()
            visitor.leave()
            await running.heard.first(Closed)


async def forever(visitor: Visitor) -> None:
    while True:
        await visitor.send(CHUNK)


# --- TLS that talks for itself ------------------------------------------------------


class Sealer:
    """Seals records of a TLS 1.2 client by hand: what no TLS library would send."""

    def __init__(self, tls: SSL.Connection) -> None:
        assert tls.get_cipher_name() == "ECDHE-ECDSA-AES256-GCM-SHA384"
        master, client, server = tls.master_key(), tls.client_random(), tls.server_random()
        assert master is not None
        assert client is not None
        assert server is not None
        # The key block (RFC 5246 §6.3): two keys of 32 bytes, then two salts of 4 (RFC 5288 §3).
        seed = b"key expansion" + server + client
        block, a = b"", seed
        while len(block) < 72:
            a = hmac.digest(master, a, "sha384")
            block += hmac.digest(master, a + seed, "sha384")
        self._aead = AESGCM(block[:32])
        self._salt = block[64:68]
        self._sequence = 1  # Finished was 0

    def handshake_record(self, message: bytes) -> bytes:
        sequence = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        head = b"\x16\x03\x03"
        associated = sequence + head + len(message).to_bytes(2, "big")
        sealed = sequence + self._aead.encrypt(self._salt + sequence, message, associated)
        return head + len(sealed).to_bytes(2, "big") + sealed


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_client_that_asks_for_renegotiation_without_end(serve: Serve, backend: Backend):
    """Guards: each is refused by an alert; a client that reads none of them filled the memory."""
    async with serve(await backend(echo)) as running:
        visitor = await Visitor.connect(running.address, highest=TLS_1_2, receive_buffer=4096)
        hello = visitor.hello()
        await visitor.send_raw(hello)
        await visitor.handshake()
        sealer = Sealer(visitor.tls)
        with pytest.raises(ConnectionError):
            await send_again_and_again(visitor, sealer, hello[5:])
        visitor.leave()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_client_that_is_choked_before_its_backend_is_reached_lets_it_wait(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    """Guards: there was no backend yet that could wait, and later it filled the memory."""
    choked, sent = asyncio.Event(), Progress()
    pause_writing = ClientConnection.pause_writing

    def note_choked(connection: ClientConnection) -> None:
        choked.set()
        pause_writing(connection)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        with contextlib.suppress(ConnectionError):
            while sent.total < ENDLESS and writer.get_extra_info("peername") != filling:
                writer.write(CHUNK)
                await writer.drain()
                sent.total += len(CHUNK)
        writer.close()

    monkeypatch.setattr(ClientConnection, "pause_writing", note_choked)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        # The queue is full now: who comes next is let in when his SYN is sent again.
        socket.create_connection(listener.getsockname()) as filler,
    ):
        filling = filler.getsockname()
        async with serve("{}:{}".format(*listener.getsockname())) as running:
            visitor = await Visitor.connect(running.address, highest=TLS_1_2, receive_buffer=4096)
            hello = visitor.hello()
            await visitor.send_raw(hello)
            await visitor.handshake()
            sealer = Sealer(visitor.tls)
            asking = asyncio.ensure_future(send_again_and_again(visitor, sealer, hello[5:]))
            await choked.wait()
            asking.cancel()
            async with await asyncio.start_server(handler, sock=listener):
                while sent.total == 0:
                    await asyncio.sleep(0.01)
                assert await sent.stalled() < HELD_ON_THE_WAY
                visitor.leave()
                await running.heard.first(Closed)


async def send_again_and_again(visitor: Visitor, sealer: Sealer, message: bytes) -> None:
    for _ in range(8192):
        await visitor.send_raw(b"".join(sealer.handshake_record(message) for _ in range(64)))
