"""Write docs/centcert.1 from what ``--help`` prints: ``python -m tools.man``.

It decides how a command is laid out as a page of the manual (man-pages(7)); every word of
a command and its options is the command's own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from centcert.cli.main import centcert

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parent.parent / "docs" / "centcert.1"

HEAD = """\
.\\" Made by `python -m tools.man` from the help of the commands; a test compares.
.TH CENTCERT 1 "" "Centcert" "User Commands"
.SH NAME
centcert \\- serve TLS from a central certificate store
.ad l
.nh
.SH SYNOPSIS
.B centcert
.I COMMAND
.RI [ OPTIONS ]
.SH DESCRIPTION
"""

TAIL = """\
.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
A finding, or a failed operation.
.TP
.B 2
Wrong usage or settings.
.SH ENVIRONMENT
.TP
.B CENTCERT_CONFIG
The settings file, if
.B \\-\\-config
does not name one.
.SH FILES
.TP
.I /etc/centcert/centcert.toml
The settings, if there is no
.BR CENTCERT_CONFIG .
.TP
.I \\(ti/.config/centcert/centcert.toml
The settings, if there are none of the system.
.TP
.I /run/centcert/control.sock
Where commands reach the running node.
.TP
.I /var/lib/centcert
Sealed copies of what was served.
.SH SEE ALSO
.BR systemd.service (5),
.BR systemd.socket (5),
.BR systemd.exec (5)
"""


def page() -> str:
    """Return the whole page, in roff."""
    parts = [HEAD, *_paragraphs(centcert.help or ""), ".SH COMMANDS\n"]
    context = click.Context(centcert, info_name="centcert")
    for name in sorted(centcert.commands):
        parts += _command(name, centcert.commands[name], context)
    return "".join([*parts, TAIL])


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS centcert {text(name)} {text(usage)}\n"
    yield from _paragraphs(command.help or "")
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            term, explanation = record
            yield f".TP\n.B {text(term)}\n"
            yield f"{text(explanation)}\n" if explanation else ".br\n"


def _paragraphs(help_text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", help_text.strip())):
        yield ".PP\n" * (number > 0) + text(" ".join(paragraph.split())) + "\n"


_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",
        "~": r"\(ti",
        "^": r"\(ha",
        "`": r"\(ga",
        '"': r"\(dq",
        "\N{HORIZONTAL ELLIPSIS}": "...",
    }
)


def text(words: str) -> str:
    """Return ``words`` as roff that is printed as it stands (groff_char(7))."""
    escaped = words.translate(_ESCAPES)
    return r"\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
