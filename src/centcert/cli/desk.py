"""What the commands that write into a store share: the account, passwords, the report."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click
import msgspec

from centcert.admin.desk import Desk
from centcert.admin.settings_file import read_store, settings_file
from centcert.admin.vetting import day
from centcert.cli import options
from centcert.provider.decoder import Decoder
from centcert.stores import Account, open_publisher, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from centcert.admin.desk import FileChange, Outcome, Version

_TYPED: Final = "/dev/tty"
"""Stands in the settings for a password that comes from no file; it is never opened."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which store a command works on, and as whom.

    Attributes:
        url: the store's.
        account: of a share.
        key_passwords: the store's, in their order.
    """

    url: str
    account: Account | None
    key_passwords: tuple[bytes, ...] = field(repr=False)

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[Desk]:
        """Open the store to look at and to write into."""
        async with (
            Decoder() as decoder,
            open_publisher(self.url, account=self.account) as publisher,
            open_store(self.url, account=self.account) as store,
        ):
            yield Desk(
                store,
                publisher,
                decoder,
                self.key_passwords,
                on_wait=lambda sentence: click.echo(f"centcert: {sentence}", err=True),
            )


def access(config: Path | None, given: Mapping[str, object]) -> Access:
    """Find the store and the account, and ask for its password if nothing else says it.

    Whoever names an account by --username means that one's secret too: the password file of
    the settings file belongs to the account that nodes read with.

    Raises:
        SettingsError: no store is named, or something about it is wrong.
        UsageError: a password has to be typed, and there is no terminal.
    """
    table = options.by_table(given).get("store", {})
    typed: bytes | None = None
    if "username" in table:
        if not {"password_file", "keytab"} & table.keys():
            typed = ask_password(f"Password of {table['username']}", "--password-file")
            table["password_file"] = _TYPED
        table = {"password_file": None, "keytab": None, **table}
    settings = read_store(settings_file(config), table)
    account = settings.account()
    if account is not None and typed is not None:
        password = typed
        account = Account(account.username, lambda: password)
    return Access(settings.url, account, tuple(settings.key_passwords()))


def ask_password(what: str, option: str, *, twice: bool = False) -> bytes:
    """Ask for a password at the terminal.

    Raises:
        UsageError: there is no terminal; ``option`` names a file instead.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"There is no terminal to type it at: {what.lower()}, by {option} FILE."
        )
    text: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    return text.encode(errors="surrogateescape")


def report(outcome: Outcome, print_done: Callable[[Outcome], None], *, as_json: bool) -> None:
    """Print an outcome, and exit with 1 if it is a refusal."""
    if as_json:
        click.echo(msgspec.json.encode(outcome))
    elif not outcome.refusals:
        print_done(outcome)
    if outcome.refusals:
        if not as_json:
            for sentence in outcome.refusals:
                click.echo(f"centcert: {sentence}", err=True)
            click.echo(f"Nothing was changed in {outcome.store}.", err=True)
        raise click.exceptions.Exit(1)


def print_files(outcome: Outcome) -> None:
    """Print a line for each file: what it holds and what it held."""
    width = max((len(file.key) for file in outcome.files), default=0)
    for file in outcome.files:
        click.echo(f"  {file.key:<{width}}  {_became(file)}")


def _became(file: FileChange) -> str:
    if file.after is None:
        return f"removed; it held {_held(file.before)}"
    now = _until(file.after)
    if file.action == "kept":
        return f"{now}, as it was"
    if file.action == "rewritten":
        return f"{now}, written again"
    return f"{now}, new" if file.before is None else f"{now}, replaces {_held(file.before)}"


def _until(version: Version) -> str:
    return "unusable" if version.not_after is None else f"good until {day(version.not_after)}"


def _held(version: Version | None) -> str:
    if version is None or version.not_after is None:
        return "an unusable file"
    return f"one good until {day(version.not_after)}"
