"""Two workers beside one: what the second core gives."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers, processes
from bench.tables import Table, ratios, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.load import Load
    from bench.scene import Scene

NAMES = 100
NOTE = (
    "Full handshakes with ECDSA P-256, as in table 1. A process can be on one core at a time: the"
    " busiest one says how many visits a second a machine with a core for each would serve, which"
    " is what the ratio is of. Visits a second are those of this run: on a machine of two cores the"
    " visitors take part of both."
)


def tables(scene: Scene) -> Iterator[Table]:
    """Measure one worker on one core, then two on two, in turns."""
    served = scene.sites(NAMES)
    count = 500 if scene.quick else 2_000
    visitors = replace(scene.load(served), bytes=16, parallel=64)
    both = sorted(os.sched_getaffinity(0))[:2]
    figures: dict[int, list[Figures]] = {1: [], 2: []}
    with (
        scene.start(peers.CENTCERT, served, cores=both[:1]) as one,
        scene.start(peers.CENTCERT, served, cores=both, options=("--workers", "2")) as two,
    ):
        for number in range(scene.rounds + 1):
            for workers, server in (1, one), (2, two):
                taken = _measure(server, visitors, count)
                if number:  # the first warms up
                    figures[workers].append(taken)
    busiest = {workers: [each[1] for each in taken] for workers, taken in figures.items()}
    rows = [
        (
            f"{workers}",
            spread([total for total, _, _ in taken]),
            spread(busiest[workers]),
            spread(ratios(busiest[1], busiest[workers]), 2),
            spread([pace for _, _, pace in taken]),
        )
        for workers, taken in figures.items()
    ]
    columns = ("workers", "us of CPU", "of the busiest process", "ratio", "visits/s")
    yield Table("Handshakes with two workers", columns, rows, (NOTE,))


Figures = tuple[float, float, float]
"""Of a visit: CPU of all processes and of the busiest one, in us; and visits a second."""


def _measure(server: peers.Running, visitors: Load, count: int) -> Figures:
    with visitors.start("visit", server.port, count) as client:
        client.wait_ready()
        server.cpu_us()
        before = {pid: processes.cpu_us([pid]) for pid in server.pids}
        result = client.result().check()
    server.cpu_us()
    spent = [processes.cpu_us([pid]) - used for pid, used in before.items()]
    return sum(spent) / count, max(spent) / count, count / result.seconds
