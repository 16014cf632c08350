"""Table 5: from a file that was replaced to the new certificate that is served."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from bench import peers
from bench.load import percentile
from bench.tables import Table
from centcert.testing import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.file_server import FileServer
    from bench.scene import Scene
    from bench.sites import Sites

NODES = 20
PATIENCE_S = 30.0
NOTE = (
    "The file is replaced by a rename, over SMB where there is a Samba; then every node is asked in"
    " turn, by handshakes, until it serves the new certificate: a round over 20 nodes takes some"
    " tens of milliseconds, which are in the figures. Requests are those that Samba counted, the"
    " writer's own included, for one renewal on all nodes: each node opens and reads the file, and"
    " asks for the next change."
)


def tables(scene: Scene) -> Iterator[Table]:
    """Measure one node on a folder, one on Samba, and many on one Samba."""
    times = 10 if scene.quick else 50
    served = scene.sites(50)
    rows = []
    with scene.running([peers.CENTCERT], served) as servers:
        rows.append(("1 node, folder", *_renew(servers, served, times, None)))
    with scene.file_server(served) as files:
        for count in (1, NODES):
            with contextlib.ExitStack() as stack:
                servers = [
                    stack.enter_context(scene.start(peers.CENTCERT, served, file_server=files))
                    for _ in range(count)
                ]
                row = _renew(servers, served, times, files)
            rows.append((f"{count} node{'s' * (count > 1)}, SMB", *row))
    columns = ("nodes", "p50, ms", "p99, ms", "last node, p50, ms", "store requests a renewal")
    yield Table(f"{times} renewals", columns, rows, (NOTE,))


def _renew(
    servers: Sequence[peers.Running], served: Sites, times: int, files: FileServer | None
) -> tuple[str, ...]:
    authority = Authority()
    name = served.names[0]
    every, last = [], []
    for server in servers:
        peers.served_certificate(server.port, name)
    before = {} if files is None else _requests(files)
    for _ in range(times):
        issued = authority.issue(name)
        if files is None:
            began = _replace(served.folder / f"{name}.pem", issued.pem())
        else:
            began = files.replace(f"{name}.pem", issued.pem())
        leaf = issued.certificate.public_bytes(Encoding.DER)
        seen = _watch(servers, name, leaf, began)
        every += seen
        last.append(max(seen))
    shown = ""
    if files is not None:
        spent = {kind: count - before[kind] for kind, count in _requests(files).items()}
        shown = ", ".join(f"{kind} {count / times:.1f}" for kind, count in spent.items())
    figures = (percentile(every, 50), percentile(every, 99), percentile(last, 50))
    return (*(f"{figure * 1000:,.0f}" for figure in figures), shown)


def _replace(file: Path, pem: bytes) -> float:
    new = file.with_suffix(".new")
    new.write_bytes(pem)
    began = time.monotonic()
    new.replace(file)
    return began


def _watch(servers: Sequence[peers.Running], name: str, leaf: bytes, began: float) -> list[float]:
    """Return how many seconds after ``began`` each server was seen to serve ``leaf``.

    Raises:
        TimeoutError: one does not.
    """
    seen: list[float] = []
    waiting = list(servers)
    while waiting:
        for server in tuple(waiting):
            if peers.served_certificate(server.port, name) == leaf:
                waiting.remove(server)
                seen.append(time.monotonic() - began)
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(f"{len(waiting)} nodes still serve the old certificate.")
    return seen


def _requests(files: FileServer) -> dict[str, int]:
    time.sleep(1.0)  # nodes and Samba come to rest
    return files.requests()
