"""CPU of uvicorn behind the store beside uvicorn's own ``--ssl-certfile``, in one run.

Each is a process of its own with the same application, parser and loop; what is counted
is the CPU time that the kernel gave the process (``/proc/…/schedstat``), user and system.
One client, Python's ``ssl``, visits them in turns, batch by batch, so that a busy machine
disturbs them alike.

A handshake here is a connection from accept to end with a full TLS 1.3 handshake and no
request; a request is one of many on a connection, 1 KiB of answer.

Run: ``python -m bench.python_servers [--quick]``
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centcert.testing import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from centcert.testing import KeyType

NAME = "www.contoso.example"
REQUEST = f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
BODY = bytes(1024)
QUICK = "--quick" in sys.argv
BATCHES = 7 if QUICK else 25
HANDSHAKES = 50 if QUICK else 100
REQUESTS = 500 if QUICK else 1000
KINDS = ("own", "store")
LOOPS = ("uvloop", "asyncio")


# --- the servers, each in a process of its own ----------------------------------


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI's own
    """Answer with 1 KiB."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await receive()
    headers = [(b"content-length", b"1024")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def serve(kind: str, folder: str, listening: socket.socket) -> None:
    """Run uvicorn on a socket that listens, with its own TLS or with the store's."""
    import uvicorn  # noqa: PLC0415  the client needs none

    from centcert import Provider, open_store, start_server  # noqa: PLC0415

    certificate = f"{folder}/{NAME}.pem" if kind == "own" else None
    config = uvicorn.Config(
        app, http="httptools", log_config=None, access_log=False, ssl_certfile=certificate
    )
    server = uvicorn.Server(config)
    if kind == "own":
        await server.serve(sockets=[listening])
        return
    config.load()
    server.lifespan = config.lifespan_class(config)

    def protocol() -> asyncio.BaseProtocol:
        make: Callable[..., asyncio.BaseProtocol] = config.http_protocol_class
        return make(config, server.server_state, server.lifespan.state)

    async with open_store(folder) as store, Provider(store) as provider:
        await server.startup(sockets=[])
        server.servers.append(await start_server(protocol, provider, sock=listening))
        await server.main_loop()


def run_server(kind: str, loop: str, folder: str, fd: str) -> None:
    """Be one of the servers."""
    import uvloop  # noqa: PLC0415

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(kind, folder, socket.socket(fileno=int(fd))))


@contextlib.contextmanager
def server_of(kind: str, loop: str, folder: str) -> Iterator[tuple[int, tuple[str, int]]]:
    """Start a server; return its process and its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        address = listening.getsockname()
        command = [sys.executable, "-m", "bench.python_servers", "--serve", kind, loop, folder]
        fd = listening.fileno()
        process = subprocess.Popen([*command, str(fd)], pass_fds=[fd])  # noqa: S603
    try:
        yield process.pid, address
    finally:
        process.kill()
        process.wait()


# --- the client ------------------------------------------------------------------


def visit(address: tuple[str, int], trust: ssl.SSLContext) -> ssl.SSLSocket:
    """Shake hands."""
    plain = socket.create_connection(address, timeout=30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trust.wrap_socket(plain, server_hostname=NAME)


def handshakes(address: tuple[str, int], trust: ssl.SSLContext) -> int:
    """Connect, shake hands and leave, many times; return how often."""
    for _ in range(HANDSHAKES):
        with visit(address, trust) as tls, contextlib.suppress(OSError):
            tls.unwrap()
    return HANDSHAKES


def requests(address: tuple[str, int], trust: ssl.SSLContext) -> int:
    """Ask again and again on one connection; return how often."""
    with visit(address, trust) as tls:
        for _ in range(REQUESTS):
            tls.sendall(REQUEST)
            answer = b""
            while not answer.endswith(BODY):
                answer += tls.recv(65536)
    return REQUESTS


def cpu_us(pid: int) -> float:
    """Return the CPU time of a process so far, in microseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1000


def settled_cpu_us(pid: int) -> float:
    """Return it when the process has come to rest: connections end a little after their client."""
    before = cpu_us(pid)
    for _ in range(50):
        time.sleep(0.02)
        after = cpu_us(pid)
        if after - before < 200:  # noqa: PLR2004  a tick of uvicorn's own is less
            return after
        before = after
    return before


def measure(loop: str, folder: str, trust: ssl.SSLContext) -> None:
    """Measure both kinds on one loop, in turns, and print the rows."""
    spent: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        servers = {kind: stack.enter_context(server_of(kind, loop, folder)) for kind in KINDS}
        for batch in range(BATCHES + 1):
            for work in (handshakes, requests):
                for kind in KINDS if batch % 2 else KINDS[::-1]:
                    pid, address = servers[kind]
                    visit(address, trust).close()  # it is awake, and its credential warm
                    before = settled_cpu_us(pid)
                    count = work(address, trust)
                    cost = (settled_cpu_us(pid) - before) / count
                    if batch:  # the first warms up
                        spent.setdefault((work.__name__, kind), []).append(cost)
    for name in ("handshakes", "requests"):
        own, store = spent[name, "own"], spent[name, "store"]
        ratios = [ours / theirs for ours, theirs in zip(store, own, strict=True)]
        print(
            f"{loop:8} {name:11} {shown(own):>24} {shown(store):>24}"
            f"   {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )


def shown(values: list[float]) -> str:
    """Show a median with the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.0f} ({low:.0f}-{high:.0f})"


def main() -> None:
    """Measure, with both usual kinds of key."""
    keys: tuple[KeyType, ...] = ("ec-p256", "rsa-2048")
    for key in keys:
        authority = Authority()
        trust = ssl.create_default_context(cadata=authority.root_pem.decode())
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"{NAME}.pem").write_bytes(authority.issue(NAME, key_type=key).pem())
            print(f"{key}, CPU in us, median (quartiles) of {BATCHES} batches")
            print(f"{'':20} {'uvicorn --ssl-certfile':>24} {'from the store':>24}   ratio (range)")
            for loop in LOOPS:
                measure(loop, folder, trust)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        run_server(*sys.argv[sys.argv.index("--serve") + 1 :])
    else:
        main()
