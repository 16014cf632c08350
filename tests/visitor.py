"""A TLS client whose every step a test decides: what it sends, reads, and how it leaves."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self

from OpenSSL import SSL

NAME = "www.contoso.example"
TLS_1_2 = SSL.TLS1_2_VERSION


class Cut(Exception):
    """The connection ended without close_notify."""


class Alerted(Exception):
    """The server sent a fatal alert; ``args[0]`` is OpenSSL's reason."""


class Visitor:
    """A client on a socket of its own; TLS is OpenSSL 4 in memory, as in the front end.

    It checks no certificate: other tests do, with clients that are made for it.
    """

    def __init__(self, sock: socket.socket, tls: SSL.Connection) -> None:
        self.socket = sock
        self.tls = tls
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        self.socket.close()  # a test that fails has left nobody properly

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        name: str | None = NAME,
        *,
        alpn: list[bytes] | None = None,
        highest: int | None = None,
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect, but say nothing yet."""
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError:
            sock.close()
            raise
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if alpn is not None:
            context.set_alpn_protos(alpn)
        if highest is not None:
            context.set_max_proto_version(highest)
        tls = SSL.Connection(context, None)
        if name is not None:
            tls.set_tlsext_host_name(name.encode())
        tls.set_connect_state()
        return cls(sock, tls)

    @classmethod
    async def arrive(
        cls, address: tuple[str, int], name: str | None = NAME, *, alpn: list[bytes] | None = None
    ) -> Self:
        """Connect and shake hands."""
        visitor = await cls.connect(address, name, alpn=alpn)
        await visitor.handshake()
        return visitor

    def hello(self) -> bytes:
        """Return the ClientHello, to be sent by ``send_raw``."""
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return self._outgoing()
        raise AssertionError("done without a server")

    async def handshake(self) -> None:
        """Shake hands, from the beginning or after ``hello``."""
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self.flush()
                await self._fill()
            except SSL.Error as error:
                raise Alerted(error.args[0][0][2]) from None
            else:
                await self.flush()
                return

    async def send(self, data: bytes) -> None:
        self.tls.sendall(data)
        await self.flush()

    async def send_raw(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        """Return some data; ``b""`` after close_notify. Raises ``Cut`` if there was none."""
        while True:
            try:
                return self.tls.recv(1 << 16)
            except SSL.WantReadError:
                await self._fill()
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise Alerted(error.args[0][0][2]) from None

    async def receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.receive()
            assert more, f"close_notify after {data!r}"
            data += more
        return data

    async def receive_all(self) -> bytes:
        """Return everything up to close_notify."""
        chunks = []
        while chunk := await self.receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def receive_raw_all(self) -> bytes:
        """Return what comes on the wire up to its end."""
        chunks = []
        while chunk := await self._loop.sock_recv(self.socket, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)

    async def close_notify(self) -> None:
        self.tls.shutdown()
        await self.flush()

    def fin(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Leave as programs do that end: no close_notify."""
        self.socket.close()

    def reset(self) -> None:
        """Leave with a reset."""
        reset(self.socket)

    async def flush(self) -> None:
        await self.send_raw(self._outgoing())

    def _outgoing(self) -> bytes:
        try:
            return self.tls.bio_read(1 << 24)
        except SSL.WantReadError:
            return b""

    async def _fill(self) -> None:
        data = await self._loop.sock_recv(self.socket, 1 << 16)
        if not data:
            raise Cut
        self.tls.bio_write(data)


def reset(sock: socket.socket) -> None:
    """Close with a reset in place of an end (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def ask_again(address: tuple[str, int], name: str) -> None:
    """Shake hands so that the server must ask for another hello (RFC 8446 §4.1.4).

    ``openssl s_client`` sends a key share of the first group alone, and the server prefers the
    second.
    """
    where, groups = f"{address[0]}:{address[1]}", "P-521:X25519"
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", where, "-servername", name, "-groups", groups),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await client.communicate()
    assert b"Server Temp Key: X25519" in said, said.decode()
