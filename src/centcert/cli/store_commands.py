"""``centcert enable``, ``set``, ``get``, ``clear``, ``disable``: the store's settings."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

from centcert.admin.secrets import SYSTEMD_CREDENTIAL
from centcert.admin.settings_file import control_socket_path, settings_file, settings_file_to_write
from centcert.admin.store_setup import (
    CREDENTIAL,
    EVERYTHING,
    KEY_PASSWORD,
    StoreChange,
    StoreSetup,
    change_store,
    clear_store,
    disable_store,
    store_setup,
)
from centcert.admin.store_trial import Found  # noqa: TC001  msgspec asks for it
from centcert.cli import options
from centcert.cli.loop import run
from centcert.control import ReadSettings, SettingsRead, ask
from centcert.errors import CentcertError, NodeUnreachable, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

F = TypeVar("F", bound="Callable[..., object]")

_LABELS: Final = {
    "password_file": "password",
    "keytab": "keytab",
    "key_password_files": "key password",
}


class Changed(msgspec.Struct, frozen=True):
    """What a command has changed, as ``--json`` prints it.

    Attributes:
        setup: what is set now.
        found: what the store held when it was tried; ``None``: it was not.
        removed: files of secrets that were removed.
        node: what a running node that reads this file goes on with; ``None``: none runs.
        node_problem: why a running node goes on as before.
    """

    setup: StoreSetup
    found: Found | None = None
    removed: tuple[str, ...] = ()
    node: SettingsRead | None = None
    node_problem: str | None = None


def _changing(command: F) -> F:
    """Give a command the options of a change."""
    for option in reversed(
        (
            options.config,
            options.store,
            click.option(
                "--password",
                "ask_password",
                is_flag=True,
                help="Ask for that account's password, twice; where standard input is no"
                " terminal, take one line of it. It is kept in the password file.",
            ),
            click.option(
                "--key-password",
                "ask_key_password",
                is_flag=True,
                help="Ask for the password of the private keys in the same way.",
            ),
            click.option(
                "--no-check", is_flag=True, help="Save without connecting to the store first."
            ),
            options.control,
            options.as_json,
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Have front ends use the store, with these settings.")
@_changing
def enable(
    config: Path | None, control: Path | None, *, no_check: bool, as_json: bool, **given: object
) -> None:
    """Have front ends use the store, with the settings given here and those in the file.

    The store is tried first: if it does not answer, nothing is saved.
    """
    path = settings_file_to_write(config)
    found = _change(path, given, enable=True, trial=not no_check)
    _report(Changed(store_setup(path), found), config, control, as_json=as_json)


@click.command("set", short_help="Change the store's location, account or passwords.")
@_changing
def set_(
    config: Path | None, control: Path | None, *, no_check: bool, as_json: bool, **given: object
) -> None:
    """Change the store's location, account, password or key password, each on its own.

    The store is tried first: if it does not answer, nothing is saved.
    """
    if not any(given.values()):
        raise click.UsageError("Say what to set: --store, --username, --password, …")
    path = settings_file_to_write(config)
    found = _change(path, given, enable=False, trial=not no_check)
    _report(Changed(store_setup(path), found), config, control, as_json=as_json)


@click.command(short_help="Show the store's settings; never a secret.")
@options.config
@options.as_json
def get(config: Path | None, *, as_json: bool) -> None:
    """Show the store's settings, and whether its secrets can be read; never a secret.

    Exit code 1 if something is wrong with them.
    """
    setup = store_setup(_existing(config))
    if as_json:
        click.echo(msgspec.json.encode(setup))
    else:
        _print(_rows(setup))
    if setup.problem or any(secret.problem for secret in setup.secrets):
        raise click.exceptions.Exit(1)


@click.command(short_help="Take settings of the store away, and their secrets.")
@click.option("--credential", is_flag=True, help="The account: its name and its secret.")
@click.option("--key-password", is_flag=True, help="The password of the private keys.")
@click.option("--all", "everything", is_flag=True, help="These, and the store's location.")
@options.config
@options.control
@options.as_json
def clear(
    config: Path | None,
    control: Path | None,
    *,
    credential: bool,
    key_password: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Take settings of the store away, and the secrets that `centcert set` has written."""
    cleared = EVERYTHING if everything else CREDENTIAL * credential + KEY_PASSWORD * key_password
    if not cleared:
        raise click.UsageError("Say what to clear: --credential, --key-password or --all.")
    path = _existing(config)
    removed = tuple(map(str, run(clear_store(path, cleared))))
    _report(Changed(store_setup(path), removed=removed), config, control, as_json=as_json)


@click.command(short_help="Have front ends ask the store for nothing.")
@options.config
@options.control
@options.as_json
def disable(config: Path | None, control: Path | None, *, as_json: bool) -> None:
    """Have front ends ask the store for nothing; its settings stay.

    A running node goes on serving what it has a last-good copy of, and refuses every other
    name.
    """
    path = _existing(config)
    run(disable_store(path))
    _report(Changed(store_setup(path)), config, control, as_json=as_json)


# --- changing -----------------------------------------------------------------------


def _change(path: Path, given: dict[str, object], *, enable: bool, trial: bool) -> Found | None:
    asked = {name: given.pop(f"ask_{name}") for name in ("password", "key_password")}
    username = given["store_username"] or store_setup(path).username or "the account"
    change = StoreChange(
        options.by_table(given).get("store", {}),
        password=_typed(f"Password of {username}") if asked["password"] else None,
        key_password=_typed("Password of the private keys") if asked["key_password"] else None,
    )
    return run(change_store(path, change, enable=enable, trial=trial))


def _typed(what: str) -> bytes:
    """Ask for a password at the terminal, twice, or take a line of standard input."""
    if sys.stdin.isatty():
        text: str = click.prompt(what, hide_input=True, confirmation_prompt=True, err=True)
        return text.encode(errors="surrogateescape")
    line = sys.stdin.buffer.readline()
    if not line:
        raise SettingsError(f"{what}: standard input ends before it.")
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _existing(config: Path | None) -> Path:
    path = settings_file(config)
    if path is None:
        raise SettingsError(
            "There is no settings file: `centcert enable --store …` makes"
            f" {settings_file_to_write(config)}."
        )
    if not path.exists():
        raise SettingsError(f"{path} is not there: `centcert enable --store …` makes it.")
    return path


# --- telling ------------------------------------------------------------------------


def _report(changed: Changed, config: Path | None, control: Path | None, *, as_json: bool) -> None:
    changed = _tell_node(changed, config, control)
    if as_json:
        click.echo(msgspec.json.encode(changed))
    else:
        _print([*_rows(changed.setup), *_rows_of_change(changed)])
    if changed.node_problem is not None:
        raise click.exceptions.Exit(1)


def _tell_node(changed: Changed, config: Path | None, control: Path | None) -> Changed:
    """Have a running node read the settings, if they are its own."""
    try:
        read = run(ask(control_socket_path(config, control), ReadSettings(), SettingsRead))
    except NodeUnreachable:
        return changed
    except CentcertError as error:
        return msgspec.structs.replace(changed, node_problem=str(error))
    if read.file != os.path.realpath(changed.setup.file):
        return changed
    return msgspec.structs.replace(changed, node=read)


def _rows(setup: StoreSetup) -> list[tuple[str, str]]:
    rows = [("store", setup.url or "none"), ("enabled", "yes" if setup.enabled else "no")]
    if setup.username is not None:
        rows.append(("account", setup.username))
    for secret in setup.secrets:
        label = _LABELS[secret.setting]
        rows.append((label, secret.source))
        if secret.problem is not None:
            rows.append(("", secret.problem))
    rows.append(("settings", setup.file))
    if setup.problem is not None:
        rows.append(("problem", setup.problem))
    return rows


def _rows_of_change(changed: Changed) -> list[tuple[str, str]]:
    rows = [("removed", file) for file in changed.removed]
    found = changed.found
    if found is not None:
        noun = "file" if found.files == 1 else "files"
        said = f"{found.files} {noun}, {found.certificates} named as certificates"
        rows.append(("found", said))
        if found.server is not None:
            rows.append(("server", f"{found.server}, SMB {found.dialect}, {found.cipher}"))
    if changed.node_problem is not None:
        rows.append(("node", f"goes on as before: {changed.node_problem}"))
    elif changed.node is None:
        rows.append(("node", "none runs with these settings"))
    else:
        uses = "uses" if changed.node.enabled else "no longer asks"
        rows.append(("node", f"{uses} {changed.node.store} from now on"))
        if any(secret.source.startswith(SYSTEMD_CREDENTIAL) for secret in changed.setup.secrets):
            rows.append(("", "if a credential has changed, restart it: systemd passed it the old"))
    return rows


def _print(rows: list[tuple[str, str]]) -> None:
    """Print two columns; at a terminal what is long goes on below its beginning."""
    wide = max(len(label) for label, _ in rows) + 2
    columns = shutil.get_terminal_size().columns
    for label, value in rows:
        lines = [value]
        if sys.stdout.isatty():
            lines = textwrap.wrap(value, max(columns - wide, 20), break_on_hyphens=False)
        for line in lines:
            click.echo(f"{label:<{wide}}{line}")
            label = ""  # noqa: PLW2901
