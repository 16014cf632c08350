"""Processes as the kernel accounts for them (proc(5)), and on which core they run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RESOLUTION = "nanoseconds: the scheduler's run time of every thread, /proc/PID/task/*/schedstat"
_REST_US = 300.0
"""What a process that only waits may use in ``_REST_S``: a tick of a timer or two."""
_REST_S = 0.02


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is the server's, and which its visitors' and its backend's."""

    server: int
    client: int

    @classmethod
    def choose(cls) -> Cores:
        """Take the first two that this process may use.

        Raises:
            SystemExit: there is only one: its caches and its time would be shared.
        """
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:  # noqa: PLR2004  one for each side
            raise SystemExit("The bench needs two cores: one for the server, one for its visitors.")
        return cls(server=allowed[0], client=allowed[1])


@contextlib.contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Let what is started in this block run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(
    command: Sequence[str | Path],
    cores: Sequence[int],
    output: IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program on its cores, in a session of its own, so that ``stop`` ends all of it."""
    with pinned(*cores):
        return subprocess.Popen(  # noqa: S603  the programs of the bench
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that ``start`` began, with its descendants."""
    descendants = tree(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # all at once: nobody replaces a child
    for pid in descendants:  # and those that left the group
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> list[int]:
    """Return a process and its descendants, parents first; those that have ended are left out."""
    found, parents = [pid], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    for one in found:  # it grows meanwhile
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_us(pids: Sequence[int]) -> float:
    """Return the CPU time, user and system, that these processes have used, in microseconds."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it has ended
                total += int(thread.read_text().split()[0])
    return total / 1000


def settled_cpu_us(pids: Sequence[int], patience_s: float = 3.0) -> float:
    """Return it when they have come to rest: a connection ends a little after its client."""
    before, end = cpu_us(pids), time.monotonic() + patience_s
    while True:
        time.sleep(_REST_S)
        after = cpu_us(pids)
        rests = after - before < _REST_US and not any(map(is_busy, pids))
        if rests or time.monotonic() > end:
            return after
        before = after


def is_busy(pid: int) -> bool:
    """Say whether a thread runs, or waits for its core or a disk.

    On a busy machine one may have work and yet have used no time of late.
    """
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


def memory_bytes(pids: Sequence[int]) -> int:
    """Return their memory; what they share is counted once (Pss of smaps_rollup)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
