"""Table 2: how long a server takes to start with many names, and what they take of memory."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import peers, processes
from bench.tables import Table, ratios, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.load import Load
    from bench.scene import Scene
    from bench.sites import Sites

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

HONEST_NAMES: Final = 100
HONEST_RATE: Final = 100
LISTED_PER_S: Final = 100_000
"""More than a second lists: so many names a second of visits, and the listing outlasts them."""


def tables(scene: Scene) -> Iterator[Table]:
    """Measure starts with ever more names, a listing of most, and names that were visited."""
    sizes = [1, 1_000, 10_000] if scene.quick and not scene.full else [1, 1_000, 10_000, 100_000]
    sizes += [1_000_000] if scene.full else []
    listed = max(100_000, sizes[-1])
    patience_s = 30 if scene.quick else 120
    cells: dict[str, list[str]] = {peer.name: [] for peer in SERVERS}
    given_up: set[str] = set()
    for size in sizes:
        for peer in SERVERS:
            cell = "" if peer.name in given_up else _start(scene, peer, size, patience_s)
            if cell.startswith("over"):
                given_up.add(peer.name)
            cells[peer.name].append(cell)
        if size not in {1, listed}:
            shutil.rmtree(scene.scratch / f"shared-{size}")
    columns = ("server", *(f"{size:,} names" for size in sizes))
    rows = [(name, *values) for name, values in cells.items()]
    yield Table("Start, and memory at rest", columns, rows, NOTES)
    yield _listing(scene, listed)
    shutil.rmtree(scene.scratch / f"shared-{listed}")
    yield _warm(scene)


def _start(scene: Scene, peer: peers.Peer, size: int, patience_s: float) -> str:
    served = scene.shared_sites(size)
    try:
        with scene.start(peer, served, patience_s=patience_s) as server:
            server.cpu_us(patience_s)
            return f"{server.started_s:.2f} s, {server.memory_bytes() / 1e6:,.0f} MB"
    except TimeoutError:
        return f"over {patience_s:.0f} s"


def _listing(scene: Scene, count: int) -> Table:
    """Visit a few names while the store is quiet, then while it is listed, in turns."""
    turns = 2 if scene.quick else 5
    with scene.start(peers.CENTCERT, scene.shared_sites(1)) as one:
        one.cpu_us()
        bare = one.memory_bytes()
    served = scene.shared_sites(count)
    client = replace(scene.load(served), names=_honest(scene, served), parallel=500)
    with scene.start(peers.CENTCERT, served, patience_s=120) as server:
        server.cpu_us(120)
        memory = server.memory_bytes()
        for _ in range(3):
            client.visit(server.port, HONEST_NAMES).check()
        rounds = [
            [_p50_p99(client, server, served, listing=listing) for listing in (False, True)]
            for _ in range(turns)
        ]
    quiet, during = zip(*rounds, strict=True)
    shown = [
        " / ".join(f"{statistics.median(column):.2f}" for column in zip(*figures, strict=True))
        for figures in (quiet, during)
    ]
    ratio = ratios([p99 for _, p99 in during], [p99 for _, p99 in quiet])
    a_name = f"{(memory - bare) / count:.0f} bytes"
    columns = ("names", "quiet, p50 / p99 ms", "listing", "p99 ratio (quartiles)", "memory a name")
    note = (
        f"Centcert serve. Visitors come {HONEST_RATE} times a second to {HONEST_NAMES} warm names,"
        " before and while the folder is listed and memory compared with it; medians of"
        f" {turns} turns. Memory at rest, less that with one name."
    )
    row = (f"{count:,}", *shown, spread(ratio, 2), a_name)
    return Table("Handshakes while the store is listed", columns, [row], (note,))


def _p50_p99(
    client: Load, server: peers.Running, served: Sites, *, listing: bool
) -> tuple[float, float]:
    if listing:
        served.folder.chmod(0o755)  # rights may have changed: everything is looked at again
    visits = HONEST_RATE * served.count // LISTED_PER_S
    met = replace(client, rate=HONEST_RATE).visit(server.port, visits).check()
    server.cpu_us(120)  # until the listing is over
    return met.percentile_ms(50), met.percentile_ms(99)


def _honest(scene: Scene, served: Sites) -> Path:
    names = scene.scratch / "honest"
    names.write_text("".join(f"{name}\n" for name in served.names[:HONEST_NAMES]))
    return names


def _warm(scene: Scene) -> Table:
    """Compare one name with many, each visited until it is warm, with a certificate of its own."""
    count = 1_000 if scene.quick else 10_000
    measured: list[tuple[str, peers.Peer, tuple[str, ...], Callable[[peers.Running], int]]] = [
        (peer.name, peer, (), peers.Running.memory_bytes) for peer in SERVERS
    ]
    workers = f"{peers.CENTCERT.name}, the provider of 2 workers"
    measured.append((workers, peers.CENTCERT, ("--workers", "2"), _provider_bytes))
    rows = []
    for name, peer, options, memory in measured:
        few, many = (_visited(scene, peer, size, options, memory) for size in (1, count))
        rows.append((name, f"{(many - few) / count / 1000:.1f} KB"))
    note = "ECDSA P-256, a chain of two: the memory with all names visited, less that with one."
    return Table(f"Memory of a warm name, of {count:,}", ("server", "a name"), rows, (note,))


def _visited(
    scene: Scene,
    peer: peers.Peer,
    size: int,
    options: tuple[str, ...],
    memory: Callable[[peers.Running], int],
) -> int:
    served = scene.sites(size)
    client = replace(scene.load(served), bytes=16)
    with scene.start(peer, served, options=options) as server:
        for _ in range(3):  # Centcert makes a second visitor's context, and a third finds it
            client.visit(server.port, size).check()
        server.cpu_us()
        return memory(server)


def _provider_bytes(server: peers.Running) -> int:
    """Return the memory of the one process of several that has begun the decoder."""
    (decoder,) = (
        pid
        for pid in server.pids
        if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    stat = Path(f"/proc/{decoder}/stat").read_text()
    return processes.memory_bytes([int(stat.rpartition(")")[2].split()[1])])
