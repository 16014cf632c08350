"""How long ``centcert list`` takes, on a folder and on a private Samba, without and with its cache.

    python bench/inventory.py [--files 10000] [--rounds 3]

Half of the files hold RSA-2048 keys, half EC P-256, all under one password (AES-256, 2,048
rounds). Each file is read and decoded in full; of one kind they are copies of one another.
Prints the median of the rounds and their spread, for the whole command as a process, and the
CPU time that it takes with its decoders: on a busy machine that is what counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from centcert.demo.samba import PrivateSamba
from centcert.testing import Authority

PASSWORD = b"correct horse"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="inv"))
    root.chmod(0o711)
    try:
        (root / "samba").mkdir()
        with PrivateSamba(root / "samba") as samba:
            fill(samba.folder, chosen.files)
            key_password = secret(root / "key-password", PASSWORD)
            password = secret(root / "password", samba.password.encode())
            stores = {
                "folder": ["--store", str(samba.folder)],
                "Samba": [
                    *("--store", f"smb://{samba.host}:{samba.port}/{samba.share}"),
                    *("--username", samba.username, "--password-file", str(password)),
                ],
            }
            for name, store in stores.items():
                command = [*store, "--key-password-file", str(key_password)]
                measure(name, command, root / "cache", chosen.rounds)
    finally:
        shutil.rmtree(root)


def fill(folder: Path, files: int) -> None:
    """Write so many files for names below one wildcard each."""
    authority = Authority()
    rsa = authority.issue("*.rsa.example", key_type="rsa-2048").pfx(PASSWORD)
    ec = authority.issue("*.ec.example").pfx(PASSWORD)
    for number in range(files):
        kind, data = (("rsa", rsa), ("ec", ec))[number % 2]
        path = folder / f"{number}-site.{kind}.example.pfx"
        path.write_bytes(data)
        path.chmod(0o644)


def secret(path: Path, data: bytes) -> Path:
    """Write a password where only its owner reads it."""
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def measure(name: str, store: list[str], cache: Path, rounds: int) -> None:
    """Time the command with an empty cache and with a full one."""
    taken: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        for times in taken.values():
            began, cpu_s = time.perf_counter(), children_cpu_s()
            subprocess.run(  # noqa: S603  this very program
                [sys.executable, "-P", "-m", "centcert", "list", "--json", *store],
                env={**os.environ, "CACHE_DIRECTORY": str(cache), "CENTCERT_CONFIG": ""},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            times.append((time.perf_counter() - began, children_cpu_s() - cpu_s))
    for state, times in taken.items():
        wall, cpu = zip(*times, strict=True)
        spread = f"({min(wall):.1f} to {max(wall):.1f})"
        figures = f"{statistics.median(wall):6.1f} s {spread}, CPU {statistics.median(cpu):6.1f} s"
        print(f"{name:8} {state} cache  {figures}", flush=True)


def children_cpu_s() -> float:
    """Return the CPU time of all processes that ended, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
