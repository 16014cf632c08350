"""Table 3: what the first visit to a name costs, from a folder and from a file server."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.load import Result
from bench.scene import cpu_of_visits
from bench.tables import Table, compared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scene import Scene
    from bench.sites import Sites

SERVERS = (
    peers.NGINX_VARIABLE,
    peers.NGINX_LUA,
    peers.CADDY_ASKING,
    peers.CENTCERT_ANSWERING,
    peers.CENTCERT,
)
RATES = (250, 500)
"""New names a second; with the second of these, a core is as good as full."""
BEHIND_S = 2.0
"""Centcert writes its copies once nothing more has come for a tenth of a second."""
NOTE = (
    "From connecting to the end of the handshake, one visit at a time; at a pace, from when the"
    " visit was due. The file server is a Samba on this machine, on the visitors' core; what goes"
    " to and from it is encrypted. nginx with a variable has no other visits than first ones."
)


def tables(scene: Scene) -> Iterator[Table]:
    """Measure CPU beside those that read local files, then latency with the file server too."""
    batch = 50 if scene.quick else 100
    served = scene.sites(batch * (scene.rounds + 1))
    begun: dict[str, int] = {}

    def measure(server: peers.Running) -> float:
        first = begun.get(server.peer.name, 0)
        begun[server.peer.name] = first + batch
        client = replace(scene.load(served), bytes=16, first=first)
        return cpu_of_visits(server, client, batch, BEHIND_S)

    with scene.running(SERVERS, served) as servers:
        figures = scene.in_turns(servers, measure)
    yield compared(
        "CPU for a first visit, local files, ECDSA P-256",
        "us of CPU",
        figures,
        peers.NGINX_VARIABLE.name,
        notes=(
            (
                "A visit as in table 1, to a name that was never visited. Centcert serve connects"
                " to a backend and writes a sealed copy, too; the others answer by themselves."
            ),
        ),
    )
    yield _latencies(scene)


def _latencies(scene: Scene) -> Table:
    singles, seconds = (200, 2) if scene.quick else (1_000, 10)
    served = scene.sites(1 + singles + seconds * sum(RATES))
    rows = []
    for peer in SERVERS:
        with scene.start(peer, served) as server:
            name = f"{peer.name}, folder" if peer is peers.CENTCERT else peer.name
            rows.append((name, *_latency(scene, server, served, singles, seconds)))
    with (
        scene.file_server(served) as files,
        scene.start(peers.CENTCERT, served, file_server=files) as server,
    ):
        name = f"{peers.CENTCERT.name}, SMB"
        rows.append((name, *_latency(scene, server, served, singles, seconds)))
    paces = (f"{kind} at {rate}/s" for kind in ("first", "warm") for rate in RATES)
    columns = ("server", "first", "warm", "added, p50", *paces, "refused")
    return Table("Latency of a first visit, ECDSA P-256, in ms: p50 / p99", columns, rows, (NOTE,))


def _latency(
    scene: Scene, server: peers.Running, served: Sites, singles: int, seconds: int
) -> tuple[str, ...]:
    """Visit the first names one at a time and the others at a pace.

    Each three times: what a second visit still has to make is in neither figure.
    """
    # ``Running`` has visited the first name: the connection to the store stands.
    one = replace(scene.load(served), parallel=1, first=1)
    cold = one.visit(server.port, singles).check()
    _, warm = (one.visit(server.port, singles).check() for _ in range(2))
    storms, calms, begun = list[Result](), list[Result](), 1 + singles
    for rate in RATES:
        many = replace(scene.load(served), parallel=2_000, rate=rate, first=begun)
        begun += seconds * rate
        storm, _, calm = (many.visit(server.port, seconds * rate) for _ in range(3))
        storms.append(storm)
        calms.append(calm)
    added_us = statistics.median(cold.latencies_us) - statistics.median(warm.latencies_us)
    refused = sum(storm.refused + storm.failed for storm in storms)
    return (
        *map(_shown, (cold, warm)),
        f"{added_us / 1000:.2f}",
        *map(_shown, (*storms, *calms)),
        f"{refused}",
    )


def _shown(result: Result) -> str:
    return f"{result.percentile_ms(50):.2f} / {result.percentile_ms(99):.2f}"
