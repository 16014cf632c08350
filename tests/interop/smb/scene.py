"""``centcert serve`` with its store on a share, and what tshark sees of both."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba

PATIENCE_S = 20.0

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE = "1", "2", "11"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


class Lines:
    """What a program writes, line by line, as it comes."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.program.stdout is not None
        with self.program.stdout as lines:
            for line in lines:
                self.seen.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.program.poll() is None:
            self.program.send_signal(signal.SIGINT)
        try:
            self.program.wait(PATIENCE_S)
        finally:
            self.program.kill()
            self._thread.join()

    def count(self, part: str) -> int:
        return sum(part in line for line in self.seen)


def started(*command: str, environment: dict[str, str] | None = None) -> Lines:
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return Lines(program)


@dataclass(frozen=True)
class FrontEnd:
    """A ``centcert serve`` that runs."""

    port: int
    journal: Lines
    ca_file: Path

    def visit(self, name: str, *options: str) -> str:
        """Shake hands as ``openssl s_client`` does; return what it says, verified or not."""
        made = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}"),
                *("-servername", name, "-verify_hostname", name, "-verify_return_error"),
                *("-CAfile", str(self.ca_file), "-no-CApath", "-no-CAstore", *options),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return made.stdout + made.stderr


@contextlib.contextmanager
def serving(
    samba: PrivateSamba,
    tmp_path: Path,
    *options: str,
    share: str | None = None,
    port: int | None = None,
) -> Iterator[FrontEnd]:
    password_file = tmp_path / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(samba.password + "\n")
    with (
        reserved_port() as free,
        socket.create_server(("127.0.0.1", 0)) as backend,
        started(
            *(sys.executable, "-m", "centcert", "serve"),
            *("--store", f"smb://127.0.0.1:{samba.port}/{share or samba.share}"),
            *("--username", samba.username, "--password-file", str(password_file)),
            *(
                "--listen",
                f"127.0.0.1:{port or free}",
                "--to",
                f"127.0.0.1:{backend.getsockname()[1]}",
            ),
            *("--grace", "0 s", *options),
            environment={"STATE_DIRECTORY": str(tmp_path / "state")},
        ) as journal,
    ):
        until(lambda: journal.count("Serving certificates") or journal.program.poll() is not None)
        assert journal.program.poll() is None, journal.seen
        yield FrontEnd(port or free, journal, tmp_path / "ca.pem")


@dataclass(frozen=True)
class Packet:
    """One TCP segment with data; what tshark says of it: handshake types, alert codes."""

    source: int
    target: int
    data: bytes
    tls: tuple[str, ...]
    alerts: tuple[str, ...]


class Capture:
    """tshark on loopback; ``mark`` puts a packet into it that can be found again."""

    def __init__(self, file: Path, *ports: int) -> None:
        self._file = file
        self._pokes = socket.socket()
        self._pokes.bind(("127.0.0.1", 0))  # and not listening: refused, but seen
        self._poke_port = self._pokes.getsockname()[1]
        wanted = " or ".join(f"tcp port {port}" for port in (*ports, self._poke_port))
        self._lines = started(
            *("tshark", "-i", "lo", "-f", wanted, "-w", str(file), "-P", "-l", "-n"),
            *("-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tcp.len"),
        )

    def __enter__(self) -> Self:
        until(lambda: self._lines.count("Capturing on"))
        self.mark()
        return self

    def __exit__(self, *_: object) -> None:
        with self._pokes, self._lines:
            self.mark()

    def mark(self) -> None:
        """Have everything up to now in the capture."""
        before = len(self._lines.seen)

        def poked() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self._poke_port)).close()
            return any(f"\t{self._poke_port}\t" in line for line in self._lines.seen[before:])

        until(poked)

    def seen_of(self, port: int) -> int:
        """How many packets with data the server on ``port`` was sent and has sent."""
        fields = [line.split("\t") for line in self._lines.seen]
        return sum(
            len(one) == 3 and str(port) in one[:2] and one[2] not in {"", "0"} for one in fields
        )

    def packets(self, tls_port: int) -> list[Packet]:
        """Everything with data, in the order of the wire."""
        made = subprocess.run(
            [
                *("tshark", "-r", str(self._file), "-n", "-d", f"tcp.port=={tls_port},tls"),
                *("-Y", "tcp.len > 0", "-T", "fields", "-E", "occurrence=a"),
                *("-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tcp.payload"),
                *("-e", "tls.handshake.type", "-e", "tls.alert_message.desc"),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        packets = []
        for line in made.stdout.splitlines():
            source, target, data, tls, alert = line.split("\t")
            types = tuple(tls.split(",")) if tls else ()
            alerts = tuple(alert.split(",")) if alert else ()
            packets.append(Packet(int(source), int(target), bytes.fromhex(data), types, alerts))
        return packets
