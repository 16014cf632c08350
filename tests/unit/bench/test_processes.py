"""CPU and memory of process trees, as the bench reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALLOWED = os.sched_getaffinity(0)
CORE = min(ALLOWED)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A shell whose child uses 0.3 s and 50 MB, shares them with its own child, and rests."""
    script = tmp_path / "child.py"
    script.write_text(
        "import os, time\n"
        "held = bytearray(b'x' * 50_000_000)\n"
        "if os.fork(): time.sleep(60)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
        "print('done', flush=True)\n"
        "time.sleep(60)\n"
    )
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = ["sh", "-c", f"{sys.executable} {script}; true"]
        process = processes.start(command, [CORE], file)
    wait_until(lambda: b"done" in output.read_bytes())
    yield process
    processes.stop(process)


def test_a_tree_is_counted_whole_and_ended_whole(parent: subprocess.Popen[bytes]):
    pids = processes.tree(parent.pid)
    assert len(pids) == 3
    assert pids[0] == parent.pid
    assert 300_000 <= processes.settled_cpu_us(pids) < 5_000_000
    assert processes.cpu_us(pids[:1]) < 100_000
    assert processes.memory_bytes(pids[:1]) < 50_000_000 < processes.memory_bytes(pids) < 90_000_000
    assert all(os.sched_getaffinity(pid) == {CORE} for pid in pids)
    processes.stop(parent)
    wait_until(lambda: processes.memory_bytes(pids[1:]) == 0)


def test_a_core_is_given_back():
    with processes.pinned(CORE):
        assert os.sched_getaffinity(0) == {CORE}
    assert os.sched_getaffinity(0) == ALLOWED


def test_one_core_is_not_enough():
    with processes.pinned(CORE), pytest.raises(SystemExit, match="two cores"):
        processes.Cores.choose()


def test_who_has_ended_counts_nothing():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert processes.cpu_us([process.pid]) == 0
    assert processes.memory_bytes([process.pid]) == 0


def test_who_runs_is_busy_and_who_sleeps_is_not():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        wait_until(lambda: processes.cpu_us([spinning.pid]) > 50_000)
        assert processes.is_busy(spinning.pid)
        spinning.kill()
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        wait_until(lambda: not processes.is_busy(sleeping.pid))
        sleeping.kill()


def test_rest_is_neither_to_use_time_nor_to_wait_for_it(monkeypatch: pytest.MonkeyPatch):
    # It uses much, then waits for its core, then rests.
    used = iter([0.0, 900.0, 1_800.0, 1_800.0, 1_801.0, 1_802.0])
    busy = iter([True, False])
    monkeypatch.setattr(processes, "cpu_us", lambda _: next(used))
    monkeypatch.setattr(processes, "is_busy", lambda _: next(busy))
    assert processes.settled_cpu_us([1]) == 1_801.0


def test_who_never_rests_is_not_waited_for():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        assert processes.settled_cpu_us([spinning.pid], patience_s=0.1) > 0
        spinning.kill()
