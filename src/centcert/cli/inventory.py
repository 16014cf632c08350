"""``centcert list``: what is in the store."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from centcert.admin.facts import printable
from centcert.admin.inventory.cache import Cache, Conditions, cache_folder
from centcert.admin.inventory.listing import (
    FAULTS,
    STATES,
    Entry,
    Grouping,
    Order,
    State,
    in_order,
    judge,
    matching,
)
from centcert.admin.inventory.reading import read_stock
from centcert.admin.vetting import day
from centcert.cli import options
from centcert.cli.columns import Column, lay_out
from centcert.cli.loop import run
from centcert.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from centcert.admin.inventory.reading import Stock
    from centcert.admin.settings import StoreSettings

_COLOURS: Final[dict[str, str]] = {
    "expiring": "yellow",
    "unused": "yellow",
    **dict.fromkeys(FAULTS, "red"),
}

_COLUMNS: Final = (  # what is left out first where there is no room for it, has the least worth
    Column("file", 9, least=32),
    Column("name", 2),
    Column("issued to", 1, least=16),
    Column("issued by", 4, least=16),
    Column("key", 3),
    Column("expires", 7),
    Column("state", 8),
)


class Inventory(msgspec.Struct, frozen=True):
    """What ``--json`` prints.

    Attributes:
        store: its URL.
        taken_at: seconds since the epoch; the states are of this moment.
        entries: the files that were asked for, in the order that was asked for.
        others: how many files of the store are no certificate files.
    """

    store: str
    taken_at: float
    entries: tuple[Entry, ...]
    others: int


@click.command("list", short_help="List what is in the store, and what is wrong with it.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(get_args(Order)),
    default="file",
    show_default=True,
    help="The order of the files.",
)
@click.option("--filter", "text", metavar="TEXT", default="", help="Only files that TEXT is in.")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Only files in this state; as often as there are states.",
)
@click.option(
    "--group",
    "grouping",
    type=click.Choice(get_args(Grouping)),
    help="Put files into groups, by this.",
)
@options.config
@options.store
@options.as_json
def list_(
    order: Order,
    text: str,
    states: tuple[State, ...],
    grouping: Grouping | None,
    config: Path | None,
    *,
    as_json: bool,
    **given: object,
) -> None:
    """List what is in the store: every file, what it answers, and what is wrong with it.

    TEXT is looked for in the file's name, the certificate's names, and whom it is issued
    to and by. Files are read in full the first time; what they say is kept, without keys,
    in your cache folder for the next.

    Exit code 1 if a file that is listed cannot be read, is for another name, or is outside
    its dates.
    """
    settings = options.configured_store(config, given)
    stock = run(_read(settings))
    now = time.time()
    judged = judge(stock.files, now, grouping)
    entries = in_order(matching(judged, text, states), order)
    if as_json:
        inventory = Inventory(settings.url, now, tuple(entries), stock.others)
        click.echo(msgspec.json.encode(inventory))
    else:
        _print(entries, stock)
    if any(entry.state in FAULTS for entry in entries):
        raise click.exceptions.Exit(1)


async def _read(settings: StoreSettings) -> Stock:
    passwords = settings.key_passwords()
    cache = Cache(cache_folder(), Conditions.of(settings.url, settings.key_password_files))
    cache.load()
    console = Console(stderr=True)
    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    async with open_store(settings.url, account=settings.account()) as store:
        with bar:
            stock = await read_stock(store, passwords, cache, _shown(bar))
    cache.save()
    return stock


def _shown(bar: Progress) -> Callable[[int, int], None]:
    task = bar.add_task("", total=None)

    def show(done: int, of: int) -> None:
        bar.update(task, completed=done, total=of)

    return show


# --- for people -----------------------------------------------------------------------


def _print(entries: Sequence[Entry], stock: Stock) -> None:
    # Only a person at a terminal is limited by its width; a pipe gets all there is.
    width = Console().width if sys.stdout.isatty() else None
    rows = [_row(entry) for entry in entries]
    lines, left_out = lay_out(_COLUMNS, rows, width)
    if entries:
        click.secho(lines[0], bold=True)
    group: str | None = None
    sizes = Counter(entry.group for entry in entries)
    for entry, line in zip(entries, lines[1:], strict=True):
        if entry.group != group:
            group = entry.group
            times = sizes[group]
            click.echo()
            click.secho(f"{printable(group or '')} ({times})", bold=True)
        click.secho(line, fg=_COLOURS.get(entry.state))
    if left_out:
        titles = ", ".join(left_out)
        click.echo(f"\nNot shown for want of room: {titles}. A wider terminal or a pipe shows all.")
    _print_remarks(entries)
    click.echo(("\n" if entries else "") + _summary(entries, stock))


def _row(entry: Entry) -> tuple[str, ...]:
    found = entry.certificate
    state = entry.state.replace("-", " ")
    file, name = printable(entry.key), entry.name or "-"
    if found is None:
        return file, name, "-", "-", "-", "-", state
    return (
        file,
        name,
        found.issued_to,
        found.issued_by,
        found.public_key,
        day(found.not_after),
        state,
    )


def _print_remarks(entries: Sequence[Entry]) -> None:
    faults = [(entry.key, entry.sentence, entry.code) for entry in entries if entry.sentence]
    warnings = [
        (entry.key, warning.sentence, warning.code)
        for entry in entries
        for warning in entry.warnings
    ]
    for title, remarks in (("cannot be served", faults), ("warnings", warnings)):
        if remarks:
            click.echo()
            click.secho(title, bold=True)
        for key, sentence, code in remarks:
            click.echo(printable(f"  {key}: {sentence.removesuffix('.')} ({code})"))


def _summary(entries: Sequence[Entry], stock: Stock) -> str:
    if not stock.files:
        return f"The store holds no certificate files{_others(stock)}."
    states = Counter(entry.state for entry in entries)
    said = [f"{states[state]} {state.replace('-', ' ')}" for state in STATES if states[state]]
    warnings = sum(len(entry.warnings) for entry in entries)
    if warnings:
        said.append(f"{warnings} {'warning' if warnings == 1 else 'warnings'}")
    shown = (
        f"{len(entries)} of {len(stock.files)}"
        if len(entries) < len(stock.files)
        else str(len(entries))
    )
    files = "file" if len(stock.files) == 1 else "files"
    return f"{shown} {files}{': ' if said else ''}{', '.join(said)}{_others(stock)}."


def _others(stock: Stock) -> str:
    if not stock.others:
        return ""
    return f"; {stock.others} other {'file' if stock.others == 1 else 'files'}"
