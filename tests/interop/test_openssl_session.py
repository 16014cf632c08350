"""``openssl s_client`` against a session: what no client library at hand can do."""

from __future__ import annotations

import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Self

import pytest

from centcert import credential as credentials
from centcert.errors import HandshakeFailed
from centcert.testing import Authority
from centcert.tls.contexts import ServerContexts
from centcert.tls.hello import HelloReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "www.contoso.example"


class EchoServer:
    """Serves one connection: answers each line it reads with the line in upper case."""

    def __init__(self) -> None:
        self.authority = Authority()
        issued = self.authority.issue(NAME)
        self._credential = credentials.decode(issued.pem(), key=f"{NAME}.pem", passwords=())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.read = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(20)
            reader = HelloReader()
            while reader.feed(connection.recv(65_536)) is None:
                pass
            session = ServerContexts().session(self._credential, None)
            try:
                served = session.handshake(reader.raw)
                while not served:
                    connection.sendall(session.outgoing())
                    served = session.handshake(connection.recv(65_536))
            except HandshakeFailed:
                return
            while not session.ended:
                connection.sendall(session.outgoing())
                data = connection.recv(65_536)
                if not data:
                    return
                plain = session.read(data)
                self.read += plain
                session.write(plain.upper())
            session.close()
            connection.sendall(session.outgoing())


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_chain_and_name_verify(server: EchoServer, tmp_path: Path, version: str):
    root = tmp_path / "root.pem"
    root.write_bytes(server.authority.root_pem)
    client = subprocess.run(
        ["openssl", "s_client", "-connect", server.address, "-servername", NAME, version,
         "-CAfile", root, "-verify_return_error", "-verify_hostname", NAME],
        input=b"Q\n", capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert b"Verify return code: 0 (ok)" in client.stdout


def test_key_updates_are_answered_between_data(server: EchoServer):
    """``K`` updates the client's keys and asks the server to update its own."""
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", server.address, "-servername", NAME, "-tls1_3", "-msg"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    with client, client.stdin as keyboard:
        wait_for(client.stdout, b"read R BLOCK")
        for number in (b"one", b"two", b"three"):
            keyboard.write(b"K\n")
            keyboard.flush()
            wait_for(client.stdout, b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            keyboard.write(number + b"\n")
            keyboard.flush()
            # Due before the server's next data, not at once (RFC 8446 §4.6.3).
            wait_for(client.stdout, b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
            wait_for(client.stdout, number.upper())
        keyboard.write(b"Q\n")
        keyboard.flush()
        client.stdout.read()
    assert server.read == b"one\ntwo\nthree\n"


def wait_for(lines: Iterator[bytes], start: bytes) -> None:
    seen = []
    for line in lines:
        seen.append(line)
        if line.startswith(start):
            return
    pytest.fail(f"{start!r} never came:\n{b''.join(seen).decode(errors='replace')}")
