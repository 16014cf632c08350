"""What the SMB client costs, beside smbprotocol, on a private Samba on this machine.

    python bench/smb.py [--rounds 5] [--files 10000 100000]

Prints a median of the rounds and the spread (lowest to highest) for each figure. The
client's CPU is this process's own, user and system; smbd's is not in it. smbprotocol
is measured both ways it can be used: its file objects, and one compound by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import smbclient  # type: ignore[import-untyped]
import uvloop
from smbprotocol.open import (  # type: ignore[import-untyped]
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
)

from centcert import smb3
from centcert.demo.samba import PrivateSamba

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

BLOB_BYTES = 4_000
FETCHES = 2_000
PARALLEL = 16
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Cost:
    """One round: seconds a call, wall and CPU, and the median call."""

    wall_s: float
    cpu_s: float
    p50_s: float


class Figures:
    """Every figure, by what it is of, one value a round."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, what: str, value: float) -> None:
        """Take one round's."""
        self._values.setdefault(what, []).append(value)

    def median(self, what: str) -> float:
        """Of all rounds."""
        return statistics.median(self._values[what])

    def show(self) -> None:
        """Print them all."""
        for what, values in self._values.items():
            middle, low, high = statistics.median(values), min(values), max(values)
            print(f"{what:<58} {middle:>10.3f}   ({low:.3f} to {high:.3f})")


def timed(call: Callable[[], object], count: int) -> Cost:
    """Run ``call`` so many times."""
    times = []
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(spent[0] / count, spent[1] / count, statistics.median(times))


async def timed_async(call: Callable[[], Awaitable[object]], count: int) -> Cost:
    """Run ``call`` so many times, one after the other."""
    times = []
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(spent[0] / count, spent[1] / count, statistics.median(times))


async def connected(samba: PrivateSamba, share: str = PrivateSamba.share) -> smb3.Connection:
    """Connect as the account."""
    login = smb3.PasswordLogin(samba.username, samba.password)
    return await smb3.connect(samba.host, share, login, port=samba.port, timeout_s=PATIENCE_S)


async def measure_client(samba: PrivateSamba, figures: Figures, loop: str) -> None:
    """Fetch, miss, stat and connect."""
    connection = await connected(samba)

    async def fetch() -> None:
        file = await connection.fetch("www.pfx", max_bytes=262_144, timeout_s=PATIENCE_S)
        assert file is not None
        assert len(file.data) == BLOB_BYTES

    await timed_async(fetch, 200)
    cost = await timed_async(fetch, FETCHES)
    figures.add(f"centcert, {loop}: CPU a warm fetch, ms", cost.cpu_s * 1e3)
    figures.add(f"centcert, {loop}: fetches/s, one at a time", 1 / cost.wall_s)
    figures.add(f"centcert, {loop}: fetch p50, ms", cost.p50_s * 1e3)

    async def worker() -> None:
        for _ in range(FETCHES // PARALLEL):
            await fetch()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(PARALLEL)))
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    figures.add(f"centcert, {loop}: fetches/s, {PARALLEL} at once", FETCHES / spent)
    figures.add(f"centcert, {loop}: CPU a fetch, {PARALLEL} at once, ms", cpu / FETCHES * 1e3)

    async def miss() -> None:
        assert await connection.fetch("no.pfx", max_bytes=9, timeout_s=PATIENCE_S) is None

    async def stat() -> None:
        await connection.stat("www.pfx", timeout_s=PATIENCE_S)

    for what, call in (("miss", miss), ("stat", stat)):
        figures.add(f"centcert, {loop}: {what} p50, ms", (await timed_async(call, 500)).p50_s * 1e3)
    await connection.close()

    async def connect() -> None:
        (await connected(samba)).abort()

    cost = await timed_async(connect, 20)
    figures.add(f"centcert, {loop}: connect p50, ms", cost.p50_s * 1e3)
    figures.add(f"centcert, {loop}: CPU a connect, ms", cost.cpu_s * 1e3)


async def measure_notification(samba: PrivateSamba, figures: Figures) -> None:
    """From a rename in the folder to the change in hand."""
    connection = await connected(samba)
    temporary, target = samba.folder / "tmp", samba.folder / "renamed.pfx"
    times = []
    async with await connection.watch(timeout_s=PATIENCE_S) as watch:
        for _ in range(50):
            temporary.touch()
            seen: set[str] = set()
            while "tmp" not in seen:
                seen |= {change.name for change in await anext(watch) or ()}
            began = time.perf_counter()
            temporary.rename(target)
            while "renamed.pfx" not in seen:
                seen |= {change.name for change in await anext(watch) or ()}
            times.append(time.perf_counter() - began)
    await connection.close()
    figures.add("centcert: notification of a rename p50, ms", statistics.median(times) * 1e3)


async def measure_listing(samba: PrivateSamba, figures: Figures, count: int) -> None:
    """List a large folder, and feel how long it holds up the loop."""
    connection = await connected(samba)
    delays: list[float] = []

    async def feel_the_loop() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            delays.append(time.perf_counter() - began - 0.001)

    feeling = asyncio.create_task(feel_the_loop())
    began, cpu = time.perf_counter(), time.process_time()
    entries = await connection.list_folder(str(count), timeout_s=PATIENCE_S)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    feeling.cancel()
    assert len(entries) == count
    await connection.close()
    figures.add(f"centcert: listing of {count:,} files, s", spent)
    figures.add(f"centcert: CPU of a listing of {count:,}, s", cpu)
    figures.add(f"centcert: longest loop delay in a listing of {count:,}, ms", max(delays) * 1e3)


@contextlib.contextmanager
def other_session(samba: PrivateSamba) -> Iterator[dict[str, object]]:
    """Connect smbprotocol as the same account, encrypted."""
    options: dict[str, object] = {"port": samba.port, "connection_cache": {}}
    account = {"username": samba.username, "password": samba.password}
    smbclient.register_session(samba.host, **account, encrypt=True, auth_protocol="ntlm", **options)
    yield options
    smbclient.reset_connection_cache(connection_cache=options["connection_cache"])


def measure_other(samba: PrivateSamba, figures: Figures) -> None:
    """Fetch with smbprotocol."""
    path = rf"\\{samba.host}\{samba.share}\www.pfx"
    with other_session(samba) as options:

        def open_and_read() -> None:
            with smbclient.open_file(path, mode="rb", buffering=0, **options) as file:
                assert len(file.read()) == BLOB_BYTES

        tree, _ = smbclient._pool.get_smb_tree(path, **options)  # noqa: SLF001  as its own code does

        def compound() -> None:
            file = Open(tree, "www.pfx")
            messages = [
                file.create(
                    ImpersonationLevel.Impersonation,
                    FilePipePrinterAccessMask.GENERIC_READ,
                    0,
                    ShareAccess.FILE_SHARE_READ,
                    CreateDisposition.FILE_OPEN,
                    CreateOptions.FILE_NON_DIRECTORY_FILE,
                    send=False,
                ),
                file.read(0, 65_536, send=False),
                file.close(get_attributes=False, send=False),
            ]
            requests = tree.session.connection.send_compound(
                [message for message, _ in messages],
                tree.session.session_id,
                tree.tree_connect_id,
                related=True,
            )
            answers = [
                unpack(request) for (_, unpack), request in zip(messages, requests, strict=True)
            ]
            assert len(answers[1]) == BLOB_BYTES

        for what, call in (("open_file", open_and_read), ("one compound", compound)):
            timed(call, 50)
            cost = timed(call, FETCHES // 4)
            figures.add(f"smbprotocol, {what}: CPU a warm fetch, ms", cost.cpu_s * 1e3)
            figures.add(f"smbprotocol, {what}: fetches/s, one at a time", 1 / cost.wall_s)
            figures.add(f"smbprotocol, {what}: fetch p50, ms", cost.p50_s * 1e3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 100_000], metavar="N")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="smb"))
    figures = Figures()
    try:
        with PrivateSamba(root) as samba:
            (samba.folder / "www.pfx").write_bytes(secrets.token_bytes(BLOB_BYTES))
            for count in arguments.files:
                (samba.folder / str(count)).mkdir()
                for number in range(count):
                    (samba.folder / str(count) / f"site-{number:06}.example.com.pfx").touch()
            # Turn by turn, so that a change of the machine's mood meets both alike.
            for _ in range(arguments.rounds):
                asyncio.run(measure_client(samba, figures, "asyncio"))
                uvloop.run(measure_client(samba, figures, "uvloop"))
                measure_other(samba, figures)
                uvloop.run(measure_notification(samba, figures))
                for count in arguments.files:
                    uvloop.run(measure_listing(samba, figures, count))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"median of {arguments.rounds} rounds (lowest to highest); a file of {BLOB_BYTES} bytes")
    figures.show()
    mine = figures.median("centcert, uvloop: CPU a warm fetch, ms")
    for what in ("open_file", "one compound"):
        theirs = figures.median(f"smbprotocol, {what}: CPU a warm fetch, ms")
        print(f"CPU a warm fetch: {mine / theirs:.3f} of smbprotocol's with {what}")


if __name__ == "__main__":
    main()
