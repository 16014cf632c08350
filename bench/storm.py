"""Table 4: the storm after a restart: all names are visited at once while nothing is in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.file_server import FileServer
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
PARALLEL = 256
NOTE = (
    f"{PARALLEL} visitors at once, the next when one has its answer, until each name was visited"
    " once. The restart is a kill and a start; Centcert finds the sealed copies of its last run,"
    " and asks the store for each name all the same. Latency: to the end of the handshake."
)


def tables(scene: Scene) -> Iterator[Table]:
    """Restart each server and visit all its names."""
    count = 1_000 if scene.quick else 10_000
    served = scene.sites(count)
    rows = [_row(scene, peer, served, None) for peer in SERVERS]
    with scene.file_server(served) as files:
        rows.append(_row(scene, peers.CENTCERT, served, files))
    columns = ("server", "until it serves, s", "until all are warm, s", "p50 / p99, ms", "refused")
    yield Table(f"A restart with {count:,} names, all visited", columns, rows, (NOTE,))


def _row(
    scene: Scene, peer: peers.Peer, served: Sites, files: FileServer | None
) -> tuple[str, ...]:
    client = replace(scene.load(served), bytes=16, parallel=PARALLEL)
    with scene.start(peer, served, file_server=files, patience_s=120) as before:
        client.visit(before.port, served.count)
        root = before.root
    with scene.start(peer, served, file_server=files, patience_s=120, root=root) as server:
        result = client.visit(server.port, served.count)
    return (
        peer.name if files is None else f"{peer.name}, SMB",
        f"{server.started_s:.2f}",
        f"{server.started_s + result.seconds:.2f}",
        f"{result.percentile_ms(50):,.0f} / {result.percentile_ms(99):,.0f}",
        f"{result.refused + result.failed}",
    )
