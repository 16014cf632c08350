"""``centcert reload`` and ``centcert status``: what is asked of a running node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from centcert.admin.settings_file import control_socket_path
from centcert.cli import options
from centcert.cli.loop import run
from centcert.cli.times import moment
from centcert.control import Finding, NodeStatus, Reload, ReloadAll, Reloaded, Status, ask
from centcert.names import HostName

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every name in memory.")
@options.config
@options.control
@options.as_json
def reload(
    name: str | None, config: Path | None, control: Path | None, *, every: bool, as_json: bool
) -> None:
    """Let the running node look NAME up anew now, or with --all every name in memory."""
    if (name is None) is not every:
        raise click.UsageError("Name one host name, or say --all.")
    asked = None if name is None else str(HostName.from_unicode(name))
    request = ReloadAll() if asked is None else Reload(asked)
    reply = run(ask(control_socket_path(config, control), request, Reloaded))
    if as_json:
        click.echo(msgspec.json.encode(reply))
    elif asked is None:
        click.echo(f"{reply.names} names are being looked up anew.")
    else:
        until = moment(reply.not_after or 0.0)
        click.echo(f"{asked} is answered by {reply.key}, good until {until}.")
    if not as_json:
        _print_findings(reply.findings)
    if reply.findings:
        raise click.exceptions.Exit(1)


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
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_row("store", reply.store)
        table.add_row("up", f"{reply.up_s:.0f} s, centcert {reply.version}")
        table.add_row("connections", str(reply.connections))
        table.add_row("names in memory", f"{reply.names}, {reply.used_bytes / 1024:.0f} KiB")
        table.add_row("findings", str(len(reply.findings) or "none"))
        Console(highlight=False, markup=False).print(table)
        _print_findings(reply.findings)
    if reply.findings:
        raise click.exceptions.Exit(1)


def _print_findings(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        since = time.time() - finding.since
        click.echo(f"  {finding.code}, for {since:.0f} s: {finding.sentence}")
