"""``centcert serve`` under systemd: what it tells, and the sockets that it is passed."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from centcert.testing import Authority
from tests.interop.conftest import echo, running_backend
from tests.served import CENTCERT, PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "www.contoso.example"


class Manager:
    """Whoever started the service: hears what it tells."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(PATIENCE_S)

    def silence(self) -> None:
        """Hear what comes until nothing does."""
        while self.socket.recv(4096):
            pass

    def heard(self) -> dict[str, str]:
        """The next that it is told; signs of life are left out."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if lines != ["WATCHDOG=1"]:
                return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture(params=["a path", "an abstract name"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    at_a_path = request.param == "a path"
    manager = Manager(str(tmp_path / "notify") if at_a_path else f"@centcert-{os.getpid()}")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    with manager.socket:
        yield manager


def settings_file(
    folder: Path, store: Path, *, listen: str = "127.0.0.1:0", more: str = ""
) -> Path:
    path = folder / "centcert.toml"
    path.write_text(
        f'[store]\nurl = "{store}"\n[[listen]]\naddress = "{listen}"\nto = "unix:/none"\n{more}',
        encoding="utf-8",
    )
    return path


# --- sd_notify ----------------------------------------------------------------------------


def test_the_manager_is_told_each_turn(manager: Manager, store: Path, tmp_path: Path):
    path = settings_file(tmp_path, store, more='[limits]\ngrace = "7 s"\n')
    with Served("--config", path) as served:
        serving = served.line(r"^Serving certificates from .*")[0]
        assert manager.heard() == {"READY": "1", "STATUS": serving}
        served.reload()
        told = manager.heard()
        assert (told["RELOADING"], told["MONOTONIC_USEC"].isdecimal()) == ("1", True)
        assert manager.heard() == {"READY": "1", "STATUS": serving}
        path.write_text("[store", encoding="utf-8")
        served.process.send_signal(signal.SIGHUP)
        assert "RELOADING" in manager.heard()
        assert manager.heard() == {"READY": "1", "STATUS": serving}, "it goes on as before"
        served.process.send_signal(signal.SIGTERM)
        stopping = "Stopping; connections have 7 s to finish."
        assert manager.heard() == {
            "STOPPING": "1",
            "STATUS": stopping,
            "EXTEND_TIMEOUT_USEC": "17000000",
        }
        assert served.process.wait(PATIENCE_S) == 0


def test_a_node_that_cannot_serve_is_never_ready(manager: Manager, store: Path, tmp_path: Path):
    path = settings_file(tmp_path, store, listen="192.0.2.1:1")
    said = subprocess.run([*CENTCERT, "serve", "--config", path], capture_output=True, check=False)
    assert said.returncode == 2
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.socket.recv(4096)


def test_the_watchdog_is_fed_by_the_event_loop(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    with manager.socket, Served("--config", settings_file(tmp_path, store)) as served:
        heard = [manager.socket.recv(4096) for _ in range(10)]
        assert heard.count(b"WATCHDOG=1") >= 9, "besides one READY"
        served.process.send_signal(signal.SIGSTOP)  # as a loop that hangs
        manager.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.silence()
        served.process.send_signal(signal.SIGCONT)


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with manager.socket, Served("--config", settings_file(tmp_path, store)):
        assert manager.socket.recv(4096).startswith(b"READY=1\n")
        manager.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            manager.socket.recv(4096)


def test_a_manager_that_is_gone_keeps_nobody_from_serving(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with Served("--config", settings_file(tmp_path, store)) as served:
        assert served.process.poll() is None


# --- socket activation --------------------------------------------------------------------


@contextmanager
def activated(address: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """systemd-socket-activate: it listens, and starts the program when the first client comes."""
    with subprocess.Popen(
        ["systemd-socket-activate", "-l", address, "-E", f"STATE_DIRECTORY={path.parent}/state",
         "-E", f"XDG_RUNTIME_DIR={path.parent}", *CENTCERT, "serve", "--config", path],
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process
        process.kill()


@pytest.mark.parametrize("listen", ["127.0.0.1:{}", "localhost:{}"])
def test_the_client_that_starts_the_service_is_its_first(
    store: Path, tmp_path: Path, listen: str, port: int
):
    authority = Authority()
    (store / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    trusting = ssl.create_default_context(cadata=authority.root_pem.decode())
    path = settings_file(tmp_path, store, listen=listen.format(port))
    with running_backend(echo) as backend:
        path.write_text(path.read_text("utf-8").replace("unix:/none", backend), encoding="utf-8")
        with activated(f"127.0.0.1:{port}", path) as process:
            assert process.stderr is not None
            assert "Listening on" in process.stderr.readline()
            with (
                socket.create_connection(("127.0.0.1", port), PATIENCE_S) as tcp,
                trusting.wrap_socket(tcp, server_hostname=NAME) as client,
            ):
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0


PASSES = """
import os, sys
passed, command = int(sys.argv[1]), sys.argv[2:]
os.dup2(passed, 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(command[0], command)
"""


def refusal_of(passed: socket.socket, path: Path) -> str:
    said = subprocess.run(
        [sys.executable, "-c", PASSES, str(passed.fileno()), *CENTCERT, "serve", "--config", path],
        pass_fds=[passed.fileno()], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (2, "")
    return said.stderr


def test_a_socket_that_no_listener_is_for_is_an_error(store: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        assert refusal_of(passed, settings_file(tmp_path, store)) == (
            f"centcert: systemd has passed the socket 127.0.0.1:{port}, which no [[listen]] is for:"
            " name it there, or take it out of the socket unit.\n"
        )


def test_a_socket_of_another_kind_is_an_error(store: Path, tmp_path: Path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed:
        passed.bind(("127.0.0.1", 0))
        assert "which does not listen for TCP: write ListenStream= with a port" in refusal_of(
            passed, settings_file(tmp_path, store)
        )


def test_sockets_that_are_meant_for_another_process_are_left_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with Served("--config", settings_file(tmp_path, store)) as served:
        socket.create_connection(served.address, PATIENCE_S).close()
