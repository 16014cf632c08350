"""The options that several commands share, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from centcert.admin.settings_file import read_store, settings_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from centcert.admin.settings import StoreSettings

F = TypeVar("F", bound="Callable[..., object]")

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

config = click.option(
    "--config",
    type=FILE,
    help="The settings file. Otherwise CENTCERT_CONFIG, /etc/centcert/centcert.toml, or"
    " centcert/centcert.toml in your configuration folder, if there is one.",
)
control = click.option(
    "--control", type=FILE, help="The node's control socket, if it is not in its usual place."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_STORE = (
    click.option(
        "--store",
        "store_url",
        metavar="URL",
        help="Where the certificates are: a folder, or"
        " smb://server[:port][,server…]/share[/folder].",
    ),
    click.option(
        "--username",
        "store_username",
        metavar="NAME",
        help="The account for the share: user, DOMAIN\\user or user@domain.",
    ),
    click.option(
        "--password-file",
        "store_password_file",
        type=FILE,
        help="A file (mode 0600) with that account's password.",
    ),
    click.option(
        "--keytab", "store_keytab", type=FILE, help="Or its Kerberos key; then NAME is user@REALM."
    ),
    click.option(
        "--key-password-file",
        "store_key_password_files",
        multiple=True,
        type=FILE,
        help="A file (mode 0600) with a password of the private keys; several are tried in order.",
    ),
)


def store(command: F) -> F:
    """Give a command the options that name the store: the arguments ``store_…``."""
    for option in reversed(_STORE):
        command = option(command)
    return command


def configured_store(config: Path | None, options: Mapping[str, object]) -> StoreSettings:
    """Return the store of the settings file, with the ``store_…`` options over it.

    Raises:
        SettingsError: no store is named, or something about it is wrong.
    """
    return read_store(settings_file(config), by_table(options).get("store", {}))


def by_table(options: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Sort given options into the settings file's tables by the first word of their names."""
    tables: dict[str, dict[str, Any]] = {}
    for option, value in options.items():
        table, _, setting = option.partition("_")
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            value = [str(one) if isinstance(one, Path) else one for one in value]  # noqa: PLW2901
        elif isinstance(value, Path):
            value = str(value)  # noqa: PLW2901
        tables.setdefault(table, {})[setting] = value
    return tables
