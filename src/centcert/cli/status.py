"""``centcert status``: how a running node does, and what is wrong now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from centcert.admin.settings_file import control_socket_path
from centcert.cli import options
from centcert.cli.loop import run
from centcert.cli.times import age
from centcert.control import Finding, NodeStatus, Status, ask
from centcert.lines import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from centcert.counters import Counters
    from centcert.provider.expiry import Expiry
    from centcert.provider.health import StoreHealth

_MIB = 1024 * 1024


@click.command()
@options.config
@options.control
@options.as_json
def status(config: Path | None, control: Path | None, *, as_json: bool) -> None:
    """Tell how the running node does, and what is wrong now.

    Exit code 1 if anything is, or if no node runs.
    """
    reply = run(ask(control_socket_path(config, control), Status(), NodeStatus))
    if as_json:
        click.echo(msgspec.json.encode(reply))
    else:
        for label, text in _rows(reply, time.time()):
            click.echo(f"{label:<14}{text}")
        print_findings(reply.findings)
    if reply.findings:
        raise click.exceptions.Exit(1)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """Print what is wrong, a line each."""
    now = time.time()
    for finding in findings:
        since = age(max(now - finding.since, 0.0))
        click.echo(f"  {finding.code}, for {since}: {printable(finding.sentence)}")


def _rows(node: NodeStatus, now: float) -> Iterator[tuple[str, str]]:
    yield "store", printable(node.store)
    yield "", _store(node.health, now)
    yield "node", f"up {age(node.up_s)}, centcert {node.version}"
    counters = node.counters
    connections = f"{node.connections:,} now, {counters.accepted:,} since the start"
    if node.waiting:
        connections += f", {node.waiting:,} wait for the store"
    if counters.turned_away:
        connections += f", {counters.turned_away:,} turned away"
    yield "connections", connections
    yield from _handshakes(counters)
    yield from _look_ups(counters)
    limit = f"{node.max_bytes / _MIB:,.0f} MiB"
    yield "memory", f"{_many(node.names, 'name')}, {_size(node.used_bytes)} of {limit}"
    yield from _certificates(node.expiry, now)
    yield "findings", f"{len(node.findings)}:" if node.findings else "none"


def _store(health: StoreHealth, now: float) -> str:
    if health.since is None:
        return "not asked for anything yet"
    words = f"{health.state} for {age(max(now - health.since, 0.0))}"
    words += ", watched" if health.watched else ", not watched"
    if health.listed_at is not None:
        listed = age(max(now - health.listed_at, 0.0))
        words += f"; {_many(health.files or 0, 'file')} when listed {listed} ago"
    return words


def _handshakes(counters: Counters) -> Iterator[tuple[str, str]]:
    done = sum(counters.handshakes.values())
    refused = {code: sum(alerts.values()) for code, alerts in counters.refusals.items()}
    words = f"{done:,} done" + (f" ({_parts(counters.handshakes)})" if done else "")
    words += f", {sum(refused.values()):,} refused, {counters.abandoned:,} left by the client"
    yield "handshakes", words
    if refused:
        yield "  refused", _parts(refused)
    if counters.backend_failures:
        yield "backends", f"{_many(counters.backend_failures, 'connection')} failed"


def _look_ups(counters: Counters) -> Iterator[tuple[str, str]]:
    outcomes = {outcome: sum(by.values()) for outcome, by in counters.look_ups.items()}
    total = counters.hits + sum(outcomes.values())
    if not total:
        yield "look-ups", "none yet"
        return
    yield "look-ups", f"{total:,}, {100 * counters.hits / total:.1f} % answered from memory"
    if outcomes:
        yield "  others", _parts(outcomes)


def _certificates(expiry: Expiry, now: float) -> Iterator[tuple[str, str]]:
    soon = expiry.within_days.get(30, 0)
    words = f"{expiry.certificates:,} in memory"
    if expiry.certificates:
        words += f", {expiry.expired:,} expired, {soon:,} expire within 30 days"
    yield "certificates", words
    if expiry.soonest:
        first = expiry.soonest[0]
        left_s = first.not_after - now
        when = f"in {age(left_s)}" if left_s > 0 else f"{age(-left_s)} ago"
        yield "  first", f"{printable(first.key)}, {when}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB" if size >= _MIB else f"{size / 1024:.0f} KiB"


def _parts(counts: Mapping[str, int]) -> str:
    """Write ``3 found, 1 absent``, the most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {what}" for what, count in ordered)
