"""``centcert explain``: which file a name gets, every step and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from centcert.admin import explanation
from centcert.admin.explanation import Explanation  # noqa: TC001  msgspec reads it
from centcert.admin.settings_file import control_socket_path, read_listeners, settings_file
from centcert.cli import options
from centcert.cli.loop import run
from centcert.cli.times import moment
from centcert.control import Holding, Look, ask
from centcert.errors import NodeUnreachable
from centcert.names import HostName
from centcert.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.admin.facts import Facts

_NAMES_SHOWN: Final = 3


class Explained(msgspec.Struct, frozen=True):
    """What ``--json`` prints.

    Attributes:
        look_up: what the store says now.
        node: what the running node holds; ``None``: none runs.
        differs: whether a client gets something else now than ``look_up`` comes to.
    """

    look_up: Explanation
    node: Holding | None
    differs: bool


@click.command()
@click.argument("name")
@options.config
@options.store
@options.control
@options.as_json
def explain(
    name: str, config: Path | None, control: Path | None, *, as_json: bool, **given: object
) -> None:
    """Tell which file NAME gets, every step and why.

    The store is asked now, as a node asks that has nothing in memory; the policy is that
    of the settings file. A running node is asked what it serves meanwhile.

    Exit code 1 if NAME gets no certificate, an expired one, or another one than the
    running node serves.
    """
    host_name = HostName.from_unicode(name)
    explained = run(_explain(host_name, config, control, given))
    if as_json:
        click.echo(msgspec.json.encode(explained))
    else:
        _print(explained)
    if explained.differs or explained.look_up.condition != "good":
        raise click.exceptions.Exit(1)


async def _explain(
    name: HostName, config: Path | None, control: Path | None, given: dict[str, object]
) -> Explained:
    settings = options.configured_store(config, given)
    path = settings_file(config)
    try:
        node = await ask(control_socket_path(path, control), Look(str(name)), Holding)
    except NodeUnreachable:
        node = None
    async with open_store(settings.url, account=settings.account()) as store:
        look_up = await explanation.explain(
            name,
            store,
            passwords=settings.key_passwords,
            now=time.time(),
            listeners=read_listeners(path),
            has_copy=node is not None and node.copy,
        )
    differs = node is not None and node.key is not None and node.fingerprint != look_up.fingerprint
    return Explained(look_up, node, differs)


def _print(explained: Explained) -> None:
    look_up = explained.look_up
    unicode = HostName(look_up.name).unicode
    also = "" if unicode == look_up.name else f" ({unicode})"
    click.echo(f"{look_up.name}{also}, from {look_up.store}\n")
    for number, step in enumerate(look_up.steps, 1):
        click.echo(f"  {number}  {step.key}: {step.sentence}")
        if step.certificate is not None:
            for line in _certificate(step.certificate):
                click.echo(f"       {line}")
    click.echo()
    for verdict in look_up.verdicts:
        where = "Answer" if verdict.listener is None else f"Answer at {verdict.listener}"
        click.echo(f"{where}: {verdict.sentence}")
    click.echo(_node(explained))


def _certificate(facts: Facts) -> list[str]:
    names = ", ".join(facts.names[:_NAMES_SHOWN])
    if len(facts.names) > _NAMES_SHOWN:
        names += f" and {len(facts.names) - _NAMES_SHOWN} more"
    return [
        f"{facts.public_key}, issued to {facts.issued_to} by {facts.issued_by}",
        f"for {names or 'no DNS name'}",
        f"from {moment(facts.not_before)} to {moment(facts.not_after)}",
    ]


def _node(explained: Explained) -> str:
    node = explained.node
    if node is None:
        return "No running node answers at its control socket."
    if node.key is None:
        copy = ", and holds a last-good copy" if node.copy else ""
        return f"The running node has nothing in memory for the name{copy}: it would look it up."
    if not explained.differs:
        return "The running node serves the same certificate from memory."
    until = moment(node.not_after or 0.0)
    return (
        f"The running node still serves another certificate from memory, of {node.key}, good until"
        f" {until}: centcert reload {explained.look_up.name} lets it look again."
    )
