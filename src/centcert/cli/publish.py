"""``centcert publish``, ``rollback``, ``remove``: an administrator changes what a store holds."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Final

import click

from centcert.admin.intake import put_together, read_file
from centcert.admin.publishing import Publication, plan_publish
from centcert.admin.secrets import read_secret
from centcert.admin.vetting import day, parse_pattern
from centcert.admin.withdrawing import plan_remove, plan_rollback
from centcert.cli import options
from centcert.cli.desk import Access, access, ask_password, print_files, report
from centcert.cli.loop import run
from centcert.names import HostName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from centcert.admin.desk import Desk, Outcome, Plan, Vetted

_INDENT: Final = 16

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Look and say what would be done; write nothing."
)


@click.command(short_help="Check certificates and put them into the store.")
@click.argument("files", nargs=-1, required=True, type=options.FILE)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Publish this name or wildcard only; as often as there are names. Otherwise all that the"
    " certificate covers.",
)
@click.option(
    "--input-password-file",
    "input_password_files",
    multiple=True,
    type=options.FILE,
    help="A file (mode 0600) with a password of FILES, if it is none of the store's own.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Publish what is outside its dates or older than what is there; write again what is"
    " there already.",
)
@dry_run_option
@options.config
@options.store
@options.as_json
def publish(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    input_password_files: tuple[Path, ...],
    config: Path | None,
    *,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Check certificates and put them into the store, under every name they cover.

    FILES are PFX files, or PEM files that hold certificate, chain and private key, together
    or apart. Each name gets a file of its own, encrypted under the store's first key password,
    all of them or none. What was there is kept, and `centcert rollback NAME` brings it back.

    A share is written with the account of the settings, or with the one named by --username,
    whose password is asked for if no --password-file has it.
    """
    chosen = tuple(dict.fromkeys(map(parse_pattern, names)))
    to = access(config, given)
    passwords = (*to.key_passwords, *map(read_secret, input_password_files))
    ask = _ask_for_file if sys.stdin.isatty() else None
    credentials = put_together([read_file(file, passwords, ask) for file in dict.fromkeys(files)])
    publication = Publication(tuple(credentials), chosen, force, time.time())
    outcome = run(_carried_out(to, lambda desk: plan_publish(desk, publication), dry_run=dry_run))
    report(outcome, _print_published, as_json=as_json)


@click.command(short_help="Bring back what was replaced or removed last.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also if that version has expired or cannot be used.")
@dry_run_option
@options.config
@options.store
@options.as_json
def rollback(
    names: tuple[str, ...],
    config: Path | None,
    *,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Bring back the version of each NAME that was replaced or removed last.

    The two versions change places, so a second rollback undoes the first. NAME is a host name
    or a wildcard; a file that was published under several names is brought back under those
    that are named, all of them or none.
    """
    patterns = tuple(dict.fromkeys(map(parse_pattern, names)))
    outcome = run(
        _carried_out(
            access(config, given),
            lambda desk: plan_rollback(desk, patterns, force=force, now=time.time()),
            dry_run=dry_run,
        )
    )
    report(outcome, _print_rolled_back, as_json=as_json)


@click.command(short_help="Withdraw the files that stand for a name.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@options.config
@options.store
@options.as_json
def remove(
    names: tuple[str, ...],
    config: Path | None,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Withdraw the files that stand for exactly NAME, a host name or a wildcard.

    They are kept as the previous version: `centcert rollback NAME` brings them back.
    """
    patterns = tuple(dict.fromkeys(map(parse_pattern, names)))
    to = access(config, given)
    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise click.UsageError("Say --yes: there is no terminal to ask at.")
        what = ", ".join(patterns)
        if not click.confirm(f"Remove {what} from {to.url}?", err=True):
            click.echo("Nothing was removed.", err=True)
            raise click.exceptions.Exit(1)
    outcome = run(_carried_out(to, lambda desk: plan_remove(desk, patterns), dry_run=dry_run))
    report(outcome, _print_removed, as_json=as_json)


async def _carried_out(
    to: Access, plan: Callable[[Desk], Awaitable[Plan]], *, dry_run: bool
) -> Outcome:
    async with to.desk() as desk:
        if dry_run:
            return (await plan(desk)).outcome
        return await desk.carry_out(lambda: plan(desk))


def _ask_for_file(name: str) -> bytes:
    return ask_password(f"Password of {name}", "--input-password-file")


# --- what people read -------------------------------------------------------------


def _print_published(outcome: Outcome) -> None:
    for vetted in outcome.certificates:
        _print_vetted(vetted)
    if all(file.action == "kept" for file in outcome.files):
        click.echo(f"{outcome.store} holds all of it already; nothing was written.")
        return
    _print_heading(outcome, "Published into", "Would be published into")
    print_files(outcome)
    if not outcome.encrypted:
        click.echo(
            "\nWarning: the private keys are not encrypted, as the store has no key password:\n"
            "whoever reads a file has its key. Name a password by --key-password-file."
        )
    if outcome.done:
        _print_when()
        replaced = [file.pattern for file in outcome.files if file.action == "replaced"]
        if replaced:
            names = " ".join(dict.fromkeys(map(_quoted, replaced)))
            click.echo(f"What was replaced comes back by: centcert rollback {names}")


def _print_vetted(vetted: Vetted) -> None:
    certificate = vetted.certificate
    chain = ", ".join(certificate.chain) or "none needed"
    rows = [
        ("certificate", f"{certificate.issued_to}, issued by {certificate.issued_by}"),
        ("valid", f"from {day(certificate.not_before)} to {day(certificate.not_after)}"),
        ("key", f"{certificate.public_key}, belongs to the certificate"),
        ("chain", chain),
        ("published as", ", ".join(map(_in_unicode, vetted.patterns))),
        *(("left out", f"{name}: nothing is looked up by it") for name in vetted.skipped),
        *(("note", remark) for remark in vetted.remarks),
    ]
    # Wrapped where a person reads it; whole, for grep, where a program does.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    click.echo(vetted.source)
    for what, text in rows:
        lines = textwrap.wrap(text, max(width - _INDENT, _INDENT), break_on_hyphens=False)
        click.echo(f"  {what:<12}  " + f"\n{' ' * _INDENT}".join(lines))
    click.echo()


def _print_rolled_back(outcome: Outcome) -> None:
    _print_heading(outcome, "Brought back in", "Would be brought back in")
    print_files(outcome)
    if outcome.done:
        _print_when()


def _print_removed(outcome: Outcome) -> None:
    _print_heading(outcome, "Removed from", "Would be removed from")
    print_files(outcome)
    for pattern, wildcard in outcome.wildcards.items():
        click.echo(f"{pattern} is answered by {wildcard} from then on.")
    if outcome.done:
        names = " ".join(dict.fromkeys(_quoted(file.pattern) for file in outcome.files))
        _print_when()
        click.echo(f"They come back by: centcert rollback {names}")


def _print_heading(outcome: Outcome, done: str, would: str) -> None:
    if outcome.done:
        click.echo(f"{done} {outcome.store}:")
    else:
        click.echo(f"{would} {outcome.store} (nothing was written):")


def _print_when() -> None:
    click.echo("\nNodes that watch the store take this up at once, others within their `refresh`.")


def _in_unicode(pattern: str) -> str:
    wildcard = "*." if pattern.startswith("*.") else ""
    return wildcard + HostName(pattern.removeprefix(wildcard)).unicode


def _quoted(pattern: str) -> str:
    return f"'{pattern}'" if pattern.startswith("*") else pattern
