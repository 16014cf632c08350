"""Table 7: honest visitors while others ask for a hundred thousand made-up names a minute."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import peers
from bench.sites import unknown
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.file_server import FileServer
    from bench.load import Load
    from bench.scene import Scene

SERVERS = (peers.NGINX_VARIABLE, peers.NGINX_LUA, peers.CADDY_ASKING, peers.CENTCERT)
NAMES = 100
HONEST_RATE = 100
FLOOD_RATE = 100_000 // 60
NOTE = (
    f"Honest visitors come {HONEST_RATE} times a second to {NAMES} warm names, the others"
    f" {FLOOD_RATE:,} times, each with another name. Store requests are those that Samba counted."
)


@dataclass(frozen=True, slots=True)
class Visitors:
    """Those who are served, those who are not, and for how long."""

    honest: Load
    strangers: Load
    seconds: int

    def meet(self, server: peers.Running, files: FileServer | None) -> tuple[str, ...]:
        """Return a row: latencies before and during, store requests, refused, memory."""
        self.honest.visit(server.port, NAMES).check()
        before = self.honest.visit(server.port, HONEST_RATE * self.seconds).check()
        memory = server.memory_bytes()
        asked = _asked(files)
        with self.strangers.start("visit", server.port, FLOOD_RATE * self.seconds) as flood:
            flood.wait_ready()
            flood.go()
            during = self.honest.visit(server.port, HONEST_RATE * self.seconds)
            met = flood.result()
        ratio = during.percentile_ms(99) / before.percentile_ms(99)
        return (
            f"{before.percentile_ms(50):.2f} / {before.percentile_ms(99):.2f}",
            f"{during.percentile_ms(50):.2f} / {during.percentile_ms(99):.2f}",
            f"{ratio:.2f}",
            f"{during.refused + during.failed}",
            f"{met.done + met.refused:,}",
            "" if files is None else f"{_asked(files) - asked}",
            f"{(server.memory_bytes() - memory) / 1e6:+.1f} MB",
        )


def tables(scene: Scene) -> Iterator[Table]:
    """Measure those that look names up; the file server only for Centcert."""
    seconds = 5 if scene.quick else 60
    served = scene.sites(NAMES)
    names: Path = unknown(scene.scratch / "unknown", FLOOD_RATE * seconds)
    visitors = Visitors(
        honest=replace(scene.load(served), parallel=500, rate=HONEST_RATE),
        strangers=replace(scene.load(served), names=names, parallel=2_000, rate=FLOOD_RATE),
        seconds=seconds,
    )
    rows = []
    for peer in SERVERS:
        with scene.start(peer, served) as server:
            rows.append((peer.name, *visitors.meet(server, None)))
    with (
        scene.file_server(served) as files,
        scene.start(peers.CENTCERT, served, file_server=files) as server,
    ):
        rows.append((f"{peers.CENTCERT.name}, SMB", *visitors.meet(server, files)))
    columns = (
        "server",
        "quiet, p50 / p99 ms",
        "flood",
        "p99 ratio",
        "honest refused",
        "strangers answered",
        "store requests",
        "memory",
    )
    yield Table(f"{FLOOD_RATE * seconds:,} unknown names in {seconds} s", columns, rows, (NOTE,))


def _asked(files: FileServer | None) -> int:
    if files is None:
        return 0
    time.sleep(0.5)  # Samba writes its counts now and then
    return sum(files.requests().values())
