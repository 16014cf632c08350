"""``centcert`` as a process, and what its clients and backends need."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PATIENCE_S = 20.0
CENTCERT = [sys.executable, "-m", "centcert"]


class Served:
    """``centcert serve`` with ``arguments``; used with ``with``, it listens, and ends at the end.

    Its lines on standard error are ``lines``. ``command``: what takes its place.
    """

    def __init__(
        self, *arguments: str | Path, command: Sequence[str] = (*CENTCERT, "serve")
    ) -> None:
        self.lines: list[str] = []
        self._state = tempfile.TemporaryDirectory(prefix="centcert-state-")
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CENTCERT_CONFIG": "", "STATE_DIRECTORY": self._state.name},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def __enter__(self) -> Self:
        self.addresses = self.announced()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._state.cleanup()

    @property
    def address(self) -> tuple[str, int]:
        return self.addresses[0]

    @property
    def where(self) -> str:
        """The first address as programs take it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def line(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Wait for a line that matches ``pattern``, among those after the first ``after``."""
        end = time.monotonic() + PATIENCE_S
        with self._more:
            while True:
                for line in self.lines[after:]:
                    if match := re.search(pattern, line):
                        return match
                left_s = end - time.monotonic()
                assert left_s > 0, f"no line {pattern!r} among {self.lines}"
                assert self.process.poll() is None or self._reader.is_alive(), self.lines
                self._more.wait(min(left_s, 0.2))

    def announced(self, *, after: int = 0) -> list[tuple[str, int]]:
        """Wait until it says where it serves."""
        said = self.line(r"^Serving certificates from .* on (.*)\.$", after=after)[1]
        pairs = [address.rpartition(":") for address in said.split(", ")]
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]

    def reload(self) -> list[tuple[str, int]]:
        """Let it read its settings again; return where it listens then."""
        before = len(self.lines)
        self.process.send_signal(signal.SIGHUP)
        return self.announced(after=before)

    def memory_bytes(self) -> int:
        """The most memory it has held so far (proc(5), VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        return int(peak[1]) * 1024
