"""Past this machine: what a farm of many nodes asks of its store, by a seeded simulation.

A node is simulated visit by visit: names of Zipf popularity, a memory that forgets the name
unused for longest. Nodes are alike and do not know of each other, so a farm asks its store
for as many times what one node asks. What a node cannot keep it fetches again; each listing
confirms what it keeps; each change is told to all and fetched by those that hold the name.
"""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.load import percentile
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.scene import Scene

SEED = 1
HOUR_S = 3_600
MIB = 1024 * 1024

ENTRY_BYTES = 140
"""Of a listing: FileIdBothDirectoryInformation has 104 ([MS-FSCC] 2.4.17), and UTF-16 names."""
PAGE_BYTES = 1_000_000
"""One answer to QUERY_DIRECTORY."""
INDEX_BYTES = 12
"""Of a name in the store, in each node's memory (docs/architecture.md)."""
CREDENTIAL_BYTES = 3_700
"""Of a name that a node keeps, ECDSA with a chain of two."""

MEMORIES_MIB = (256, 2_048)
"""``max_memory``: the default, and more, with ``max_names`` raised as well."""


@dataclass(frozen=True, slots=True)
class Farm:
    """Nodes before one store.

    Attributes:
        nodes: how many.
        names: files in the store.
        visits_s: full handshakes a second, of each node.
        kept: names that a node keeps at most.
        refresh_s: between two listings of a node.
        lifetime_s: between two renewals of a name.
        lost: share of the changes that a node is not told of, and finds by its listing.
        fetches_s: what the store answers a second.
        notice_s: from a change to the node that hears of it.
    """

    nodes: int
    names: int
    visits_s: float = 100.0
    kept: int = 256 * MIB // CREDENTIAL_BYTES
    refresh_s: float = 300.0
    lifetime_s: float = 60 * 24 * HOUR_S
    lost: float = 0.001
    fetches_s: float = 5_000.0
    notice_s: float = 0.02

    @property
    def renewals_s(self) -> float:
        """Files that are replaced a second."""
        return self.names / self.lifetime_s


@dataclass(frozen=True, slots=True)
class Day:
    """What one node met.

    Attributes:
        first_hour: share of its visits, after a start with nothing, that had to ask the store.
        last_hour: the same of its last hour.
        held: names that it keeps at the end.
    """

    first_hour: float
    last_hour: float
    held: int


@dataclass(frozen=True, slots=True)
class StoreLoad:
    """What a farm asks of its store, a second.

    Attributes:
        fetches: of files: first visits and renewals.
        listing_bytes: that listings move.
        listing_pages: requests that they take.
        notices: changes told, to each node.
    """

    fetches: float
    listing_bytes: float
    listing_pages: float
    notices: float


def popularity(names: int) -> array[float]:
    """Return the running sum of Zipf's weights, 1/rank, for ``random.choices``."""
    return array("d", itertools.accumulate(1 / rank for rank in range(1, names + 1)))


def simulate_node(farm: Farm, hours: int, seed: int = SEED) -> Day:
    """Let one node serve for ``hours``, beginning with nothing in memory."""
    weights = popularity(farm.names)
    source = random.Random(seed)  # noqa: S311  repeatable, not secret
    memory: OrderedDict[int, None] = OrderedDict()
    visits = round(farm.visits_s * HOUR_S)
    asked = []
    for _ in range(hours):
        before = 0
        for name in source.choices(range(farm.names), cum_weights=weights, k=visits):
            if name in memory:
                memory.move_to_end(name)
                continue
            before += 1
            memory[name] = None
            if len(memory) > farm.kept:
                memory.popitem(last=False)
        asked.append(before / visits)
    return Day(asked[0], asked[-1], len(memory))


def store_load(farm: Farm, day: Day) -> StoreLoad:
    """Add up what all nodes ask once they have served for long."""
    renewed = farm.renewals_s * day.held / farm.names
    listed = farm.names * ENTRY_BYTES / farm.refresh_s
    pages = math.ceil(farm.names * ENTRY_BYTES / PAGE_BYTES) / farm.refresh_s
    return StoreLoad(
        fetches=farm.nodes * (farm.visits_s * day.last_hour + renewed),
        listing_bytes=farm.nodes * listed,
        listing_pages=farm.nodes * pages,
        notices=farm.nodes * farm.renewals_s,
    )


def staleness(farm: Farm, samples: int, seed: int = SEED) -> list[float]:
    """Return how long nodes went on with the old certificate of a name that all of them hold.

    In seconds, a value for each sampled node and renewal. All nodes hear of the change at about
    the same time and queue at the store; who is not told finds out by the next listing.
    """
    source = random.Random(seed)  # noqa: S311  repeatable, not secret
    queue_s = farm.nodes / farm.fetches_s
    return [
        source.uniform(0, farm.refresh_s)
        if source.random() < farm.lost
        else source.expovariate(1 / farm.notice_s) + source.uniform(0, queue_s)
        for _ in range(samples)
    ]


def refresh_for(farm: Farm, bytes_s: float) -> float:
    """Return how far apart listings must be, in seconds, for the store to move ``bytes_s``."""
    return farm.nodes * farm.names * ENTRY_BYTES / bytes_s


def tables(scene: Scene) -> Iterator[Table]:
    """Simulate farms of 10 to 10,000 nodes and 1e4 to 1e7 names."""
    sizes = (10**4, 10**5, 10**6) if scene.quick else (10**4, 10**5, 10**6, 10**7)
    hours = 4 if scene.quick else 24
    farms = [
        Farm(1, names, kept=mib * MIB // CREDENTIAL_BYTES)
        for names in sizes
        for mib in MEMORIES_MIB
    ]
    days = [(farm, simulate_node(farm, hours)) for farm in farms]
    yield _nodes(days, hours)
    yield _stores(days)
    yield _stale(100_000 if scene.quick else 1_000_000)


def _nodes(days: Sequence[tuple[Farm, Day]], hours: int) -> Table:
    rows = [
        (
            f"{farm.names:,}",
            f"{farm.kept * CREDENTIAL_BYTES / MIB:,.0f} MiB",
            f"{day.first_hour:.1%}",
            f"{day.last_hour:.2%}",
            f"{day.held:,}",
            f"{(day.held * CREDENTIAL_BYTES + farm.names * INDEX_BYTES) / 1e6:,.0f} MB",
        )
        for farm, day in days
    ]
    note = (
        f"One node, {Farm(1, 1).visits_s:.0f} full handshakes a second, Zipf popularity with"
        f" exponent 1, seed {SEED}; {CREDENTIAL_BYTES:,} bytes a name that is kept, {INDEX_BYTES}"
        " for each other one."
    )
    columns = (
        "names",
        "max_memory",
        "first visits, hour 1",
        f"hour {hours}",
        "names kept",
        "memory used",
    )
    return Table("A node: share of visits that ask the store", columns, rows, (note,))


def _stores(days: Sequence[tuple[Farm, Day]]) -> Table:
    rows = []
    for names in dict.fromkeys(farm.names for farm, _ in days):
        group = [(farm, day) for farm, day in days if farm.names == names]
        for nodes in (10, 100, 1_000, 10_000):
            loads = [store_load(replace(farm, nodes=nodes), day) for farm, day in group]
            farm = Farm(nodes, names)
            rows.append(
                (
                    f"{nodes:,} × {names:,}",  # noqa: RUF001  times
                    *(f"{load.fetches:,.1f}" for load in loads),
                    f"{loads[0].notices:,.1f}",
                    f"{loads[0].listing_pages:,.1f}",
                    f"{loads[0].listing_bytes / 1e6:,.1f}",
                    _duration(max(farm.refresh_s, refresh_for(farm, 100e6))),
                )
            )
    farm = Farm(1, 1)
    notes = (
        (
            f"Listings every {farm.refresh_s:.0f} s on each node, a renewal of each name every"
            f" {farm.lifetime_s / 24 / HOUR_S:.0f} days. The last column: how far apart listings"
            " must be for all of them to take 100 MB/s."
        ),
    )
    columns = (
        "nodes × names",  # noqa: RUF001  times
        *(f"fetches/s, {mib:,} MiB" for mib in MEMORIES_MIB),
        "notices/s",
        "listing pages/s",
        "listing MB/s",
        "refresh for 100 MB/s",
    )
    return Table("The store: what the farm asks of it", columns, rows, notes)


def _stale(samples: int) -> Table:
    rows = []
    for nodes in (10, 100, 1_000, 10_000):
        told = staleness(Farm(nodes, 10**6), samples)
        alone = staleness(Farm(nodes, 10**6, lost=1.0), samples)
        rows.append((f"{nodes:,}", *_percentiles(told), *_percentiles(alone)))
    farm = Farm(1, 1)
    note = (
        f"A renewal of a name that every node holds. Nodes hear of it after"
        f" {farm.notice_s * 1000:.0f} ms in the mean and queue at a store of"
        f" {farm.fetches_s:,.0f} fetches a second;"
        f" {farm.lost:.1%} of the notices are lost and made up for by the listing."
    )
    columns = ("nodes", "told, p50", "p99", "p99.95", "not told, p50", "p99", "p99.95")
    return Table("Staleness: the old certificate after a renewal", columns, rows, (note,))


def _percentiles(values: Sequence[float]) -> tuple[str, str, str]:
    ordered = sorted(values)
    far = ordered[min(len(ordered) - 1, int(len(ordered) * 0.9995))]
    return (
        _duration(percentile(ordered, 50)),
        _duration(percentile(ordered, 99)),
        _duration(far),
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 2 * 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 2 * HOUR_S else f"{seconds / HOUR_S:,.0f} h"
