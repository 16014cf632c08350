"""``centcert unit`` and ``centcert completion``: what a machine is given besides the program."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

_PROGRAM: Final = "centcert"
_COMPLETE: Final = "_CENTCERT_COMPLETE"  # click's, for a program called centcert


@click.command(short_help="Print the systemd unit that runs this program.")
@click.option("--socket", "is_socket", is_flag=True, help="Print the socket unit instead.")
def unit(*, is_socket: bool) -> None:
    """Print the systemd unit that runs this very program as a service."""
    name = "centcert.socket" if is_socket else "centcert.service"
    text = files("centcert").joinpath("systemd", name).read_text(encoding="utf-8")
    click.echo(text.replace("/usr/bin/centcert", _this_program()), nl=False)


@click.command(short_help="Print what completes commands in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets bash, zsh or fish complete commands and options.

    For bash: eval "$(centcert completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click has the three
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _COMPLETE).source())


def _this_program() -> str:
    """Return the command that starts this program from any folder."""
    called = Path(sys.argv[0])
    return str(called.absolute()) if called.name == _PROGRAM else f"{sys.executable} -m {_PROGRAM}"
