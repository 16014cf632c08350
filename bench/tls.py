"""CPU of the server's end of TLS: ``Session`` beside Python's own ``ssl`` over memory BIOs.

No sockets, one process, one thread: ``process_time`` is taken around the server's calls
only. The client is Python's ``ssl`` for both, so both agree on the same group and cipher.
The two take turns, batch by batch, so that a busy machine disturbs them alike.

Run: ``python bench/tls.py [--quick]``
"""

from __future__ import annotations

import contextlib
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from OpenSSL import SSL

from centcert import credential as credentials
from centcert.testing import Authority, Issued
from centcert.tls.contexts import ServerContexts
from centcert.tls.hello import HelloReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from centcert.testing import KeyType
    from centcert.tls.session import Session

NAME = "www.contoso.example"
REQUEST = b"GET / HTTP/1.1\r\nHost: www.contoso.example\r\n".ljust(300, b" ")
ANSWER = bytes(1024)
CHUNK = bytes(64 * 1024)
QUICK = "--quick" in sys.argv
BATCHES = 7 if QUICK else 25
CROWD = range(40 if QUICK else 100)  # connections in a batch


Once: TypeAlias = "Callable[[Stopwatch], None]"  # one batch
Answer = TypeVar("Answer")


class Server(Protocol):
    """What is measured: every method is server CPU."""

    def greet(self, data: bytes) -> bytes: ...
    def shake(self, data: bytes) -> bytes: ...
    def take(self, data: bytes) -> bytes: ...
    def give(self, data: bytes) -> bytes: ...
    def close(self, _: bytes) -> bytes: ...


class OurServer:
    """The hello reader, a session of a warm credential, its calls as the front end makes them."""

    def __init__(self, contexts: ServerContexts, credential: credentials.Credential) -> None:
        self._contexts = contexts
        self._credential = credential
        self._session: Session

    def greet(self, data: bytes) -> bytes:
        reader = HelloReader()
        assert reader.feed(data) is not None
        self._session = self._contexts.session(self._credential, None)
        return self.shake(reader.raw)

    def shake(self, data: bytes) -> bytes:
        self._session.handshake(data)
        return self._session.outgoing()

    def take(self, data: bytes) -> bytes:
        return self._session.read(data)

    def give(self, data: bytes) -> bytes:
        self._session.write(data)
        return self._session.outgoing()

    def close(self, _: bytes) -> bytes:
        self._session.close()
        return self._session.outgoing()


class PythonServer:
    """Python's ``ssl``, as asyncio drives it, with one context made beforehand."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject

    def greet(self, data: bytes) -> bytes:
        self._tls = self._context.wrap_bio(self._in, self._out, server_side=True)
        return self.shake(data)

    def shake(self, data: bytes) -> bytes:
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    def take(self, data: bytes) -> bytes:
        self._in.write(data)
        chunks = []
        try:
            while True:
                chunks.append(self._tls.read(256 * 1024))
        except ssl.SSLWantReadError:
            return b"".join(chunks)

    def give(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._out.read()

    def close(self, _: bytes) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()


class Client:
    """Not measured. ``session`` resumes."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=NAME, session=session)

    def shake(self, data: bytes = b"") -> bytes:
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def take(self, data: bytes) -> int:
        self._in.write(data)
        size = 0
        try:
            while True:
                size += len(self.tls.read(256 * 1024))
        except ssl.SSLWantReadError:
            return size

    def give(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self._out.read()


class Stopwatch:
    """Adds up the CPU of the calls made through it."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(
        self, calls: Iterable[Callable[[bytes], bytes]], data: Iterable[bytes]
    ) -> list[bytes]:
        """Make each call with its data, in a row as a busy server would."""
        begin = time.process_time_ns()
        answers = [call(one) for call, one in zip(calls, data, strict=True)]
        self.ns += time.process_time_ns() - begin
        return answers


def visits(servers: Sequence[Server], clients: Sequence[Client], watch: Stopwatch) -> None:
    """Shake hands, all at the same pace: clients' work between would leave the caches cold."""
    flights = watch([server.greet for server in servers], [client.shake() for client in clients])
    answers = _each(clients, Client.shake, flights)
    while any(answers):
        flights = watch([server.shake for server in servers], answers)
        answers = _each(clients, Client.shake, flights)


def whole_visits(servers: Sequence[Server], clients: Sequence[Client], watch: Stopwatch) -> None:
    """Handshakes, one small request and answer each, close_notify."""
    visits(servers, clients, watch)
    exchange(servers, clients, watch)
    watch([server.close for server in servers], [b""] * len(servers))


def exchange(servers: Sequence[Server], clients: Sequence[Client], watch: Stopwatch) -> None:
    """A small request and its answer on each connection."""
    wire = [client.give(REQUEST) for client in clients]
    assert set(watch([server.take for server in servers], wire)) == {REQUEST}
    answers = watch([server.give for server in servers], [ANSWER] * len(servers))
    assert set(_each(clients, Client.take, answers)) == {len(ANSWER)}


def full_visits(make: Callable[[], Server], context: ssl.SSLContext) -> Once:
    """A new session each time."""

    def once(watch: Stopwatch) -> None:
        whole_visits([make() for _ in CROWD], [Client(context) for _ in CROWD], watch)

    return once


def resumed_visits(make: Callable[[], Server], context: ssl.SSLContext) -> Once:
    """Each visit uses the ticket that the one before was given."""
    clients = [Client(context) for _ in CROWD]
    whole_visits([make() for _ in CROWD], clients, Stopwatch())

    def once(watch: Stopwatch) -> None:
        nonlocal clients
        clients = [Client(context, client.tls.session) for client in clients]
        whole_visits([make() for _ in CROWD], clients, watch)
        assert all(client.tls.session_reused for client in clients)

    return once


def keep_alive(make: Callable[[], Server], context: ssl.SSLContext) -> Once:
    """A request and an answer on connections that stand."""
    servers, clients = [make() for _ in CROWD], [Client(context) for _ in CROWD]
    visits(servers, clients, Stopwatch())
    return lambda watch: exchange(servers, clients, watch)


def download(make: Callable[[], Server], context: ssl.SSLContext) -> Once:
    """64 KiB encrypted, on one connection."""
    server, client = make(), Client(context)
    visits([server], [client], Stopwatch())

    def once(watch: Stopwatch) -> None:
        for wire in watch([server.give] * len(CROWD), [CHUNK] * len(CROWD)):
            assert client.take(wire) == len(CHUNK)

    return once


def upload(make: Callable[[], Server], context: ssl.SSLContext) -> Once:
    """64 KiB decrypted, on one connection."""
    server, client = make(), Client(context)
    visits([server], [client], Stopwatch())

    def once(watch: Stopwatch) -> None:
        wire = [client.give(CHUNK) for _ in CROWD]
        assert set(watch([server.take] * len(CROWD), wire)) == {CHUNK}

    return once


def report(title: str, ours: Once, theirs: Once) -> None:
    """Print one line: medians, quartiles, and the median of the ratios of neighbours."""
    pairs = [(_measured(ours), _measured(theirs)) for _ in range(BATCHES + 1)][1:]  # warm by then
    cells = [_spread([pair[side] for pair in pairs]) for side in (0, 1)]
    ratio = statistics.median(mine / other for mine, other in pairs)
    print(f"{title:<34}{cells[0]:>22}{cells[1]:>22}{ratio:>8.2f}", flush=True)


def _measured(once: Once) -> float:
    """Return the microseconds of one, as the mean over a crowd."""
    watch = Stopwatch()
    once(watch)
    return watch.ns / len(CROWD) / 1e3


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def _each(
    clients: Sequence[Client], method: Callable[[Client, bytes], Answer], data: Iterable[bytes]
) -> list[Answer]:
    return [method(client, one) for client, one in zip(clients, data, strict=True)]


def python_context(issued: Issued) -> ssl.SSLContext:
    """Load a certificate the only way Python's ``ssl`` has: from a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "site.pem")
        path.write_bytes(issued.pem())
        context.load_cert_chain(path)
    return context


def main() -> None:
    """Print the table."""
    print(f"ours: {SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()}; ssl: {ssl.OPENSSL_VERSION}")
    print(f"us of server CPU; median of {BATCHES} batches of {len(CROWD)} (quartiles)\n")
    print(f"{'':<34}{'ours':>22}{'ssl':>22}{'ratio':>8}")
    authority = Authority()
    trusting = ssl.create_default_context(cadata=authority.root_pem.decode())
    trusting_1_2 = ssl.create_default_context(cadata=authority.root_pem.decode())
    trusting_1_2.maximum_version = ssl.TLSVersion.TLSv1_2
    contexts = ServerContexts()
    key_types: tuple[KeyType, ...] = ("ec-p256", "rsa-2048")
    for key_type in key_types:
        issued = authority.issue(NAME, key_type=key_type)
        credential = credentials.decode(issued.pem(), key=f"{NAME}.pem", passwords=())
        python = python_context(issued)

        def ours(credential: credentials.Credential = credential) -> Server:
            return OurServer(contexts, credential)

        def theirs(python: ssl.SSLContext = python) -> Server:
            return PythonServer(python)

        for version, client in (("TLS 1.3", trusting), ("TLS 1.2", trusting_1_2)):
            for name, kind in (("full", full_visits), ("resumed", resumed_visits)):
                report(f"{key_type} {version} {name}", kind(ours, client), kind(theirs, client))
    for name, kind in (
        ("300 B request, 1 KiB answer", keep_alive),
        ("64 KiB out", download),
        ("64 KiB in", upload),
    ):
        report(name, kind(ours, trusting), kind(theirs, trusting))


if __name__ == "__main__":
    main()
