"""``centcert reload``: what is asked of a running node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from centcert.admin.settings_file import control_socket_path
from centcert.cli import options
from centcert.cli.loop import run
from centcert.cli.status import print_findings
from centcert.cli.times import moment
from centcert.control import Reload, ReloadAll, Reloaded, ask
from centcert.names import HostName

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Have the running node look names up anew.")
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every name in memory.")
@options.config
@options.control
@options.as_json
def reload(
    name: str | None, config: Path | None, control: Path | None, *, every: bool, as_json: bool
) -> None:
    """Have the running node look NAME up anew now, or with --all every name in memory.

    Exit code 1 if it finds something wrong.
    """
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
        print_findings(reply.findings)
    if reply.findings:
        raise click.exceptions.Exit(1)
