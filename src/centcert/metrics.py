"""A node's status as Prometheus reads it. Labels are of bounded number, whatever clients send.

Nothing is counted here: what is told is read off a ``NodeStatus`` at each scrape.
"""

from __future__ import annotations

import time
from itertools import accumulate
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from centcert.counters import BOUNDS_S
from centcert.provider.health import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from centcert.control import Finding, NodeStatus
    from centcert.counters import Counters, Histogram
    from centcert.provider.expiry import Expiry
    from centcert.provider.health import StoreHealth

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


def exposition(status: NodeStatus) -> bytes:
    """Return ``status`` in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(status))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, status: NodeStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield _gauge("build", "The version that runs.", [({"version": status.version}, 1)], "info")
        began = time.time() - status.up_s
        yield _gauge("start_time", "When the node began.", [({}, began)], "seconds")
        yield _gauge("connections", "Clients that are connected.", [({}, status.connections)])
        waiting = "Handshakes that wait for the store."
        yield _gauge("handshakes_waiting", waiting, [({}, status.waiting)])
        yield _gauge("cache_names", "Names in memory.", [({}, status.names)])
        yield _gauge(
            "cache", "Memory of names and credentials.", [({}, status.used_bytes)], "bytes"
        )
        yield _gauge("cache_limit", "What that may come to.", [({}, status.max_bytes)], "bytes")
        yield from _counted(status.counters)
        yield from _of_the_store(status.health)
        yield from _of_certificates(status.expiry)
        yield _of_findings(status.findings)


def _counted(counters: Counters) -> Iterator[Metric]:
    yield _counter("connections_accepted", "Clients that connected.", [({}, counters.accepted)])
    yield _counter(
        "connections_turned_away",
        "Clients that found every place taken.",
        [({}, counters.turned_away)],
    )
    refusals = [
        ({"reason": reason, "alert": alert}, count)
        for reason, alerts in counters.refusals.items()
        for alert, count in alerts.items()
    ]
    versions = {"TLSv1.2": 0, "TLSv1.3": 0} | counters.handshakes
    done = [({"outcome": "done", "version": one}, count) for one, count in versions.items()]
    refused = ({"outcome": "refused", "version": ""}, sum(count for _, count in refusals))
    left = ({"outcome": "left", "version": ""}, counters.abandoned)
    how = "Handshakes by how they ended; left: by the client, before TLS stood."
    yield _counter("handshakes", how, [*done, refused, left])
    yield _counter("refusals", "Refused handshakes by reason and alert.", refusals)
    yield _counter(
        "backend_failures",
        "Connections that ended because their backend could not go on.",
        [({}, counters.backend_failures)],
    )
    look_ups = [
        ({"outcome": outcome, "source": source}, count)
        for outcome, sources in counters.look_ups.items()
        for source, count in sources.items()
    ]
    hits = ({"outcome": "found", "source": "memory"}, counters.hits)
    what = "Questions for a name's credential by outcome and by what answered."
    yield _counter("look_ups", what, [hits, *look_ups])
    yield _counter(
        "refreshes",
        "Look-ups behind the handshakes by outcome.",
        [({"outcome": outcome}, count) for outcome, count in counters.refreshes.items()],
    )
    fetches = [({"outcome": one}, histogram) for one, histogram in counters.fetches.items()]
    yield _histogram("fetch_duration", "How long the store took for a file.", fetches)
    decodes = "How long a file took to become a credential."
    yield _histogram("decode_duration", decodes, [({}, counters.decodes)])


def _of_the_store(health: StoreHealth) -> Iterator[Metric]:
    states = [({"state": state}, int(state == health.state)) for state in get_args(State)]
    yield _gauge("store_state", "1 for what the store last answered, else 0.", states)
    watched = "1 while the store tells of changes."
    yield _gauge("store_watched", watched, [({}, int(health.watched))])
    if health.listed_at is not None and health.files is not None:
        yield _gauge(
            "store_listed_timestamp",
            "When it was last listed.",
            [({}, health.listed_at)],
            "seconds",
        )
        yield _gauge("store_files", "Files that it held then.", [({}, health.files)])


def _of_certificates(expiry: Expiry) -> Iterator[Metric]:
    yield _gauge("certificates", "Certificates in memory.", [({}, expiry.certificates)])
    yield _gauge("certificates_expired", "Of these, past their date.", [({}, expiry.expired)])
    yield _gauge(
        "certificates_expiring",
        "Of these, good for so many days at most.",
        [({"within": f"{days}d"}, count) for days, count in expiry.within_days.items()],
    )
    yield _gauge(
        "certificate_expiry_timestamp",
        "When the certificates that expire first do, 20 at most, by their file.",
        [({"key": one.key}, one.not_after) for one in expiry.soonest],
        "seconds",
    )


def _of_findings(findings: Iterable[Finding]) -> Metric:
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.code] = counts.get(finding.code, 0) + 1
    now = [({"code": code}, count) for code, count in counts.items()]
    return _gauge("findings", "What is wrong now, by code.", now)


def _gauge(
    name: str,
    what: str,
    samples: Iterable[tuple[Mapping[str, str], float]],
    unit: str = "",
) -> Metric:
    return _with_samples(GaugeMetricFamily(_named(name, unit), what), samples)


def _counter(name: str, what: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    family = CounterMetricFamily(_named(name), what)
    for labels, value in samples:
        family.add_sample(family.name + "_total", dict(labels), value)
    return family


def _histogram(
    name: str, what: str, histograms: Iterable[tuple[Mapping[str, str], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(_named(name, "seconds"), what)
    for labels, histogram in histograms:
        up_to = list(accumulate(histogram.counts))
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), up_to, strict=True):
            family.add_sample(family.name + "_bucket", {**labels, "le": bound}, count)
        family.add_sample(family.name + "_count", dict(labels), up_to[-1])
        family.add_sample(family.name + "_sum", dict(labels), histogram.total_s)
    return family


def _with_samples(family: Metric, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    for labels, value in samples:
        family.add_sample(family.name, dict(labels), value)
    return family


def _named(name: str, unit: str = "") -> str:
    return f"centcert_{name}_{unit}" if unit else f"centcert_{name}"
