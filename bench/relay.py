"""Table 6: what a TLS front end costs after the handshake."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.tables import Table, compared, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.load import Load
    from bench.scene import Scene

SERVERS = (
    peers.NGINX_STREAM,
    peers.NGINX_PROXY,
    peers.HAPROXY_TCP,
    peers.HITCH,
    peers.CADDY_PROXY,
    peers.ENVOY_TCP,
    peers.BARE_RELAY,
    peers.CENTCERT,
)
BASE = peers.NGINX_STREAM.name
NOTES = ("nginx with HTTP proxy, and Caddy, read and write HTTP; the others relay bytes.",)
GIGABYTE = 10**9
MEGABYTE = 10**6
IDLE = 5_000


def tables(scene: Scene) -> Iterator[Table]:
    """Measure small answers, large answers, and connections that do nothing."""
    served = scene.sites(1)  # nginx's stream has no names
    small = replace(scene.load(served), bytes=1024, parallel=16)
    large = replace(scene.load(served), bytes=MEGABYTE, parallel=4)
    requests, downloads = (2_000, 60) if scene.quick else (10_000, 300)
    seconds: dict[str, list[float]] = {}

    def cpu_of_requests(server: peers.Running, client: Load, count: int) -> float:
        with client.start("stand", server.port, count) as visitors:
            visitors.wait_ready()
            before = server.cpu_us()
            result = visitors.result().check()
        seconds.setdefault(server.peer.name, []).append(result.seconds / count)
        return (server.cpu_us() - before) / count

    with scene.running(SERVERS, served) as servers:
        cpu = scene.in_turns(servers, lambda server: cpu_of_requests(server, small, requests))
        yield compared(
            "CPU for a keep-alive request of 1 KB", "us of CPU", cpu, BASE, digits=1, notes=NOTES
        )
        pace = {name: [1 / one for one in seconds[name][1:]] for name in cpu}
        yield compared("Requests a second on 16 connections", "requests/s", pace, BASE)
        cpu = scene.in_turns(servers, lambda server: cpu_of_requests(server, large, downloads))
        cpu_s = {
            name: [value / 1e6 * GIGABYTE / MEGABYTE for value in values]
            for name, values in cpu.items()
        }
        yield compared(
            "CPU for a gigabyte in answers of 1 MB", "s of CPU", cpu_s, BASE, digits=2, notes=NOTES
        )
    yield _idle(scene)


def _idle(scene: Scene) -> Table:
    """Measure each server once, fresh: what it frees it may keep."""
    served = scene.sites(1)
    client = replace(scene.load(served), parallel=IDLE)
    visitor = replace(scene.load(served), bytes=16)
    rows = []
    for peer in SERVERS:
        with scene.running([peer], served) as (server,):
            visitor.visit(server.port, 50).check()
            before = server.memory_bytes()
            with client.start("stand", server.port, 0) as visitors:
                visitors.wait_ready()
                used = server.memory_bytes() - before
                visitors.result().check()
        rows.append((peer.name, spread([used / IDLE / 1024], 1), spread([used / 1024**2], 0)))
    columns = ("server", "KiB a connection", f"MiB for {IDLE:,}")
    note = "The server's own memory; what the kernel holds for the sockets is not in it."
    return Table("Memory of idle connections", columns, rows, (note,))
