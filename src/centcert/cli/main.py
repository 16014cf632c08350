"""The command ``centcert`` and what its exit codes mean."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

import click

from centcert import __version__
from centcert.admin.facts import printable
from centcert.cli.demo import demo
from centcert.cli.doctor import doctor
from centcert.cli.explain import explain
from centcert.cli.export import export
from centcert.cli.installing import completion, unit
from centcert.cli.inventory import list_
from centcert.cli.node_commands import reload
from centcert.cli.publish import publish, remove, rollback
from centcert.cli.serve import serve
from centcert.cli.status import status
from centcert.cli.store_commands import clear, disable, enable, get, set_
from centcert.cli.trace import trace
from centcert.errors import CentcertError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_OUTPUT_LOST: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="centcert %(version)s")
def centcert() -> None:
    """Serve TLS from a central certificate store: the front end keeps no certificate.

    Exit codes: 0 done, 1 a finding or a failed operation, 2 wrong usage or settings.
    """


centcert.add_command(demo)
centcert.add_command(doctor)
centcert.add_command(explain)
centcert.add_command(export)
centcert.add_command(list_)
centcert.add_command(serve)
for command in (enable, set_, get, clear, disable):
    centcert.add_command(command)
centcert.add_command(publish)
centcert.add_command(reload)
centcert.add_command(remove)
centcert.add_command(rollback)
centcert.add_command(status)
centcert.add_command(trace)
centcert.add_command(unit)
centcert.add_command(completion)


def main() -> None:
    """Run the command line and exit; every error is one sentence on standard error."""
    _open_standard_streams()
    try:
        _check_arguments()
        code = centcert(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except CentcertError as error:
        # It may quote a file's name or a server's words, which are anybody's.
        click.echo(f"centcert: {printable(str(error))}", err=True)
        code = error.exit_code
    except OSError as error:  # click has dealt with a reader that left
        if error.filename is not None or error.errno not in _OUTPUT_LOST:
            raise
        click.echo(f"centcert: The output cannot be written: {error.strerror}.", err=True)
        code = 1
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code)


def _check_arguments() -> None:
    """Refuse what could be no setting, and no text of JSON."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{argument!a} is not UTF-8.") from error


def _open_standard_streams() -> None:
    """Have what is closed of them lead nowhere: else the next file or socket takes its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
