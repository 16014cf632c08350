"""``centcert doctor``: is the set-up sound, and what needs a hand?"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import click
import msgspec

from centcert.admin.checkup import Check, check_up
from centcert.admin.settings_file import (
    control_socket_path,
    read_settings,
    read_store,
    settings_file,
)
from centcert.cli import options
from centcert.cli.loop import run
from centcert.control import NodeStatus, Status, ask
from centcert.errors import CentcertError, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_MARKS = {"good": "  ok     ", "wrong": "  WRONG  ", "unknown": "  ?      "}


@click.command(short_help="Check the set-up, and say what needs a hand.")
@options.config
@options.store
@options.control
@options.as_json
def doctor(config: Path | None, control: Path | None, *, as_json: bool, **given: object) -> None:
    """Check the set-up: settings, secrets, store, account, disk, ports, backends, node.

    Nothing is changed by looking. Run it as the user that the node runs as: what that may
    read and open is what matters.

    Exit code 1 if anything needs a hand.
    """
    checks = run(_check(config, control, given, as_json=as_json))
    wrong = sum(check.state == "wrong" for check in checks)
    if as_json:
        click.echo(msgspec.json.encode(checks))
    elif wrong:
        click.echo(f"\n{wrong} of {len(checks)} checks need a hand.")
    else:
        click.echo(f"\nAll is well, by {len(checks)} checks.")
    if wrong:
        raise click.exceptions.Exit(1)


async def _check(
    config: Path | None, control: Path | None, given: dict[str, object], *, as_json: bool
) -> list[Check]:
    if not as_json:
        click.echo(f"As user {_user()}:\n")
    checks = []
    async for check in _checks(config, control, given):
        checks.append(check)
        if not as_json:
            click.echo(f"{_MARKS[check.state]}{check.what} {check.subject}: {check.sentence}")
    return checks


async def _checks(
    config: Path | None, control: Path | None, given: dict[str, object]
) -> AsyncIterator[Check]:
    path = settings_file(config)
    table = options.by_table(given)
    settings = None
    if path is not None:
        try:
            settings = read_settings(path, table)
        except SettingsError as error:
            yield Check("settings", str(path), "wrong", str(error))
        else:
            yield Check("settings", str(path), "good", "It can be read and makes sense.")
    store = settings.store if settings else read_store(path, table.get("store", {}))
    node = None
    try:
        node = await ask(control_socket_path(path, control), Status(), NodeStatus)
    except CentcertError as error:
        yield Check("node", "control socket", "unknown", str(error))
    else:
        for finding in node.findings:
            yield Check("node", finding.subject, "wrong", finding.sentence)
        if not node.findings:
            yield Check("node", node.store, "good", "It runs, and finds nothing wrong.")
    async for check in check_up(store, settings, node_runs=node is not None):
        yield check


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
