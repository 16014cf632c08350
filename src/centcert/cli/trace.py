"""``centcert trace``: the handshakes of a running node, live, step by step."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.text import Text

from centcert.admin.settings_file import control_socket_path
from centcert.cli import options
from centcert.cli.loop import run
from centcert.cli.timeline import timeline
from centcert.control import Trace, tracing
from centcert.errors import NodeUnreachable
from centcert.lines import printable
from centcert.names import HostName
from centcert.tracing import LeftOut, TracedHandshake, TracedLine

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.tracing import Traced


@click.command(short_help="Show the running node's handshakes live, step by step.")
@click.argument("name", required=False)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N handshakes.")
@options.config
@options.control
@options.as_json
def trace(
    name: str | None, config: Path | None, control: Path | None, *, as_json: bool, count: int | None
) -> None:
    """Show the running node's handshakes live: each step, how long it took, how it ended.

    NAME shows those of one host name, or of all that a wildcard like '*.example.com' covers.
    With --json each handshake is one line. Ctrl-C ends it.

    Exit code 1 if the node ends first.
    """
    path = control_socket_path(config, control)
    run(_trace(path, None if name is None else _pattern(name), count, as_json=as_json))


async def _trace(path: Path, pattern: str | None, count: int | None, *, as_json: bool) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else sys.maxsize)
    async with tracing(path, Trace(pattern)) as messages:
        click.echo(
            f"Following handshakes of {pattern or 'every name'}; times are in UTC, Ctrl-C ends.",
            err=True,
        )
        async for message in messages:
            if as_json:
                sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
                sys.stdout.buffer.flush()
            else:
                _print(console, message)
            if count is not None and isinstance(message, TracedHandshake):
                count -= 1
                if not count:
                    return
    raise NodeUnreachable(str(path), "The node has stopped.")


def _print(console: Console, message: Traced) -> None:
    match message:
        case TracedHandshake(began=began, client=client, name=name, steps=steps):
            title = Text(f"{_clock(began)}  {client}  {printable(name or 'no name')}", style="bold")
            console.print(title, soft_wrap=True)
            console.print(timeline(steps))
        case TracedLine(at=at, line=line):
            console.print(Text(f"{_clock(at)}  {printable(line.sentence)}"), soft_wrap=True)
        case LeftOut(count=count):
            left_out = f"{count} more were left out: they came faster than they are read here."
            console.print(Text(left_out, style="yellow"), soft_wrap=True)
    console.print()


def _pattern(text: str) -> str:
    """Read a host name, or ``*.`` and a host name.

    Raises:
        NameRefused: it is neither.
    """
    parent = text.removeprefix("*.")
    return text[: len(text) - len(parent)] + HostName.from_unicode(parent)


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:-3]
