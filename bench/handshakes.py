"""Table 1: what a handshake costs a server."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import peers
from bench.scene import cpu_of_visits
from bench.tables import compared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scene import Scene
    from bench.tables import Table
    from centcert.testing import KeyType

NAMES = 100
SERVERS = (
    peers.NGINX,
    peers.NGINX_VARIABLE,
    peers.NGINX_LUA,
    peers.HAPROXY,
    peers.CADDY,
    peers.CADDY_ASKING,
    peers.ENVOY,
    peers.BARE_LOOP,
    peers.CENTCERT_ANSWERING,
    peers.HAPROXY_TCP,
    peers.HITCH,
    peers.ENVOY_TCP,
    peers.BARE_RELAY,
    peers.CENTCERT,
)
NOTE = (
    "A visit is a connection, a handshake, a request of 16 bytes of answer, and the end. HAProxy"
    " TCP, hitch, Envoy TCP and Centcert serve connect to a backend for it; the others answer"
    " themselves. Caddy with get_certificate includes the process that it asks."
)


def tables(scene: Scene) -> Iterator[Table]:
    """Measure full handshakes with both usual keys, resumed ones, and those of TLS 1.2."""
    count = 100 if scene.quick else 400
    kinds: tuple[tuple[str, KeyType, int, bool], ...] = (
        ("TLS 1.3, ECDSA P-256, full handshake", "ec-p256", 13, False),
        ("TLS 1.3, RSA-2048, full handshake", "rsa-2048", 13, False),
        ("TLS 1.3, ECDSA P-256, resumed", "ec-p256", 13, True),
        ("TLS 1.2, ECDSA P-256, full handshake", "ec-p256", 12, False),
        ("TLS 1.2, ECDSA P-256, resumed", "ec-p256", 12, True),
    )
    for title, key_type, tls, resume in kinds:
        served = scene.sites(NAMES, key_type)
        client = replace(
            scene.load(served), bytes=16, tls=tls, resume=resume, warm=NAMES if resume else 0
        )
        measure = functools.partial(cpu_of_visits, client=client, count=count)
        with scene.running(SERVERS, served) as servers:
            for server in servers:
                client.visit(server.port, NAMES).check()  # every name once: all are warm
            figures = scene.in_turns(servers, measure)
        yield compared(title, "us of CPU", figures, peers.NGINX.name, notes=(NOTE,))
