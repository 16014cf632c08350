"""Table 2: how long a server takes to start with many names, and what they take of memory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scene import Scene

SERVERS = (
    peers.NGINX,
    peers.NGINX_VARIABLE,
    peers.NGINX_LUA,
    peers.HAPROXY,
    peers.HITCH,
    peers.CADDY,
    peers.ENVOY,
    peers.CENTCERT,
)
NOTES = (
    (
        "From the start of the process to the first handshake that succeeds, and the memory once"
        " it has come to rest. All names share one certificate here, each in a file of its own."
    ),
    "A server that took too long, or ended, is not asked for more names.",
)


def tables(scene: Scene) -> Iterator[Table]:
    """Measure starts with ever more names, then what a name takes that has been visited."""
    sizes = [1, 1_000, 10_000] if scene.quick else [1, 1_000, 10_000, 100_000]
    sizes += [1_000_000] if scene.full else []
    patience_s = 30 if scene.quick else 120
    cells: dict[str, list[str]] = {peer.name: [] for peer in SERVERS}
    given_up: set[str] = set()
    for size in sizes:
        for peer in SERVERS:
            cell = "" if peer.name in given_up else _start(scene, peer, size, patience_s)
            if cell.startswith("over"):
                given_up.add(peer.name)
            cells[peer.name].append(cell)
        shutil.rmtree(scene.scratch / f"shared-{size}")
    columns = ("server", *(f"{size:,} names" for size in sizes))
    rows = [(name, *values) for name, values in cells.items()]
    yield Table("Start, and memory at rest", columns, rows, NOTES)
    yield _warm(scene)


def _start(scene: Scene, peer: peers.Peer, size: int, patience_s: float) -> str:
    served = scene.shared_sites(size)
    try:
        with scene.start(peer, served, patience_s=patience_s) as server:
            server.cpu_us(patience_s)
            return f"{server.started_s:.2f} s, {server.memory_bytes() / 1e6:,.0f} MB"
    except TimeoutError:
        return f"over {patience_s:.0f} s"


def _warm(scene: Scene) -> Table:
    """Compare one name with many, each visited until it is warm, with a certificate of its own."""
    count = 1_000 if scene.quick else 10_000
    rows = []
    for peer in SERVERS:
        few, many = (_visited(scene, peer, size) for size in (1, count))
        rows.append((peer.name, f"{(many - few) / count / 1000:.1f} KB"))
    note = "ECDSA P-256, a chain of two: the memory with all names visited, less that with one."
    return Table(f"Memory of a warm name, of {count:,}", ("server", "a name"), rows, (note,))


def _visited(scene: Scene, peer: peers.Peer, size: int) -> int:
    served = scene.sites(size)
    client = replace(scene.load(served), bytes=16)
    with scene.running([peer], served) as (server,):
        for _ in range(3):  # Centcert makes a second visitor's context, and a third finds it
            client.visit(server.port, size).check()
        server.cpu_us()
        return server.memory_bytes()
