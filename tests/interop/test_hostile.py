"""Clients that mean harm, by the thousand, at a ``centcert serve`` that serves others meanwhile."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert.control import NodeStatus, Status, ask
from centcert.errors import Alert
from centcert.testing import Authority
from centcert.tls.hello import alert_record
from tests.interop.conftest import echo, running_backend
from tests.served import PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "www.contoso.example"
IDLE = 4_000
BYTES_EACH = 8 * 1024
"""What serve may take for a connection that says nothing, or half a hello (measured: 3.1 KB)."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.root_pem.decode())


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    """One for each connection of this process; serve sees to its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 2 * IDLE + 200, f"ulimit -Hn is {hard}: too few for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def serve(
    authority: Authority, trusting: ssl.SSLContext, tmp_path: Path
) -> Iterator[Callable[..., Node]]:
    """``serve("--handshake-timeout", …)``: a node with one site."""
    store = tmp_path / "store"
    store.mkdir()
    (store / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    with ExitStack() as stack:
        to = stack.enter_context(running_backend(echo))

        def serve(*options: str) -> Node:
            where = ("--store", store, "--listen", "127.0.0.1:0", "--to", to)
            control = tmp_path / "control.sock"
            served = Served(*where, "--control", control, *options)
            node = Node(stack.enter_context(served), trusting, control)
            node.check()
            return node

        yield serve


class Node:
    """``centcert serve``, and clients of both kinds."""

    def __init__(self, served: Served, trusting: ssl.SSLContext, control: Path) -> None:
        self.served = served
        self.trusting = trusting
        self.control = control

    def check(self) -> None:
        """Be a client as it should be: within its patience it is served."""
        tcp = socket.create_connection(self.served.address, PATIENCE_S)
        with self.trusting.wrap_socket(tcp, server_hostname=NAME) as client:
            client.sendall(b"hello")
            assert client.recv(1 << 16) == b"hello"

    def clients(self, count: int) -> list[socket.socket]:
        return [socket.create_connection(self.served.address, PATIENCE_S) for _ in range(count)]

    def hello(self) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.trusting.wrap_bio(incoming, outgoing, server_hostname=NAME)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    def memory_bytes(self) -> int:
        """What it holds now (proc(5), VmRSS)."""
        status = Path(f"/proc/{self.served.process.pid}/status").read_text(encoding="ascii")
        held = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert held is not None
        return int(held[1]) * 1024

    def until_connected(self, count: int) -> None:
        """Wait until so many clients are connected, no more and no fewer."""
        end = time.monotonic() + PATIENCE_S
        while (now := asyncio.run(ask(self.control, Status(), NodeStatus)).connections) != count:
            assert time.monotonic() < end, f"{now} connections, not {count}"
            time.sleep(0.02)


def leave(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


def rest(client: socket.socket) -> bytes:
    """Everything that still comes; nothing after a reset."""
    client.settimeout(PATIENCE_S)
    heard = b""
    with suppress(ConnectionError):
        while data := client.recv(1 << 16):
            heard += data
    return heard


@pytest.mark.parametrize("said", ["nothing", "half a hello"])
def test_thousands_who_say_nothing_are_held_cheaply_and_let_go(
    serve: Callable[..., Node], said: str
):
    node = serve("--handshake-timeout", "60s")
    before = node.memory_bytes()
    clients = node.clients(IDLE)
    if said != "nothing":
        half = node.hello()[:-1]
        for client in clients:
            client.sendall(half)
    node.until_connected(IDLE)
    node.check()
    assert node.memory_bytes() - before < IDLE * BYTES_EACH
    leave(clients)
    node.until_connected(0)
    node.check()


def test_who_says_nothing_is_let_go_in_time(serve: Callable[..., Node]):
    node = serve("--handshake-timeout", "1s")
    clients = node.clients(200)
    assert {rest(client) for client in clients} == {b""}
    node.until_connected(0)
    leave(clients)


def test_one_client_too_many_is_turned_away_and_the_others_are_served(serve: Callable[..., Node]):
    node = serve("--connections", "100", "--handshake-timeout", "60s")
    clients = node.clients(99)
    node.until_connected(99)
    node.check()
    node.until_connected(99)
    last = node.clients(1)
    node.until_connected(100)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        node.check()
    leave(last)
    node.until_connected(99)
    node.check()
    leave(clients)


def test_hellos_that_trickle_are_cut_off_and_cost_others_nothing(serve: Callable[..., Node]):
    node = serve("--handshake-timeout", "2s")
    clients, hello, sent = node.clients(100), node.hello(), 0
    end = time.monotonic() + PATIENCE_S
    open_ones = set(clients)
    while open_ones:
        assert time.monotonic() < end
        for client in tuple(open_ones):
            try:
                client.sendall(hello[sent : sent + 1])
            except ConnectionError:
                open_ones.remove(client)
        sent += 1
        assert sent < len(hello), "they were let finish"
        node.check()
        time.sleep(0.05)
    assert sent > 1
    node.until_connected(0)
    leave(clients)


def test_a_hello_that_trickles_in_time_is_answered(serve: Callable[..., Node]):
    node = serve()
    (client,) = node.clients(1)
    for byte in node.hello():
        client.sendall(bytes([byte]))
    assert client.recv(5)[:2] == b"\x16\x03", "a ServerHello"
    client.close()


def records(kind: int, length: int, count: int = 1) -> bytes:
    return (bytes([kind, 3, 1]) + length.to_bytes(2, "big") + bytes(length)) * count


@pytest.mark.parametrize(
    ("said", "alert"),
    [
        pytest.param(records(22, 0xFFFF), Alert.RECORD_OVERFLOW, id="a record of 64 KiB"),
        pytest.param(records(22, 2**14 + 257), Alert.RECORD_OVERFLOW, id="a byte too many"),
        pytest.param(
            b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(2**14 - 4),
            Alert.DECODE_ERROR,
            id="a hello of 16 MiB",
        ),
        pytest.param(
            records(22, 0, 10_000), Alert.UNEXPECTED_MESSAGE, id="records without end of nothing"
        ),
        pytest.param(records(23, 2**14), Alert.UNEXPECTED_MESSAGE, id="data before the hello"),
        pytest.param(b"\x00" * 65_536, Alert.UNEXPECTED_MESSAGE, id="zeros"),
    ],
)
def test_oversized_records_are_refused_at_their_first_bytes(
    serve: Callable[..., Node], said: bytes, alert: Alert
):
    node = serve()
    before = node.memory_bytes()
    for _ in range(10):
        clients = node.clients(30)
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(said)
        assert {rest(client) for client in clients} == {alert_record(alert)}
        leave(clients)
        node.check()
    node.until_connected(0)
    assert node.memory_bytes() - before < 16 * 1024 * 1024
