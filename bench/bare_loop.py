"""The least that a server in Python can do: an epoll loop around Centcert's own TLS sessions.

It has every certificate in memory, no limit, no deadline, and foresees no error. What it
costs is the floor under whatever is made of the same parts.

python -m bench.bare_loop PORT FOLDER [BACKEND_PORT]
"""

from __future__ import annotations

import gc
import select
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from OpenSSL import SSL

from centcert import credential as credentials
from centcert.errors import CentcertError
from centcert.tls.direct import best_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.tls.session import Session

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + bytes(16)
_READ_BYTES = 64 * 1024
_ENABLE_PARTIAL_WRITE = 0x01  # SSL_CTX_set_mode(3)


class Client:
    """One connection."""

    __slots__ = ("backend", "socket", "stands", "tls")

    def __init__(self, accepted: socket.socket, tls: Session) -> None:
        self.socket = accepted
        self.tls = tls
        self.stands = False
        self.backend: socket.socket | None = None

    def flush(self) -> None:
        """Send what OpenSSL has to send."""
        out = self.tls.outgoing()
        if out:
            self.socket.sendall(out)


class Loop:
    """Answers by itself, or relays to a backend."""

    def __init__(self, port: int, folder: Path, backend_port: int | None) -> None:
        self._sessions = best_sessions()
        self._base = _context()
        self._base.set_tlsext_servername_callback(self._choose)
        self._contexts = {file.stem.encode(): _context(file) for file in folder.glob("*.pem")}
        self._backend_port = backend_port
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._wait_for(self._listening, self._accept)

    def run(self) -> None:
        """Serve until it is killed."""
        gc.freeze()
        gc.disable()
        while True:
            for descriptor, _ in self._epoll.poll():
                ready = self._ready.get(descriptor)
                if ready is not None:  # else closed by one before it
                    ready()

    def _wait_for(self, waiting: socket.socket, ready: Callable[[], None]) -> None:
        self._ready[waiting.fileno()] = ready
        self._epoll.register(waiting.fileno(), select.EPOLLIN)

    def _choose(self, tls: SSL.Connection) -> None:
        tls.set_context(self._contexts[tls.get_servername() or b""])

    def _accept(self) -> None:
        accepted, _ = self._listening.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not for ALPN: whoever has a protocol is found by its context's callbacks.
        client = Client(accepted, self._sessions.begin(self._base, b""))
        self._wait_for(accepted, partial(self._receive, client))

    def _receive(self, client: Client) -> None:
        try:
            data = client.socket.recv(_READ_BYTES)
            if not data:
                self._close(client)
            elif client.stands:
                self._take(client, data)
            else:
                self._shake(client, data)
        except (OSError, CentcertError):
            self._close(client)

    def _shake(self, client: Client, data: bytes) -> None:
        client.stands = client.tls.handshake(data)
        client.flush()
        if not client.stands:
            return
        if self._backend_port is not None:
            client.backend = socket.create_connection(("127.0.0.1", self._backend_port))
            client.backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wait_for(client.backend, partial(self._relay, client, client.backend))
        self._take(client, b"")

    def _take(self, client: Client, data: bytes) -> None:
        plaintext = client.tls.read(data)
        if plaintext and client.backend is not None:
            client.backend.send(plaintext)
        elif plaintext:
            client.tls.write(_ANSWER)
            client.flush()
        if client.tls.ended:
            client.tls.close()
            self._close(client, farewell=client.tls.outgoing())

    def _relay(self, client: Client, backend: socket.socket) -> None:
        try:
            data = backend.recv(_READ_BYTES)
            if data:
                client.tls.write(data)
                client.flush()
                return
        except (OSError, CentcertError):
            pass
        self._close(client)

    def _close(self, client: Client, farewell: bytes = b"") -> None:
        if farewell:
            with suppress(OSError):  # it has not waited for an answer
                client.socket.send(farewell)
        for one in (client.socket, client.backend):
            if one is not None:
                self._ready.pop(one.fileno(), None)
                one.close()


def _context(file: Path | None = None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    context.set_session_id(b"bare")
    if file is not None:
        credential = credentials.decode(file.read_bytes(), key=file.name, passwords=())
        context.use_certificate(credential.certificate)
        context.use_privatekey(credential.private_key)
        for issuer in credential.issuers:
            context.add_extra_chain_cert(issuer)
    return context


if __name__ == "__main__":
    Loop(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else None).run()
