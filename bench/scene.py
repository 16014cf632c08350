"""What all tables share: scratch space, cores, how much to measure; and rounds in turns."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import load, peers, processes, sites
from bench.file_server import FileServer, file_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.sites import Sites
    from centcert.testing import KeyType


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and how much is measured.

    Attributes:
        scratch: a folder that is emptied afterwards.
        cores: the server's and the visitors'.
        program: the compiled load client.
        backend_port: where the backend listens, on the visitors' core.
        quick: a few minutes for all tables; the spread is wider.
        full: also what takes many minutes or gigabytes.
    """

    scratch: Path
    cores: processes.Cores
    program: Path
    backend_port: int
    quick: bool = False
    full: bool = False

    @property
    def rounds(self) -> int:
        """How often each figure is taken; a first time beforehand is not counted."""
        return 5 if self.quick else 15

    def sites(self, count: int, key_type: KeyType = "ec-p256") -> Sites:
        """Return ``count`` names, each with a certificate of its own; made at most once."""
        root = self.scratch / f"sites-{key_type}-{count}"
        return sites.found(root, count) if root.exists() else sites.issue(root, count, key_type)

    def shared_sites(self, count: int) -> Sites:
        """Return ``count`` names that share one certificate; made at most once."""
        root = self.scratch / f"shared-{count}"
        return sites.found(root, count) if root.exists() else sites.share(root, count)

    def load(self, served: Sites) -> load.Load:
        """Return a client of these names, on its core; ``dataclasses.replace`` says how it is."""
        return load.Load(self.program, self.cores.client, served.names_file)

    def start(
        self,
        peer: peers.Peer,
        served: Sites,
        *,
        patience_s: float = 30.0,
        file_server: FileServer | None = None,
        root: Path | None = None,
        cores: Sequence[int] = (),
        options: tuple[str, ...] = (),
    ) -> peers.Running:
        """Start a server.

        Args:
            peer: which.
            served: names and certificates.
            patience_s: until its first handshake.
            file_server: for Centcert: read from there.
            root: its folder, to start it again with what it has written; else a new one.
            cores: where it runs; none: on the server's.
            options: for Centcert: more arguments of ``centcert serve``.

        Raises:
            TimeoutError: there was no handshake in time.
        """
        if root is None:
            root = Path(tempfile.mkdtemp(dir=self.scratch))
            root.chmod(0o755)
        plan = peers.Plan(
            root,
            served,
            load.free_port(),
            self.backend_port,
            store=None if file_server is None else file_server.url,
            options=(*options, *(() if file_server is None else file_server.options)),
        )
        return peers.Running(peer, plan, cores or (self.cores.server,), patience_s=patience_s)

    @contextlib.contextmanager
    def running(self, chosen: Sequence[peers.Peer], served: Sites) -> Iterator[list[peers.Running]]:
        """Run servers beside each other; those that are not measured wait and cost nothing."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.start(peer, served)) for peer in chosen]

    def file_server(self, served: Sites) -> contextlib.AbstractContextManager[FileServer]:
        """Serve the certificates by Samba, on the visitors' core: it is another machine."""
        root = Path(tempfile.mkdtemp(dir=self.scratch, prefix="smb"))
        return file_server(root, served.folder, self.cores.client)

    def in_turns(
        self,
        servers: Sequence[peers.Running],
        measure: Callable[[peers.Running], float],
    ) -> dict[str, list[float]]:
        """Take a figure of each server, round by round, never one server twice in a row.

        Every second round goes backwards, so that nobody always comes after the same one.
        """
        backwards = [*reversed(servers[:-1]), servers[-1]]
        figures: dict[str, list[float]] = {server.peer.name: [] for server in servers}
        for number in range(self.rounds + 1):
            for server in backwards if number % 2 else servers:
                figure = measure(server)
                if number:  # the first warms up
                    figures[server.peer.name].append(figure)
        return figures


def cpu_of_visits(
    server: peers.Running, client: load.Load, count: int, behind_s: float = 0.0
) -> float:
    """Return the server's CPU time for a visit, in microseconds.

    Also for what it does when it has rested for less than ``behind_s``.
    """
    with client.start("visit", server.port, count) as visitors:
        visitors.wait_ready()
        before = server.cpu_us()
        result = visitors.result().check()
    if client.resume and result.resumed < result.done:
        raise RuntimeError(f"{server.peer.name} resumed {result.resumed} of {result.done}.")
    time.sleep(behind_s)
    return (server.cpu_us() - before) / count


def machine() -> str:
    """Describe this machine in one line."""
    model = "an unnamed processor"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"


def python() -> str:
    """Say which Python this is: those of distributions are a twentieth faster than plain builds."""
    builder = "built by hand"
    if sys.base_prefix == "/usr":
        builder = f"of {platform.freedesktop_os_release()['NAME']}"
    return f"{platform.python_version()}, {builder}"
