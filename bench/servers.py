"""Before all tables: does every server that is compared serve every name as it must?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scene import Scene

NAMES = 20


def tables(scene: Scene) -> Iterator[Table]:
    """Start each, visit each name: new, resumed, and by TLS 1.2.

    Raises:
        RuntimeError: a server refused somebody, or served a wrong certificate.
        TimeoutError: one did not start; says what it wrote.
    """
    rows = []
    for peer in peers.ALL:
        served = scene.sites(1 if peer is peers.NGINX_STREAM else NAMES)
        client = replace(scene.load(served), bytes=16, warm=NAMES)
        with scene.start(peer, served) as server:
            full = client.visit(server.port, NAMES).check()
            resumed = replace(client, resume=True).visit(server.port, NAMES).check()
            old = replace(client, tls=12).visit(server.port, NAMES).check()
        done = (f"{full.done}", f"{resumed.resumed}", f"{old.done}")
        rows.append((peer.name, peer.read_version(), *done))
    columns = ("server", "version", "full", "resumed", "TLS 1.2")
    yield Table(f"{NAMES} visits of each kind", columns, rows)
