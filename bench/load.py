"""The load client and the backend (load.c), as the tables use them. Their CPU is never counted."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from bench import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE = Path(__file__).with_name("load.c")
_POLL_S = 0.01


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client met.

    Attributes:
        done: handshakes that were completed.
        refused: handshakes that the server ended with an alert.
        failed: connections that were lost, or requests without an answer.
        wrong: certificates that do not cover the name.
        resumed: handshakes that resumed a session.
        seconds: from the first connection, or request, to the last answer.
        reason: why the first one failed.
        latencies_us: of each completed handshake; from when it was due, if there is a rate.
    """

    done: int
    refused: int
    failed: int
    wrong: int
    resumed: int
    seconds: float
    reason: str
    latencies_us: list[float]

    def percentile_ms(self, percent: int) -> float:
        """Return a percentile of the handshakes, in milliseconds."""
        return percentile(self.latencies_us, percent) / 1000

    def check(self) -> Self:
        """Return this if every visit was as it must be.

        Raises:
            RuntimeError: one was not: its cost would be that of something else.
        """
        if self.refused or self.failed or self.wrong:
            raise RuntimeError(
                f"{self.refused} refused, {self.failed} failed, {self.wrong} wrong: {self.reason}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Load:
    """A client. See load.c for the settings."""

    program: Path
    core: int
    names: Path
    parallel: int = 8
    first: int = 0
    rate: int = 0
    bytes: int = 0
    warm: int = 0
    resume: bool = False
    tls: int = 13

    def start(self, mode: str, port: int, count: int) -> Client:
        """Begin; ``mode`` is ``visit`` or ``stand``."""
        settings = [
            f"to={port}",
            f"names={self.names}",
            f"count={count}",
            f"parallel={self.parallel}",
            f"first={self.first}",
            f"rate={self.rate}",
            f"bytes={self.bytes}",
            f"warm={self.warm}",
            f"resume={int(self.resume)}",
            f"tls={self.tls}",
        ]
        with processes.pinned(self.core):
            return Client([str(self.program), mode, *settings])

    def visit(self, port: int, count: int) -> Result:
        """Make ``count`` visits and return what came of them."""
        with self.start("visit", port, count) as client:
            return client.result()


class Client:
    """A client that runs; leave it and it is ended."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_ready(self) -> None:
        """Wait until its connections stand, or what is not counted is over."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("The load client ended early.")

    def go(self) -> None:
        """Let it go on, now that the clocks are read."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def result(self) -> Result:
        """Let it go on, if it does not yet, and wait for its end."""
        output, _ = self._process.communicate(b"go\n")
        return msgspec.json.decode(output.splitlines()[-1], type=Result)


def compile_load(folder: Path) -> Path:
    """Compile load.c into ``folder`` and return the program.

    Raises:
        subprocess.CalledProcessError: the compiler said why.
    """
    target = folder / "load"
    subprocess.run(  # noqa: S603
        ["cc", "-O2", "-o", target, SOURCE, "-lssl", "-lcrypto"],  # noqa: S607
        check=True,
    )
    return target


@contextlib.contextmanager
def backend(program: Path, core: int) -> Iterator[int]:
    """Run the backend while the block runs; yield its port."""
    port = free_port()
    with Path(os.devnull).open("wb") as nowhere:
        process = processes.start([program, "backend", f"at={port}"], [core], nowhere)
        try:
            wait_for_port(port, process)
            yield port
        finally:
            processes.stop(process)


def wait_for_port(port: int, process: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """Wait until ``process`` listens there.

    Raises:
        TimeoutError: it does not, or has ended.
    """
    end = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(_POLL_S)
    raise TimeoutError(f"{process.args!r} does not listen on port {port}.")


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the ``percent``-th percentile; of one value, itself.

    Raises:
        ValueError: there are no values.
    """
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
