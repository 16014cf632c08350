"""``centcert serve --workers``: its processes, killed, hung and replaced while clients come."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from cryptography import x509

from centcert.control import NodeStatus, ReadSettings, SettingsRead, Status, Trace, ask, tracing
from centcert.testing import Authority
from centcert.tracing import TracedHandshake
from tests.impatient import HANGS_S
from tests.interop.test_service import Manager
from tests.served import CENTCERT, PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from centcert.tracing import Traced

NAME, OTHER = "www.contoso.example", "other.contoso.example"
TWO = ("--workers", "2", "--listen", "127.0.0.1:0")
VISITORS = 4
IMPATIENT = (sys.executable, "-m", "tests.impatient")
PTRACE_SEIZE = 0x4206
MANY = 40
"""Connections that are not all on one of two workers: that has a chance of 1 in 2**39."""


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
    for name in (NAME, OTHER):
        (folder / f"{name}.pfx").write_bytes(authority.issue(name).pfx())
    return folder


def connect(
    served: Served,
    trusting: ssl.SSLContext,
    name: str = NAME,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    tcp = socket.create_connection(served.address, PATIENCE_S)
    return trusting.wrap_socket(tcp, server_hostname=name, session=session)


def echoes(client: ssl.SSLSocket, data: bytes = b"hello") -> None:
    client.sendall(data)
    assert client.recv(1 << 16) == data


def serial(client: ssl.SSLSocket) -> int:
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


# --- processes ------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    return False


def provider_process(served: Served) -> int:
    """The one that has a child itself, which decodes."""
    (found,) = [child for child in children(served.process.pid) if children(child)]
    return found


def workers(served: Served) -> list[int]:
    return [child for child in children(served.process.pid) if not children(child)]


def sockets(pid: int) -> int:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(entry.readlink().name)
    return sum(link.startswith("socket:") for link in links)


class Visits:
    """Clients that come one after the other, all the while: what failed of what they did."""

    def __init__(self, served: Served, trusting: ssl.SSLContext) -> None:
        self.failures: list[Exception] = []
        self.done = 0
        self._served = served
        self._trusting = trusting
        self._enough = threading.Event()

    def _visit(self) -> None:
        while not self._enough.is_set():
            try:
                with connect(self._served, self._trusting) as client:
                    echoes(client)
            except (OSError, AssertionError) as error:
                self.failures.append(error)
            else:
                self.done += 1

    def more(self, visits: int = 50) -> None:
        """Let so many more succeed."""
        wanted = self.done + visits
        until(lambda: self.done >= wanted, f"visits do not succeed: {self.failures[:5]}")

    @contextmanager
    def coming(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._visit) for _ in range(VISITORS)]
        for thread in threads:
            thread.start()
        try:
            self.more()
            yield
            self.more()
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()


def test_one_worker_is_one_process(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with (
        Served("--store", store, "--to", echo_backend, "--listen", "127.0.0.1:0") as served,
        connect(served, trusting) as client,
    ):
        echoes(client)
        (decoder,) = children(served.process.pid)
        assert b"decoder_process" in Path(f"/proc/{decoder}/cmdline").read_bytes()


def test_tickets_resume_on_any_worker(store: Path, echo_backend: str, authority: Authority):
    trusting = ssl.create_default_context(cadata=authority.root_pem.decode())
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2  # whose tickets serve more than once
    with Served("--store", store, "--to", echo_backend, *TWO) as served:
        for _ in range(3):  # a worker's first visitor gets no ticket
            with connect(served, trusting) as client:
                echoes(client)
                session = client.session
            if session is not None and session.has_ticket:
                break
        before = {pid: sockets(pid) for pid in workers(served)}
        clients = [connect(served, trusting, session=session) for _ in range(MANY)]
        for client in clients:
            echoes(client)
        assert all(client.session_reused for client in clients)
        assert len(before) == 2
        assert all(sockets(pid) > before[pid] for pid in before), "both have clients"
        for client in clients:
            client.close()


def test_a_killed_worker_is_replaced(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with Served("--store", store, "--to", echo_backend, *TWO) as served:
        visits = Visits(served, trusting)
        with visits.coming():
            first, second = workers(served)
            os.kill(first, signal.SIGKILL)
            served.line(rf"^Worker 1 \(process {first}\) was killed by SIGKILL: another takes its")
            until(lambda: len(set(workers(served)) - {first}) == 2, "no successor")
            assert second in workers(served)
        assert not [one for one in visits.failures if isinstance(one, ConnectionRefusedError)]
        assert len(visits.failures) <= VISITORS, "only those who were on it"


def test_without_the_provider_process_known_names_go_on_and_new_ones_soon(
    store: Path, echo_backend: str, trusting: ssl.SSLContext
):
    with Served("--store", store, "--to", echo_backend, *TWO) as served:
        clients = [connect(served, trusting) for _ in range(MANY)]  # so both workers know it
        visits = Visits(served, trusting)
        with visits.coming():
            killed = provider_process(served)
            os.kill(killed, signal.SIGKILL)
            served.line(rf"^The provider process \(process {killed}\) was killed by SIGKILL: ")
            with connect(served, trusting, OTHER) as client:
                echoes(client)
        assert not visits.failures
        for client in clients:
            client.close()


def test_sighup_under_load_refuses_nobody(
    store: Path,
    echo_backend: str,
    authority: Authority,
    trusting: ssl.SSLContext,
    tmp_path: Path,
):
    def settings(folder: Path, count: int, *listeners: str) -> str:
        return f'[store]\nurl = "{folder}"\n[workers]\ncount = {count}\n' + "".join(
            f'[[listen]]\naddress = "{listener}"\nto = "{echo_backend}"\n' for listener in listeners
        )

    moved, file = tmp_path / "moved", tmp_path / "centcert.toml"
    moved.mkdir()
    for name in (NAME, "moved.example"):
        (moved / f"{name}.pfx").write_bytes(authority.issue(name).pfx())
    file.write_text(settings(store, 2, "127.0.0.1:0"))
    with Served("--config", file) as served, connect(served, trusting) as stays:
        first = served.addresses[0]
        visits = Visits(served, trusting)
        with visits.coming():
            for text in (
                settings(store, 2, "127.0.0.1:0"),
                settings(store, 3, "127.0.0.1:0", "[::1]:0"),
                settings(store, 2, "127.0.0.1:0"),
                settings(moved, 2, "127.0.0.1:0"),
            ):
                file.write_text(text)
                assert served.reload()[0] == first
                visits.more()
            served.addresses = [first]
            with connect(served, trusting, "moved.example") as client:
                echoes(client)
            file.write_text(settings(moved, 2, "127.0.0.1:0", "192.0.2.1:1"))
            served.process.send_signal(signal.SIGHUP)
            served.line(r"^The settings stay as they are\. Cannot listen on 192\.0\.2\.1:1: ")
            visits.more()
        assert not visits.failures
        echoes(stays, b"from before all that")
    # The old store's provider process stays for the workers that have clients; now it ends.


def test_a_renewal_reaches_all_workers(
    store: Path, echo_backend: str, authority: Authority, trusting: ssl.SSLContext
):
    def serials() -> set[int]:
        found = set()
        for _ in range(MANY):
            with connect(served, trusting) as client:
                found.add(serial(client))
        return found

    with Served("--store", store, "--to", echo_backend, *TWO) as served:
        (before,) = serials()
        renewed = authority.issue(NAME)
        (store / "new").write_bytes(renewed.pfx())
        (store / "new").rename(store / f"{NAME}.pfx")
        until(lambda: serials() == {renewed.certificate.serial_number}, "one has the old one")
        assert before != renewed.certificate.serial_number


def is_refused(served: Served) -> bool:
    try:
        socket.create_connection(served.address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue of the socket that closed
        pass
    return False


# --- ends -------------------------------------------------------------------------------


def test_nothing_outlives_the_supervisor(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with (
        Served("--store", store, "--to", echo_backend, *TWO) as served,
        connect(served, trusting) as client,
    ):
        echoes(client)
        provider = provider_process(served)
        processes = [*children(served.process.pid), *children(provider)]
        served.process.kill()
        until(lambda: not any(map(is_alive, processes)), "a process is left")


def test_sigterm_lets_a_transfer_finish(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with Served("--store", store, "--to", echo_backend, *TWO) as served:
        processes = children(served.process.pid)
        with connect(served, trusting) as client:
            echoes(client)
            served.process.send_signal(signal.SIGTERM)
            served.line(r"^Stopping; connections have 30 s to finish\.$")
            until(lambda: is_refused(served), "it still listens")
            echoes(client, b"last words")
            assert served.process.poll() is None
        assert served.process.wait(PATIENCE_S) == 0
        assert not any(map(is_alive, processes))


def test_a_second_signal_does_not_wait(store: Path, echo_backend: str, trusting: ssl.SSLContext):
    with (
        Served("--store", store, "--to", echo_backend, *TWO) as served,
        connect(served, trusting) as client,
    ):
        echoes(client)
        processes = children(served.process.pid)
        served.process.send_signal(signal.SIGTERM)
        served.line("^Stopping")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == -signal.SIGTERM
        assert not any(map(is_alive, processes))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--to", "127.0.0.1:1", "--listen", "{taken}"), "Cannot listen on {taken}: Address alr"),
        (("--app", "no_such:app", "--listen", "127.0.0.1:0"), "no_such"),
        (("--to", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--key-password-file", "/no/such"),
         "/no/such"),
    ],
    ids=["address", "application", "password"],
)  # fmt: skip
def test_what_cannot_start_ends_with_a_sentence(
    store: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        given = [argument.format(taken=where) for argument in arguments]
        ended = subprocess.run(
            [*CENTCERT, "serve", "--workers", "2", "--store", store, *given,
             "--control", tmp_path / "control.sock", "--state-folder", tmp_path / "state"],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert reason.format(taken=where) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "control.sock").exists()


def test_each_worker_runs_the_application(
    store: Path, trusting: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "hello_app.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        raise RuntimeError\n"
        "    body = str(os.getpid()).encode()\n"
        "    headers = [(b'content-length', str(len(body)).encode())]\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Served("--store", store, "--app", "hello_app:app", *TWO) as served:
        answered = set()
        for _ in range(MANY):
            with connect(served, trusting) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while more := client.recv(1 << 16):
                    answer += more
            answered.add(int(answer.rpartition(b"\r\n\r\n")[2]))
        assert answered == set(workers(served))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0


# --- what hangs ---------------------------------------------------------------------------


@pytest.fixture
def hurried_settings(store: Path, echo_backend: str, tmp_path: Path) -> Path:
    file = tmp_path / "centcert.toml"
    file.write_text(
        f'[store]\nurl = "{store}"\n[workers]\ncount = 2\n'
        f'[control]\nsocket = "{tmp_path / "control.sock"}"\n'
        f'[[listen]]\naddress = "127.0.0.1:0"\nto = "{echo_backend}"\n'
        '[limits]\nhandshake_timeout = "1 min"\n'
    )
    return file


def hung(served: Served, what: str, pid: int) -> None:
    """Wait until the journal says that it was killed for that."""
    said = rf"^{what} \(process {pid}\) gave no sign of life for {HANGS_S:g} s and was killed"
    served.line(said)


def test_a_worker_that_hangs_is_replaced_and_its_clients_need_only_wait(
    hurried_settings: Path, trusting: ssl.SSLContext
):
    with Served(hurried_settings, command=IMPATIENT) as served:
        first, second = workers(served)
        os.kill(first, signal.SIGSTOP)
        clients = [socket.create_connection(served.address) for _ in range(MANY)]
        hung(served, "Worker 1", first)
        for client in clients:
            client.settimeout(30)
            with trusting.wrap_socket(client, server_hostname=NAME) as tls:
                echoes(tls)
        assert not is_alive(first)
        assert second in workers(served), "whoever is well stays"


def test_without_a_provider_process_that_answers_known_names_go_on_and_new_ones_wait(
    hurried_settings: Path, trusting: ssl.SSLContext
):
    with Served(hurried_settings, command=IMPATIENT) as served:
        clients = [connect(served, trusting) for _ in range(MANY)]  # so both workers know it
        visits = Visits(served, trusting)
        stopped = provider_process(served)
        with visits.coming():
            os.kill(stopped, signal.SIGSTOP)
            with connect(served, trusting, OTHER) as client:
                echoes(client)
            hung(served, "The provider process", stopped)
        assert not visits.failures
        for client in clients:
            client.close()


def test_what_hangs_while_it_lets_connections_finish_is_killed(
    hurried_settings: Path, trusting: ssl.SSLContext
):
    with Served(hurried_settings, command=IMPATIENT) as served:
        clients = [connect(served, trusting) for _ in range(MANY)]
        before = workers(served)
        served.reload()
        for worker in before:
            os.kill(worker, signal.SIGSTOP)
        for number, worker in enumerate(before, 1):
            hung(served, f"Worker {number}", worker)
        with connect(served, trusting) as client:
            echoes(client)
        for client in clients:
            client.close()


def test_a_manager_gets_signs_of_life_unless_something_hangs_for_good(
    hurried_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    with manager.socket, Served(hurried_settings, command=IMPATIENT) as served:
        first, _ = workers(served)
        # What is traced lives on as a zombie until its tracer looks: as if in the kernel's hands.
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        assert not ptrace(PTRACE_SEIZE, first, None, None), os.strerror(ctypes.get_errno())
        os.kill(first, signal.SIGSTOP)
        served.line(rf"^Worker 1 \(process {first}\) hangs and cannot be killed either: ")
        manager.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.silence()
        os.waitpid(first, 0)
        hung(served, "Worker 1", first)
        manager.socket.settimeout(20)
        assert manager.socket.recv(4096) == b"WATCHDOG=1"


# --- commands -----------------------------------------------------------------------------


def test_commands_speak_for_all_processes(
    store: Path, echo_backend: str, trusting: ssl.SSLContext, tmp_path: Path
):
    control, file = tmp_path / "control.sock", tmp_path / "centcert.toml"
    file.write_text(
        f'[store]\nurl = "{store}"\n[workers]\ncount = 2\n[control]\nsocket = "{control}"\n'
        f'[[listen]]\naddress = "127.0.0.1:0"\nto = "{echo_backend}"\n[limits]\ngrace = "1 s"\n'
    )

    def status() -> NodeStatus:
        return asyncio.run(ask(control, Status(), NodeStatus))

    with Served("--config", file) as served:
        clients = [connect(served, trusting) for _ in range(MANY)]
        until(lambda: status().connections == MANY, "connections are not counted")
        assert status().counters.accepted == MANY
        assert status().names == 1
        reply = asyncio.run(ask(control, ReadSettings(), SettingsRead))
        assert reply.store == str(store)
        until(lambda: status().connections == 0, "old workers have not ended")
        assert status().counters.accepted == MANY, "what was counted stays"
        for client in clients:
            client.close()


async def test_a_trace_tells_of_all_workers_handshakes(
    store: Path, echo_backend: str, trusting: ssl.SSLContext, tmp_path: Path
):
    def visits(served: Served) -> None:
        clients = [connect(served, trusting) for _ in range(MANY)]
        clients.append(connect(served, trusting, OTHER))
        for client in clients:
            client.close()

    control = tmp_path / "control.sock"
    with Served("--store", store, "--to", echo_backend, *TWO, "--control", control) as served:
        async with tracing(control, Trace(NAME)) as traced:
            told: list[TracedHandshake] = []

            async def read() -> None:
                async for one in traced:
                    told.append(cast("TracedHandshake", one))  # noqa: PERF401  as they come

            reading = asyncio.create_task(read())
            while len(told) < MANY:  # workers follow some time after it was asked for
                await asyncio.to_thread(visits, served)
            reading.cancel()
    for handshake in told:
        assert (handshake.name, handshake.outcome) == (NAME, "done")
        assert {"client hello", "done"} <= {step.step for step in handshake.steps}


BAD = "bad.contoso.example"


@pytest.fixture
def many_names(store: Path, authority: Authority) -> list[str]:
    """Names with a file, to be asked for once each, so that each is a look-up."""
    names = [f"{number}.contoso.example" for number in range(30)]
    for name in names:
        (store / f"{name}.pfx").write_bytes(authority.issue(name).pfx())
    (store / f"{BAD}.pfx").write_bytes(b"no certificate")
    return names


@pytest.mark.parametrize("count", ["1", "2"])
async def test_a_trace_shows_what_the_store_does_in_whichever_process(
    store: Path,
    many_names: list[str],
    echo_backend: str,
    trusting: ssl.SSLContext,
    tmp_path: Path,
    count: str,
):
    def visit(name: str) -> None:
        with suppress(ssl.SSLError):
            connect(served, trusting, name).close()

    async def told(traced: AsyncIterator[Traced], visits: Iterator[str]) -> TracedHandshake:
        """Visit one name after the other until one is told: each worker follows some time."""
        telling = asyncio.ensure_future(anext(traced))
        while not telling.done():
            await asyncio.to_thread(visit, next(visits))
            await asyncio.wait([telling], timeout=0.5)
        handshake = await telling
        assert isinstance(handshake, TracedHandshake), "it is a step of the handshake"
        return handshake

    control, names = tmp_path / "control.sock", iter(many_names)
    arguments = ("--store", store, "--to", echo_backend, "--listen", "127.0.0.1:0")
    with Served(*arguments, "--workers", count, "--control", control) as served:
        async with (
            tracing(control, Trace("*.contoso.example")) as traced,
            tracing(control, Trace(BAD)) as other,
        ):
            good = await told(traced, names)
            assert [step.step for step in good.steps] == [
                *("client hello", "fetch", "decode", "look-up", "server hello", "done")
            ]
            assert good.key == f"{good.name}.pfx"
            assert all(step.duration_s for step in good.steps[1:3])
            ends = [step.at_s for step in good.steps]
            assert ends == sorted(ends)
            bad = await told(other, repeat(BAD))
            steps = [step.step for step in bad.steps]
            assert steps[:2] == ["client hello", "fetch"]
            assert steps[-2:] == ["bad file", "refused"]
            assert steps.count("bad file") == 1, "once, however many traces there are"
