"""Run the tables: ``./dev bench [NAME] [--quick] [--full] [--markdown FILE]``."""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import runpy
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import load, peers, processes
from bench.scene import Scene, machine, python
from bench.tables import put_into

TABLES = (
    "servers",
    "handshakes",
    "workers",
    "scale",
    "first_visit",
    "storm",
    "renewal",
    "relay",
    "flood",
    "simulation",
)
PROGRAMS = ("tls", "smb", "python_servers", "inventory")
"""Beside the tables: one part each, with options of its own."""


def main() -> int:
    """Run what was asked for; 1 if a table could not be made."""
    if len(sys.argv) > 1 and sys.argv[1] in PROGRAMS:
        name = sys.argv.pop(1)
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
        return 0
    arguments = _arguments()
    # For thousands of connections, in all that is started; 1024 is usual (systemd.exec(5)).
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    page: Path | None = arguments.markdown
    method = _method()
    print("\n".join(method), flush=True)
    if page is not None:
        page.write_text(
            put_into(page.read_text(), "method", "\n".join(f"- {one}" for one in method))
        )
    with tempfile.TemporaryDirectory(prefix="centcert-bench.") as scratch:
        root = Path(scratch)
        root.chmod(0o755)  # servers that give up root still read it
        cores, program = processes.Cores.choose(), load.compile_load(root)
        with load.backend(program, cores.client) as port:
            scene = Scene(root, cores, program, port, quick=arguments.quick, full=arguments.full)
            names = [arguments.name] if arguments.name else TABLES
            made = [_run(name, scene, page) for name in names]
    return 0 if all(made) else 1


def _run(name: str, scene: Scene, page: Path | None) -> bool:
    """Print the tables of one module, and put them into the page; say whether all were made."""
    began, kind = time.monotonic(), "quick, " if scene.quick else ""
    ran = (
        f"Run on {datetime.now(UTC):%Y-%m-%d}, {kind}load average {os.getloadavg()[0]:.1f} before."
    )
    module = importlib.import_module(f"bench.{name}")
    texts = []
    print(f"\n=== {name}: {str(module.__doc__).splitlines()[0]}", flush=True)
    try:
        for table in module.tables(scene):
            print(f"\n{table.text()}", flush=True)
            texts.append(table.markdown())
    except (RuntimeError, TimeoutError) as error:  # a server did not do as it must: no figures
        print(f"\n{name}: {error}", flush=True)
        return False
    print(f"\n{ran} It took {time.monotonic() - began:.0f} s.", flush=True)
    if page is not None and name != "servers":
        page.write_text(put_into(page.read_text(), name, "\n\n".join([*texts, ran])))
    return True


def _method() -> list[str]:
    versions = {peer.version: peer.read_version() for peer in peers.ALL}
    return [
        f"Machine: {machine()}.",
        "Versions: " + "; ".join(versions.values()) + ".",
        f"Python: {python()}.",
        "Each server has one worker on one core; its visitors and its backend have another.",
        f"CPU is user and system of all its processes, in {processes.RESOLUTION}.",
        "Servers take turns, round by round; figures are medians over the rounds.",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Measure Centcert beside other servers, in one run."
    )
    programs = ", ".join(PROGRAMS)
    parser.add_argument(
        "name",
        nargs="?",
        choices=TABLES,
        help=f"one table; else all ({programs}: programs of their own)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--full", action="store_true", help="also a million names")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables into a page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
