"""Each recipe in examples/ runs, serves every name of the store, and is short."""

from __future__ import annotations

import ast
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.interop.python_servers.conftest import EXAMPLES, NAMES

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.interop.python_servers.conftest import Program, Start

MAX_LINES = 15
SERVERS = ["asgi.py", "uvicorn_server.py", "hypercorn_server.py", "aiohttp_server.py"]
APPS = ["hello_asgi:app", "flask_app:app", "django_app:app"]
HTTP_2 = {"asgi.py", "hypercorn_server.py", *APPS}


def curl(program: Program, root: Path, name: str, *options: str) -> str:
    """Fetch ``/`` of ``name``; return the body, a space, and the version of HTTP."""
    where = ("--resolve", f"{name}:{program.port}:127.0.0.1", f"https://{name}:{program.port}/")
    done = subprocess.run(
        ["curl", "-sS", "--cacert", str(root), "-w", " %{http_version}", *options, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", SERVERS)
def test_a_server_answers_for_every_name(example: str, start: Start, root: Path):
    version = "2" if example in HTTP_2 else "1.1"
    with start(example) as program:
        for name in NAMES:
            assert curl(program, root, name, "--http2") == f"Hello from {name} {version}"
            assert curl(program, root, name, "--http1.1") == f"Hello from {name} 1.1"


@pytest.mark.parametrize("app", APPS)
def test_an_application_is_served_by_centcert_serve(app: str, serve_app: Start, root: Path):
    with serve_app(app) as program:
        for name in NAMES:
            assert curl(program, root, name, "--http2") == f"Hello from {name} 2"
            assert curl(program, root, name, "--http1.1") == f"Hello from {name} 1.1"
        assert program.end() == 0


def test_uvicorn_ends_in_order_on_a_signal(start: Start, root: Path):
    with start("uvicorn_server.py") as program:
        assert curl(program, root, NAMES[0]) == f"Hello from {NAMES[0]} 1.1"
        program.end()
        assert program.process.stderr is not None
        log = program.process.stderr.read()
        assert "Application startup complete" in log
        assert "Application shutdown complete" in log


def test_streams(start: Start, trust: ssl.SSLContext):
    with start("streams.py") as program:
        for name in NAMES:
            plain = socket.create_connection(("127.0.0.1", program.port), timeout=10)
            with trust.wrap_socket(plain, server_hostname=name) as tls:
                tls.sendall(b"one\ntwo\n")
                answer = tls.makefile("rb")
                assert answer.readline() == f"{name} heard: one\n".encode()
                assert answer.readline() == f"{name} heard: two\n".encode()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_a_recipe_is_short(file: Path):
    """Counted is what a person writes: not imports, not the application that is there already."""
    module = ast.parse(file.read_text())
    counted = [
        node
        for node in module.body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    lines = file.read_text().splitlines()
    code = [
        line
        for node in counted
        for line in lines[node.lineno - 1 : node.end_lineno]
        if line.strip() and not line.strip().startswith("#")
    ]
    assert 0 < len(code) <= MAX_LINES
