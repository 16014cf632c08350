"""``centcert export``: take a certificate and its key out of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from centcert.admin.export import certificates_pem, private_key_pem, take_out, write_new_files
from centcert.admin.pfx import write_pfx
from centcert.admin.secrets import read_secret
from centcert.admin.vetting import day, parse_pattern
from centcert.cli import options
from centcert.cli.desk import Access, access, ask_password
from centcert.cli.loop import run
from centcert.provider.decoder import Decoder
from centcert.stores import open_store

if TYPE_CHECKING:
    from centcert.credential import Credential

_PEM_SUFFIXES = (".pem", ".crt", ".cer")


class Exported(msgspec.Struct, frozen=True):
    """What ``--json`` prints.

    Attributes:
        key: the store's file that it came from.
        files: what was written.
        not_after: seconds since the epoch.
    """

    key: str
    files: tuple[str, ...]
    not_after: float


@click.command(short_help="Take a certificate and its key out of the store.")
@click.argument("name")
@click.option(
    "--output", type=options.FILE, help="The file to write; otherwise called as in the store."
)
@click.option(
    "--pem/--pfx",
    "as_pem",
    default=None,
    help="Certificates and key as two PEM files, the key's ending in .key and not encrypted; or a"
    " PFX. Otherwise as --output ends, else a PFX.",
)
@click.option(
    "--output-password-file",
    type=options.FILE,
    help="A file (mode 0600) with the password to give the PFX; otherwise it is asked for.",
)
@options.config
@options.store
@options.as_json
def export(
    name: str,
    output: Path | None,
    output_password_file: Path | None,
    config: Path | None,
    *,
    as_pem: bool | None,
    as_json: bool,
    **given: object,
) -> None:
    """Write what the store holds for NAME into new files that only you can read.

    NAME is a host name, for which the wildcard's file does too, or a wildcard. A file that is
    there is never overwritten.
    """
    pattern = parse_pattern(name)
    if as_pem is None:
        as_pem = output is not None and output.suffix in _PEM_SUFFIXES
    if as_pem and output is not None and output.suffix == ".key":
        raise click.UsageError("--output names the certificates' file: the key's ends in .key.")
    to = access(config, given)
    credential = run(_taken_out(to, pattern))
    stem = Path(credential.key).stem
    output = output or Path(f"{stem}.pem" if as_pem else f"{stem}.pfx")
    if as_pem:
        files = {
            output: certificates_pem(credential),
            _beside(output): private_key_pem(credential),
        }
    else:
        files = {output: write_pfx(credential, _password(output, output_password_file))}
    write_new_files(files)
    exported = Exported(credential.key, tuple(map(str, files)), credential.not_after)
    if as_json:
        click.echo(msgspec.json.encode(exported))
    else:
        written = " and ".join(exported.files)
        click.echo(f"{exported.key}, good until {day(exported.not_after)}, written to {written}.")
        if as_pem:
            click.echo(f"The key in {exported.files[-1]} is not encrypted.")


async def _taken_out(to: Access, pattern: str) -> Credential:
    async with Decoder() as decoder, open_store(to.url, account=to.account) as store:
        return await take_out(store, decoder, pattern, to.key_passwords)


def _beside(output: Path) -> Path:
    stem = output.stem if output.suffix in _PEM_SUFFIXES else output.name
    return output.with_name(stem + ".key")


def _password(output: Path, file: Path | None) -> bytes:
    if file is not None:
        return read_secret(file)
    return ask_password(f"New password of {output}", "--output-password-file", twice=True)
