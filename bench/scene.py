"""What all tables share: scratch space, cores, how much to measure; and rounds in turns."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import load, peers, processes
from bench.sites import Sites, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from centcert.testing import KeyType


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and how much is measured.

    Attributes:
        scratch: a folder that is emptied afterwards.
        cores: the server's and the visitors'.
        program: the compiled load client.
        quick: a few minutes for all tables; the spread is wider.
        full: also what takes many minutes or gigabytes.
    """

    scratch: Path
    cores: processes.Cores
    program: Path
    quick: bool = False
    full: bool = False

    @property
    def rounds(self) -> int:
        """How often each figure is taken; a first time beforehand is not counted."""
        return 5 if self.quick else 15

    def sites(self, count: int, key_type: KeyType = "ec-p256") -> Sites:
        """Return ``count`` names, each with a certificate of its own; made at most once."""
        root = self.scratch / f"sites-{key_type}-{count}"
        if not root.exists():
            return issue(root, count, key_type)
        return Sites(root / "certificates", root / "names", count)

    def load(self, served: Sites) -> load.Load:
        """Return a client of these names, on its core; ``dataclasses.replace`` says how it is."""
        return load.Load(self.program, self.cores.client, served.names_file)

    def backend(self) -> contextlib.AbstractContextManager[int]:
        """Run the backend on the visitors' core; yield its port."""
        return load.backend(self.program, self.cores.client)

    @contextlib.contextmanager
    def running(self, chosen: Sequence[peers.Peer], served: Sites) -> Iterator[list[peers.Running]]:
        """Run servers beside each other; those that are not measured wait and cost nothing."""
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(self.backend())
            yield [
                stack.enter_context(
                    peers.run(peer, self.scratch / "peers", served, port, self.cores.server)
                )
                for peer in chosen
            ]

    def in_turns(
        self,
        servers: Sequence[peers.Running],
        measure: Callable[[peers.Running], float],
        rounds: int | None = None,
    ) -> dict[str, list[float]]:
        """Take a figure of each server, round by round, never one server twice in a row.

        Odd rounds go backwards, so that nobody always comes after the same neighbour.
        """
        figures: dict[str, list[float]] = {server.peer.name: [] for server in servers}
        for number in range((rounds or self.rounds) + 1):
            for server in servers if number % 2 else reversed(servers):
                figure = measure(server)
                if number:  # the first warms up
                    figures[server.peer.name].append(figure)
        return figures


def cpu_of_visits(server: peers.Running, client: load.Load, count: int) -> float:
    """Return the server's CPU time for a visit, in microseconds."""
    with client.start("visit", server.port, count) as visitors:
        visitors.wait_ready()
        before = server.cpu_us()
        result = visitors.result().check()
    if client.resume and result.resumed < result.done:
        raise RuntimeError(f"{server.peer.name} resumed {result.resumed} of {result.done}.")
    return (server.cpu_us() - before) / count


def machine() -> str:
    """Describe this machine in one line."""
    model = "an unnamed processor"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"
