"""``centcert serve`` as a process: its signals, its settings, its lines, and loads of data."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from centcert.testing import Authority
from tests.interop.conftest import running_backend
from tests.served import PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "www.contoso.example"
ANYWHERE = ("--listen", "127.0.0.1:0")
GIB = 1 << 30
CHUNK = bytes(1 << 20)
CLIENTS = 1000
MEMORY_FOR_DATA = 48 << 20
"""What serve may take on top while 1 GiB passes. The relay holds some 300 KB; the rest is what
Python's and malloc's arenas grow by."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.root_pem.decode())


@pytest.fixture
def store(authority: Authority, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    return folder


def connect(served: Served, trusting: ssl.SSLContext, name: str = NAME) -> ssl.SSLSocket:
    tcp = socket.create_connection(served.address, PATIENCE_S)
    return trusting.wrap_socket(tcp, server_hostname=name)


def echoes(client: ssl.SSLSocket, data: bytes = b"hello") -> None:
    client.sendall(data)
    assert client.recv(1 << 16) == data


# --- where it listens and what it tells the backend ---------------------------------


def test_several_listeners_and_their_sites(
    store: Path, echo_backend: str, authority: Authority, trusting: ssl.SSLContext
):
    def say_other(client: socket.socket) -> None:
        client.sendall(b"other")

    (store / "other.example.pfx").write_bytes(authority.issue("other.example").pfx())
    with (
        running_backend(say_other) as other,
        Served("--store", store, "--to", echo_backend, "--site", f"other.example={other}",
               *ANYWHERE, "--listen", "[::1]:0") as served,
    ):  # fmt: skip
        assert [host for host, _ in served.addresses] == ["127.0.0.1", "::1"]
        for address in tuple(served.addresses):
            served.addresses = [address]
            with connect(served, trusting) as client:
                echoes(client)
            with connect(served, trusting, "other.example") as client:
                assert client.recv(100) == b"other"


HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend told
  bind unix@{socket} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] \
%[dst] %[dst_port] %[fc_pp_authority] %[fc_rcvd_proxy]"
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Path]:
    """HAProxy on a Unix socket, which answers with what the PROXY protocol told it."""
    listening = tmp_path / "haproxy.sock"
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(HAPROXY.format(socket=listening), encoding="ascii")
    with subprocess.Popen(["haproxy", "-q", "-db", "-f", configuration]) as process:
        try:
            end = time.monotonic() + PATIENCE_S
            while not listening.is_socket():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.01)
            yield listening
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_haproxy_understands_the_proxy_protocol(
    store: Path, haproxy: Path, trusting: ssl.SSLContext, host: str
):
    with (
        Served("--store", store, "--to", f"unix:{haproxy}", "--listen", f"{host}:0",
               "--proxy-protocol") as served,
        connect(served, trusting) as client,
    ):  # fmt: skip
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while more := client.recv(1 << 16):
            answer += more
        ours, servers = client.getsockname(), client.getpeername()
        told = f"{ours[0]} {ours[1]} {servers[0]} {servers[1]} {NAME} 1"
        assert answer.partition(b"\r\n\r\n")[2].decode() == told


# --- SIGTERM ------------------------------------------------------------------------


def test_sigterm_lets_a_transfer_finish(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with Served("--store", store, "--to", echo_backend, *ANYWHERE) as served:
        with connect(served, trusting) as client:
            echoes(client)
            served.process.send_signal(signal.SIGTERM)
            served.line(r"^Stopping; connections have 30 s to finish\.$")
            until_refused(served.address)
            echoes(client, b"last words")
            assert served.process.poll() is None
        assert served.process.wait(PATIENCE_S) == 0


def until_refused(address: tuple[str, int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            socket.create_connection(address).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the queue of the socket that closed
            pass
        time.sleep(0.01)
    pytest.fail(f"{address} still listens")


def test_the_grace_ends(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    options = ("--grace", "300 ms", *ANYWHERE)
    with (
        Served("--store", store, "--to", echo_backend, *options) as served,
        connect(served, trusting) as client,
    ):
        echoes(client)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(PATIENCE_S) == 0
        assert client.recv(1) == b""


def test_a_second_signal_does_not_wait(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with (
        Served("--store", store, "--to", echo_backend, *ANYWHERE) as served,
        connect(served, trusting) as client,
    ):
        echoes(client)
        served.process.send_signal(signal.SIGTERM)
        served.line("^Stopping")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == -signal.SIGTERM


# --- SIGHUP -------------------------------------------------------------------------


def test_sighup_reads_the_settings_again(
    store: Path,
    echo_backend: str,
    authority: Authority,
    trusting: ssl.SSLContext,
    tmp_path: Path,
):
    def settings(folder: Path, *listeners: str) -> str:
        return f'[store]\nurl = "{folder}"\n' + "".join(
            f'[[listen]]\naddress = "{listener}"\nto = "{echo_backend}"\n' for listener in listeners
        )

    file = tmp_path / "centcert.toml"
    file.write_text(settings(store, "127.0.0.1:0"), encoding="utf-8")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "moved.example.pfx").write_bytes(authority.issue("moved.example").pfx())
    with Served("--config", file) as served, connect(served, trusting) as stays:
        echoes(stays)
        first = served.address
        for wrong, reason in (
            ("[store", f"{file} is not TOML: "),
            ('[store]\nurl="x"', f"{file}: The setting `listen` is missing."),
            (settings(store, "127.0.0.1:0", "192.0.2.1:1"), "Cannot listen on 192.0.2.1:1: "),
            (settings(store) + '[limits]\ngrace = "5"', f"{file}: limits.grace: '5' needs a unit"),
        ):
            file.write_text(wrong, encoding="utf-8")
            served.process.send_signal(signal.SIGHUP)
            served.line("^" + re.escape(f"The settings stay as they are. {reason}"))
            with connect(served, trusting) as client:
                echoes(client)
        file.write_text(settings(moved, "127.0.0.1:0", "[::1]:0"), encoding="utf-8")
        again, *served.addresses = served.reload()
        assert again == first
        assert served.address[0] == "::1"
        with connect(served, trusting, "moved.example") as client:
            echoes(client)
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            connect(served, trusting)
        file.write_text(settings(moved, "[::1]:0"), encoding="utf-8")
        assert served.reload() == served.addresses
        until_refused(first)
        echoes(stays, b"from before all that")


# --- the journal --------------------------------------------------------------------


def test_what_a_person_may_want_to_know_is_a_line(
    store: Path, authority: Authority, trusting: ssl.SSLContext, tmp_path: Path
):
    (store / "bad.example.pfx").write_bytes(b"no such thing")
    gone = tmp_path / "gone.sock"
    with Served(
        "--store", store, "--to", f"unix:{gone}", "--connections", "1", *ANYWHERE
    ) as served:
        with connect(served, trusting) as client:
            assert client.recv(1) == b""
            served.line(rf"^backend unix:{gone} failed for {NAME}: No such file or directory$")
            with socket.create_connection(served.address) as one_more:
                port = one_more.getsockname()[1]
                served.line(rf"^turned away 127\.0\.0\.1:{port}: as many clients are connected")
        with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
            until_admitted(served, trusting, "bad.example")
        served.line(r"^bad file for bad\.example: bad\.example\.pfx: ")
        served.line(r"^refused 127\.0\.0\.1:\d+, which asked for bad\.example: ")
        replaced = store / "www.new"
        replaced.write_bytes(authority.issue(NAME).pfx())
        replaced.rename(store / f"{NAME}.pfx")
        served.line(rf"^renewed {NAME} from {NAME}\.pfx$")
        (store / f"{NAME}.pfx").unlink()
        served.line(rf"^withdrew {NAME}: its file is gone from the store$")


def until_admitted(served: Served, trusting: ssl.SSLContext, name: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            connect(served, trusting, name).close()
        except (ConnectionError, ssl.SSLEOFError):
            time.sleep(0.02)
    pytest.fail("never admitted")


# --- loads --------------------------------------------------------------------------


async def test_a_thousand_clients_at_once(
    store: Path, authority: Authority, tmp_path: Path, trusting: ssl.SSLContext
):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async def arrive(
        number: int,
    ) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        async with turns:
            reader, writer = await asyncio.open_connection(
                *served.address, ssl=trusting, server_hostname=NAME
            )
        return number, reader, writer

    del authority
    turns = asyncio.Semaphore(50)
    backend = await asyncio.start_unix_server(shout, tmp_path / "shout.sock", backlog=CLIENTS)
    async with backend:
        with Served("--store", store, "--to", f"unix:{tmp_path}/shout.sock", *ANYWHERE) as served:
            clients = await asyncio.gather(*(arrive(number) for number in range(CLIENTS)))
            for number, _, writer in clients:
                writer.write(f"client {number}\n".encode())
            for number, reader, _ in clients:
                assert await reader.readline() == f"CLIENT {number}\n".encode()
            for _, _, writer in clients:
                writer.close()
            served.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(served.process.wait, PATIENCE_S) == 0
            assert not [line for line in served.lines if line.startswith("fault")]


@pytest.mark.timeout(300)  # 6 s as a rule
def test_a_gibibyte_each_way_in_little_memory(store: Path, trusting: ssl.SSLContext):
    def swallow_and_pour(client: socket.socket) -> None:
        took = bytearray(1 << 20)
        left = GIB
        while left:
            got = client.recv_into(took)
            assert got
            left -= got
        for _ in range(GIB // len(CHUNK)):
            client.sendall(CHUNK)

    with (
        running_backend(swallow_and_pour) as to,
        Served("--store", store, "--to", to, *ANYWHERE) as served,
        connect(served, trusting) as client,
    ):
        client.sendall(CHUNK)
        before = served.memory_bytes()
        for _ in range(GIB // len(CHUNK) - 1):
            client.sendall(CHUNK)
        uploaded = served.memory_bytes()
        took = bytearray(1 << 20)
        left = GIB
        while left:
            got = client.recv_into(took)
            assert got, "cut"
            left -= got
        assert client.recv(1) == b""
        assert uploaded - before < MEMORY_FOR_DATA
        assert served.memory_bytes() - uploaded < MEMORY_FOR_DATA
