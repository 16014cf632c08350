"""Programs that serve from a store, each as a process of its own, and what their clients trust."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop

from centcert.testing import Authority
from tests.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    Start = Callable[..., AbstractContextManager["Program"]]

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
NAMES = ("www.contoso.example", "shop.contoso.example", "www.fabrikam.example")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    del config, item
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


class Program:
    """A server that runs, and where."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def end(self) -> int:
        """Tell it to end, and wait until it has; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def store(authority: Authority, tmp_path: Path) -> Path:
    """A folder with certificates of three names."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.pfx").write_bytes(authority.issue(name).pfx())
    return folder


@pytest.fixture
def root(authority: Authority, tmp_path: Path) -> Path:
    """The file of the root that clients trust."""
    file = tmp_path / "root.pem"
    file.write_bytes(authority.root_pem)
    return file


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """A client's context that trusts the root and nothing else."""
    return ssl.create_default_context(cadata=authority.root_pem.decode())


@contextlib.contextmanager
def running(*command: str, port: int, folder: Path = EXAMPLES) -> Iterator[Program]:
    """Run a server until the block is left; its port accepts when the block begins."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Hypercorn has children, which outlive it if it is killed
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield Program(process, port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def start(store: Path) -> Start:
    """Run an example with the store."""

    @contextlib.contextmanager
    def start(example: str) -> Iterator[Program]:
        with (
            reserved_port() as port,
            running(example, str(store), str(port), port=port) as program,
        ):
            yield program

    return start


@pytest.fixture
def serve_app(store: Path, tmp_path: Path) -> Start:
    """Run ``centcert serve --app`` with the store."""

    @contextlib.contextmanager
    def serve(app: str, *options: str, folder: Path = EXAMPLES) -> Iterator[Program]:
        command = ("-m", "centcert", "serve", "--store", str(store), "--app", app)
        with reserved_port() as port:
            listen = ("--listen", f"127.0.0.1:{port}", "--state-folder", str(tmp_path / "state"))
            with running(*command, *listen, *options, port=port, folder=folder) as program:
                yield program

    return serve
