"""``centcert trace`` and ``status``, metrics and the log in JSON, beside ``centcert serve``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from centcert.cli.journal import LogLine
from centcert.control import NodeStatus, Status, Trace, ask
from centcert.scrapes import MAX_AT_ONCE
from centcert.testing import Authority
from centcert.tracing import Traced, TracedHandshake, TracedLine
from tests.interop.conftest import echo, running_backend
from tests.served import CENTCERT, PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

NAME = "www.contoso.example"
FIRST, SECOND, COUNTED = "first.example", "second.example", "counted.example"
TENANT = "one.tenants.example"
UNVISITED = "unvisited.tenants.example"
UNKNOWN = "nobody.example"
ENVIRONMENT = {**os.environ, "CENTCERT_CONFIG": "", "COLUMNS": "80"}


class Node:
    def __init__(self, served: Served, folder: Path, authority: Authority) -> None:
        self.served = served
        self.control = folder / "control.sock"
        self.store = folder / "store"
        self._trusting = ssl.create_default_context(cadata=authority.root_pem.decode())

    def visit(self, name: str | None, *, check: bool = True) -> None:
        """Shake hands; with or without success, as ``check`` says."""
        context = self._trusting
        if name is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(self.served.address, PATIENCE_S) as tcp:
            try:
                with context.wrap_socket(tcp, server_hostname=name):
                    assert check
            except (ssl.SSLError, ConnectionError):
                assert not check

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CENTCERT, *arguments, "--control", str(self.control)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=ENVIRONMENT,
        )

    def status(self) -> NodeStatus:
        return asyncio.run(ask(self.control, Status(), NodeStatus))

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        where = self.served.line(r"^Metrics are at (http://.*)\.$")[1]
        with urllib.request.urlopen(where, timeout=PATIENCE_S) as page:  # noqa: S310
            text = page.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


class Tracing:
    """``centcert trace`` as a process; used with ``with``, it follows the node."""

    def __init__(self, node: Node, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*CENTCERT, "trace", *arguments, "--control", str(node.control)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        assert self.said.startswith("Following handshakes of "), self.said
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, output and what it said at last."""
        output, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, said


def handshakes(output: str) -> list[TracedHandshake]:
    traced = [msgspec.json.decode(line, type=Traced) for line in output.splitlines()]
    return [one for one in traced if isinstance(one, TracedHandshake)]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@contextmanager
def running(authority: Authority, folder: Path) -> Iterator[Node]:
    store = folder / "store"
    store.mkdir()
    for name in (NAME, FIRST, SECOND, COUNTED):
        (store / f"{name}.pfx").write_bytes(authority.issue(name).pfx())
    (store / "_.tenants.example.pfx").write_bytes(authority.issue("*.tenants.example").pfx())
    with (
        running_backend(echo) as backend,
        Served(
            *("--store", store, "--listen", "127.0.0.1:0", "--to", backend),
            *("--control", folder / "control.sock", "--metrics", "127.0.0.1:0"),
        ) as served,
    ):
        yield Node(served, folder, authority)


@pytest.fixture(scope="module")
def node(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(authority, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def own_node(authority: Authority, tmp_path: Path) -> Iterator[Node]:
    """A node that nobody has visited, and that may be ended."""
    with running(authority, tmp_path) as node:
        yield node


# --- trace ----------------------------------------------------------------------------------


def masked(output: str) -> str:
    """Mask what differs from run to run: times, ports, sizes."""
    output = re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "HH:MM:SS.mmm", output)
    output = re.sub(r" *\d+\.\d ms", " T ms", output)
    output = re.sub(r"127\.0\.0\.1:\d+", "CLIENT", output)
    output = re.sub(r"\d+ bytes", "N bytes", output)
    output = re.sub(r"TLSv1\.3, \w+, TLS_\w+", "FACTS", output)
    return "\n".join(line.rstrip() for line in output.splitlines())


def test_handshakes_are_shown_live_step_by_step(node: Node):
    with Tracing(node, "--count", "4") as tracing:
        assert tracing.said == (
            "Following handshakes of every name; times are in UTC, Ctrl-C ends.\n"
        )
        node.visit(FIRST)
        node.visit(FIRST)
        node.visit(UNVISITED)
        node.visit(UNKNOWN, check=False)
        code, output, said = tracing.end()
    assert (code, said) == (0, "")
    assert (
        masked(output)
        == f"""\
HH:MM:SS.mmm  CLIENT  {FIRST}
 T ms  client hello   N bytes, asks for {FIRST}
 T ms  fetch          {FIRST}.pfx: N bytes T ms
 T ms  decode         {FIRST}.pfx T ms
 T ms  look-up        {FIRST}.pfx answers
 T ms  server hello   N bytes with the certificate
 T ms  done           FACTS

HH:MM:SS.mmm  CLIENT  {FIRST}
 T ms  client hello   N bytes, asks for {FIRST}
 T ms  look-up        {FIRST}.pfx is in memory
 T ms  server hello   N bytes with the certificate
 T ms  done           FACTS

HH:MM:SS.mmm  CLIENT  {UNVISITED}
 T ms  client hello   N bytes, asks for {UNVISITED}
 T ms  fetch          _.tenants.example.pfx: N bytes T ms
 T ms  decode         _.tenants.example.pfx T ms
 T ms  look-up        _.tenants.example.pfx answers
 T ms  server hello   N bytes with the certificate
 T ms  done           FACTS

HH:MM:SS.mmm  CLIENT  {UNKNOWN}
 T ms  client hello   N bytes, asks for {UNKNOWN}
 T ms  refused        alert unrecognized_name (112): The store holds no certificate for {UNKNOWN}.
"""
    )


@pytest.mark.parametrize(
    ("pattern", "names"),
    [(NAME.upper(), [NAME]), ("*.tenants.example", [TENANT, "two.tenants.example"])],
)
def test_a_trace_of_some_names_leaves_the_others_out(node: Node, pattern: str, names: list[str]):
    with Tracing(node, pattern, "--json", "--count", str(len(names))) as tracing:
        for name in (UNKNOWN, "a.b.tenants.example"):
            node.visit(name, check=False)
        node.visit(None, check=False)
        for name in (NAME, TENANT, "two.tenants.example"):
            node.visit(name)
        code, output, _ = tracing.end()
    assert code == 0
    assert [one.name for one in handshakes(output)] == names


def test_each_handshake_is_a_line_of_json(node: Node):
    with Tracing(node, "--json", "--count", "3") as tracing:
        node.visit(SECOND)
        node.visit("a\x1b[31m b.example", check=False)
        with socket.create_connection(node.served.address):
            pass
        code, output, _ = tracing.end()
    assert code == 0
    assert "\x1b" not in output
    done, refused, left = handshakes(output)
    assert (done.outcome, done.name, done.key) == ("done", SECOND, f"{SECOND}.pfx")
    assert done.version == "TLSv1.3"
    steps = ["client hello", "fetch", "decode", "look-up", "server hello", "done"]
    assert [step.step for step in done.steps] == steps
    times = [step.at_s for step in done.steps]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] <= done.duration_s
    assert (refused.outcome, refused.reason) == ("refused", "name-refused")
    assert refused.alert == "unrecognized_name"
    assert refused.name == "a\\x1b[31m b.example"
    assert (left.outcome, left.name) == ("left", None)
    assert left.client.startswith("127.0.0.1:")


def test_news_of_the_store_is_told_meanwhile(node: Node, authority: Authority):
    node.visit(NAME)
    with Tracing(node, NAME, "--json") as tracing:
        new = node.store / ".new"
        new.write_bytes(authority.issue(NAME).pfx())
        new.replace(node.store / f"{NAME}.pfx")
        assert tracing.process.stdout is not None
        told = msgspec.json.decode(tracing.process.stdout.readline(), type=Traced)
    assert isinstance(told, TracedLine)
    assert (told.line.event, told.line.name) == ("renewed", NAME)


def test_it_ends_at_an_interrupt(node: Node):
    with Tracing(node) as tracing:
        tracing.process.send_signal(signal.SIGINT)
        assert tracing.end() == (130, "", "\n")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_it_ends_when_nobody_reads_it_any_more(node: Node, arguments: tuple[str, ...]):
    with Tracing(node, *arguments) as tracing:
        assert tracing.process.stdout is not None
        tracing.process.stdout.close()
        node.visit(NAME)
        assert tracing.process.wait(PATIENCE_S) == 1  # by click
        assert tracing.process.stderr is not None
        assert tracing.process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_node(own_node: Node, number: signal.Signals):
    node = own_node
    with Tracing(node) as tracing:
        node.served.process.send_signal(number)
        assert tracing.end() == (1, "", "centcert: The node has stopped.\n")


def test_wrong_names_and_counts_are_wrong_usage(node: Node):
    said = node.ask("trace", "*.*.example")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("centcert: '*.example' is not a host name: ")
    assert node.ask("trace", "--count", "0").returncode == 2


def test_without_a_node_there_is_nothing_to_trace(tmp_path: Path):
    path = tmp_path / "control.sock"
    command = [*CENTCERT, "trace", "--control", str(path)]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=ENVIRONMENT
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(f"centcert: No running node answers at {path}: start one")


def test_who_does_not_read_slows_no_handshake_and_is_told_what_it_missed(node: Node):
    node.visit(NAME)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(str(node.control))
        deaf.sendall(msgspec.json.encode(Trace()) + b"\n")
        assert deaf.recv(1 << 10) == b'{"type":"tracing"}\n'
        hello = b"\x16\x03\x01\x00\x05nobod"  # no hello, but refused, as fast as we can
        for _ in range(2_500):
            with socket.create_connection(node.served.address, PATIENCE_S) as client:
                client.sendall(hello)
        node.visit(NAME)
        deaf.settimeout(PATIENCE_S)
        rest = b""
        while b'"left-out"' not in rest:
            piece = deaf.recv(1 << 16)
            assert piece
            rest += piece
    left_out = json.loads(next(line for line in rest.splitlines() if b"left-out" in line))
    assert 0 < left_out["count"] < 2_501
    until(lambda: node.status().connections == 0)
    node.visit(NAME)


# --- status -----------------------------------------------------------------------------------


def test_the_status_for_people(own_node: Node):
    node = own_node
    node.visit(NAME)
    node.visit(NAME)
    node.visit(UNKNOWN, check=False)
    until(lambda: node.status().connections == 0)
    said = node.ask("status")
    assert (said.returncode, said.stderr) == (0, "")
    as_json = node.ask("status", "--json")
    assert as_json.returncode == 0
    assert msgspec.json.decode(as_json.stdout, type=NodeStatus).counters == node.status().counters
    output = re.sub(r"\b(\d+ (d|h|min|s))( \d+ (h|min|s))?\b", "AGE", said.stdout)
    output = re.sub(r"centcert \d[\w.]*", "centcert VERSION", output)
    output = re.sub(r"\d+ KiB", "N KiB", output)
    assert (
        output
        == f"""\
store         {node.store}
              reachable for AGE, watched; 5 files when listed AGE ago
node          up AGE, centcert VERSION
connections   0 now, 3 since the start
handshakes    2 done (2 TLSv1.3), 1 refused, 0 left by the client
  refused     1 unknown-name
look-ups      3, 33.3 % answered from memory
  others      1 absent, 1 found
memory        1 name, N KiB of 256 MiB
certificates  1 in memory, 0 expired, 0 expire within 30 days
  first       {NAME}.pfx, in AGE
findings      none
"""
    )


def test_the_status_says_when_the_store_went_away(own_node: Node):
    node = own_node
    node.visit(NAME)
    assert node.status().health.state == "reachable"
    node.store.rename(node.store.with_name("away"))
    until(lambda: node.status().health.state == "unreachable")
    health = node.status().health
    assert not health.watched
    assert health.since is not None
    assert abs(health.since - time.time()) < PATIENCE_S
    node.store.with_name("away").rename(node.store)
    until(lambda: node.status().health.watched)
    assert node.status().health.state == "reachable"


# --- metrics ------------------------------------------------------------------------------------


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


def test_what_happens_is_counted(node: Node):
    before = node.metrics()
    left = node.status().counters.abandoned
    for _ in range(3):
        node.visit(COUNTED)
    for number in range(5):
        node.visit(f"{number}.{UNKNOWN}", check=False)
    node.visit(None, check=False)
    with socket.create_connection(node.served.address):
        pass
    until(lambda: node.status().counters.abandoned == left + 1)
    until(lambda: node.status().connections == 0)
    found = node.metrics()
    expected = {
        ("connections_accepted_total", labels()): 10,
        ("connections_turned_away_total", labels()): 0,
        ("handshakes_total", labels(outcome="done", version="TLSv1.3")): 3,
        ("handshakes_total", labels(outcome="refused", version="")): 6,
        ("handshakes_total", labels(outcome="left", version="")): 1,
        ("refusals_total", labels(reason="unknown-name", alert="unrecognized_name")): 5,
        ("refusals_total", labels(reason="no-server-name", alert="missing_extension")): 1,
        ("look_ups_total", labels(outcome="found", source="memory")): 2,
        ("look_ups_total", labels(outcome="found", source="store")): 1,
        ("look_ups_total", labels(outcome="absent", source="memory")): 5,
        ("fetch_duration_seconds_count", labels(outcome="found")): 1,
        ("fetch_duration_seconds_bucket", labels(outcome="found", le="+Inf")): 1,
        ("cache_names", labels()): 1,
    }
    changes = {
        key: found["centcert_" + key[0], key[1]] - before.get(("centcert_" + key[0], key[1]), 0)
        for key in expected
    }
    assert changes == expected
    gauges = {
        ("connections", labels()): 0,
        ("cache_limit_bytes", labels()): 256 << 20,
        ("store_state", labels(state="reachable")): 1,
        ("store_state", labels(state="unreachable")): 0,
        ("store_watched", labels()): 1,
        ("certificates_expiring", labels(within="30d")): 0,
        ("certificates_expired", labels()): 0,
    }
    assert {key: found["centcert_" + key[0], key[1]] for key in gauges} == gauges
    assert found["centcert_certificates", labels()] >= 1
    assert found["centcert_decode_duration_seconds_count", labels()] >= 1
    key = labels(key=f"{COUNTED}.pfx")
    assert found["centcert_certificate_expiry_timestamp_seconds", key] > time.time()
    assert not any(UNKNOWN in value for _, given in found for _, value in given)


def test_findings_are_counted_by_code(node: Node):
    for name in ("a.example", "b.example"):
        (node.store / f"{name}.pfx").write_bytes(b"bad")

    def are_found() -> bool:
        for name in ("a.example", "b.example"):
            node.visit(name, check=False)
        return node.metrics().get(("centcert_findings", labels(code="bad-file"))) == 2

    until(are_found)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"x" * 100_000, b""),
        (b"GET /metrics HTTP/1.1\r\nHost: LocalHost:1\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\nHost:[::1]:1\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"HTTP/1.1 421 "),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\nhost:1.evil.example:80\r\n\r\n", b"HTTP/1.1 421 "),
    ],
)
def test_other_requests_are_refused(node: Node, request_: bytes, answer: bytes):
    where = node.served.line(r"^Metrics are at http://127.0.0.1:(\d+)/metrics\.$")[1]
    with socket.create_connection(("127.0.0.1", int(where)), PATIENCE_S) as client:
        came = b""
        with suppress(ConnectionError):
            client.sendall(request_)
            while piece := client.recv(1 << 16):
                came += piece
        assert came.startswith(answer)
        assert bool(came) is bool(answer)
    assert node.metrics()


def test_silent_scrapers_keep_no_node_from_ending(own_node: Node):
    node = own_node
    where = int(node.served.line(r"^Metrics are at http://127.0.0.1:(\d+)/metrics\.$")[1])
    silent = [socket.create_connection(("127.0.0.1", where)) for _ in range(20)]
    try:
        end = time.monotonic() + PATIENCE_S
        turned_away: list[socket.socket] = []
        while len(turned_away) < 20 - MAX_AT_ONCE:
            assert time.monotonic() < end
            turned_away = select.select(silent, [], [], 0.02)[0]
        assert len(turned_away) == 20 - MAX_AT_ONCE, "the others may still ask"
        node.served.process.send_signal(signal.SIGTERM)
        assert node.served.process.wait(PATIENCE_S) == 0
    finally:
        for client in silent:
            client.close()
    assert not [line for line in node.served.lines if "fault" in line]


def test_metrics_at_a_unix_socket(authority: Authority, tmp_path: Path):
    del authority
    path = tmp_path / "metrics.sock"
    where = ("--store", tmp_path, "--listen", "127.0.0.1:0", "--to", "a:80")
    with Served(
        *where, "--control", tmp_path / "control.sock", "--metrics", f"unix:{path}"
    ) as served:
        served.line(rf"^Metrics are at unix:{path}\.$")
        assert path.stat().st_mode & 0o777 == 0o660
        page = subprocess.run(
            ["curl", "-sS", "--unix-socket", path, "http://localhost/metrics"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        names = {family.name for family in text_string_to_metric_families(page.stdout)}
        assert "centcert_handshakes" in names
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
    assert not path.exists()


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "192.0.2.1:9443", "example.com:1"])
def test_metrics_are_for_this_machine_only(address: str, tmp_path: Path):
    where = ("--store", str(tmp_path), "--listen", "127.0.0.1:0", "--to", "a:80")
    said = subprocess.run(
        [*CENTCERT, "serve", *where, "--metrics", address],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=ENVIRONMENT,
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        f"centcert: metrics: listen: {address!r} can be reached from elsewhere, and metrics are for"
        " this machine: write 127.0.0.1:PORT, [::1]:PORT or unix:/path.\n"
    )


# --- the log in JSON ----------------------------------------------------------------------------


def test_each_line_of_the_log_is_json(authority: Authority, tmp_path: Path):
    store, settings = tmp_path / "store", tmp_path / "centcert.toml"
    store.mkdir()
    settings.write_text('[log]\nformat = "json"\n')
    (store / f"{NAME}.pfx").write_bytes(b"bad")
    served = Served(
        *("--config", settings, "--store", store, "--listen", "127.0.0.1:0", "--to", "a:80"),
        *("--control", tmp_path / "control.sock"),
    )
    try:
        serving = served.line(r'"event":"serving"').string
        port = re.search(r"127\.0\.0\.1:(\d+)", serving)
        assert port is not None
        served.addresses = [("127.0.0.1", int(port[1]))]
        node = Node(served, tmp_path, authority)
        node.visit("a\x1b]0;x\x07.example", check=False)
        served.line(r'"event":"handshake-refused"')
        node.visit(NAME, check=False)
        served.line(r'"reason":"blob-damaged".*"alert"')
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        served.line(r'"event":"stopping"')
    finally:
        served.__exit__(None, None, None)
    assert all(line.isprintable() for line in served.lines)
    lines = [msgspec.json.decode(line, type=LogLine) for line in served.lines]
    assert all(abs(line.time.timestamp() - time.time()) < 4 * PATIENCE_S for line in lines)
    strange, bad = [line for line in lines if line.event == "handshake-refused"]
    assert (strange.name, strange.reason) == ("a\\x1b]0;x\\x07.example", "name-refused")
    assert strange.alert == "unrecognized_name"
    assert strange.client is not None
    assert strange.client.startswith("127.0.0.1:")
    assert (bad.name, bad.reason, bad.alert) == (NAME, "blob-damaged", "internal_error")
    (unusable,) = [line for line in lines if line.event == "bad-file"]
    assert (unusable.subject, unusable.level) == (f"{NAME}.pfx", "warning")
    assert lines[-1].sentence == "Stopping; connections have 30 s to finish."


def test_an_unknown_format_is_wrong_usage(tmp_path: Path):
    where = ("--store", str(tmp_path), "--listen", "127.0.0.1:0", "--to", "a:80")
    said = subprocess.run(
        [*CENTCERT, "serve", *where, "--log-format", "xml"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=ENVIRONMENT,
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("centcert: log.format: ")
