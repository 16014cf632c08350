"""A run: faults one after another in random order, clients all the time, and what came of it."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.faults import FAULTS, WELL
from tests.chaos.world import Tally, Unrecovered, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.faults import Fault

MOST_GROWTH: Final = 1.5
"""Memory at the end as a share of that at the start; the names and faults are the same ones."""

SHOWN: Final = 20


@dataclass(slots=True)
class Report:
    """What came of a run.

    Attributes:
        seed: leads to the same faults in the same order.
        minutes: how long it took.
        injected: how often each fault was.
        longest_s: the longest time from the fault to the moment when all was well again.
        tally: what came of the handshakes.
        unrecovered: what did not come to what must come by itself.
        rss_bytes: memory of all the node's processes, at the start and at the end.
    """

    seed: int
    minutes: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    unrecovered: list[str] = field(default_factory=list)
    rss_bytes: tuple[int, int] = (0, 0)

    @property
    def faults_found(self) -> list[str]:
        """Everything that must not be, in words."""
        tally = self.tally
        found = [f"wrong: {case}" for case in tally.wrong]
        found += [f"failed: {case}" for case in tally.failed]
        found += [f"not recovered: {case}" for case in self.unrecovered]
        start, end = self.rss_bytes
        if end > start * MOST_GROWTH:
            found.append(f"memory grew from {start:,} to {end:,} bytes")
        if tally.right == 0:
            found.append("nobody was served")
        return found

    def __str__(self) -> str:
        """Return the table."""
        tally = self.tally
        rows = [f"{'fault':<32} {'injected':>8} {'until well, s':>14}"]
        rows += [
            f"{kind:<32} {times:>8} {self.longest_s.get(kind, float('nan')):>14.1f}"
            for kind, times in sorted(self.injected.items())
        ]
        refused = ", ".join(f"{alert} {n}" for alert, n in sorted(tally.refused.items()))
        start, end = (f"{size / 1024**2:.0f} MiB" for size in self.rss_bytes)
        for title, value in (
            ("faults injected", self.injected.total()),
            ("minutes, seed", f"{self.minutes:.1f}, {self.seed}"),
            ("handshakes", tally.handshakes),
            ("right", tally.right),
            ("refused as stated", f"{tally.refused.total()} ({refused})"),
            ("cut by the node's own end", tally.cut),
            ("wrong", len(tally.wrong)),
            ("failed", len(tally.failed)),
            ("lost names", len(tally.lost)),
            ("not recovered", len(self.unrecovered)),
            ("slowest handshake", f"{tally.slowest_s:.2f} s"),
            ("memory at start, end", f"{start}, {end}"),
        ):
            rows.append(f"{title:<32} {value:>8}")
        found = self.faults_found
        rows += found[:SHOWN]
        if len(found) > SHOWN:
            rows.append(f"… and {len(found) - SHOWN} more")
        return "\n".join(rows)


async def run(
    seed: int,
    *,
    minutes: float,
    per_s: float = 25.0,
    hold_s: float = 2.0,
    workers: str = "1",
    faults: Sequence[Fault] = FAULTS,
    say: Callable[[str], object] = print,
) -> Report:
    """Inject each of ``faults`` once, in random order, and again until the time is up."""
    # Not below a folder that is closed to others: Samba's account must come through.
    home = Path(tempfile.mkdtemp(prefix="chaos"))
    report, began = Report(seed), time.monotonic()
    dice = random.Random(seed)  # noqa: S311  to be repeated
    try:
        async with World(home, dice, hold_s=hold_s, workers=workers) as world:
            report.tally = world.tally
            visits = asyncio.create_task(world.visits(per_s))
            try:
                await world.warm()
                at_start = world.node.rss_bytes()
                while not report.injected or time.monotonic() < began + minutes * 60:
                    for fault in dice.sample(faults, len(faults)):
                        what = str(fault.__doc__).partition("\n")[0]
                        say(f"{time.monotonic() - began:7.1f} s  {what}")
                        await _inject(world, fault, report)
                        if visits.done():  # they never end by themselves
                            visits.result()
                report.rss_bytes = at_start, world.node.rss_bytes()
            except Unrecovered as error:
                report.unrecovered.append(str(error))
                lines = [line for line in world.node.lines if "which asked for" not in line]
                report.unrecovered.append("the node said: " + "\n  ".join(lines[-SHOWN:]))
            finally:
                visits.cancel()
                with suppress(asyncio.CancelledError):
                    await visits
    finally:
        shutil.rmtree(home, ignore_errors=True)
    report.minutes = (time.monotonic() - began) / 60
    return report


async def _inject(world: World, fault: Fault, report: Report) -> None:
    kind = fault.__name__.replace("_", " ")
    world.injecting = kind
    world.trouble = fault not in WELL
    report.injected[kind] += 1
    began = time.monotonic()
    try:
        await fault(world)
        await world.recovered()
    except Unrecovered as error:
        raise Unrecovered(f"{kind}: {error}") from None
    took_s = time.monotonic() - began
    report.longest_s[kind] = max(took_s, report.longest_s.get(kind, 0.0))
