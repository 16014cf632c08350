"""A page of the docs whose commands are run: what it says, and what they print.

In a block of the kind ``console``, a line after ``# `` is a command, to the end of its
continuations and of its here-document; what follows is what it prints. Words after ``console``,
like ``second terminal``, name where it goes on running, and a block ``output of the second
terminal`` has what it prints next. Other blocks are not run.

This module runs as a program too, on a machine without the tests.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pexpect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE_S: Final = 20.0
WIDTH: Final = 80

_LINE, _END = 0, 1

_BLOCK = re.compile(r"^```console ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ISO = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_CURLS = re.compile(r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\d{4}) GMT")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page.

    Attributes:
        text: for a shell.
        output: what it prints, in the page.
        terminal: where it runs while others do; empty: it is run to its end.
    """

    text: str
    output: str
    terminal: str = ""


def commands(page: str) -> Iterator[Command]:
    """Read the commands of a page, in order; one without text has the rest of a terminal's."""
    for where, block in _BLOCK.findall(page):
        if where.startswith("output of the "):
            yield Command("", block, where.removeprefix("output of the "))
            continue
        lines = block.splitlines()
        while lines:
            text = [lines.pop(0).removeprefix("# ")]
            if here := re.search(r"<<'(\w+)'$", text[0]):
                while text[-1] != here[1]:
                    text.append(lines.pop(0))
            while text[-1].endswith("\\"):
                text.append(lines.pop(0))
            output = []
            while lines and not lines[0].startswith("# "):
                output.append(lines.pop(0) + "\n")
            yield Command("\n".join(text), "".join(output), where)


def masked(text: str, began: str) -> str:
    """Leave out what differs from run to run; dates are told as days after ``began``."""
    start = datetime.fromisoformat(began).replace(tzinfo=UTC)

    def days(when: datetime) -> str:
        return f"day {(when.replace(tzinfo=UTC) - start).days}"

    text = _ANSI.sub("", text)
    # How many files a process may have open is the machine's own.
    text = re.sub(r"^.*(RLIMIT_NOFILE|files may be open).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\d+ of (\d+) checks", r"N of \1 checks", text, flags=re.MULTILINE)
    # Told again whenever the watch begins anew.
    text = re.sub(r"^changes of the store are seen from now on\r?\n", "", text, flags=re.MULTILINE)
    # Its versions name the error differently.
    text = re.sub(r"^curl: \(35\) .*: *", "curl: (35) ", text, flags=re.MULTILINE)
    text = _CURLS.sub(
        lambda match: days(datetime.strptime(f"{match[0]}+0000", "%b %d %H:%M:%S %Y GMT%z")), text
    )
    text = _ISO.sub(lambda match: days(datetime.fromisoformat(match[0])), text)
    text = re.sub(r"\d\d:\d\d(:\d\d\.\d{3})?(?= )", "TIME", text)
    text = re.sub(r"\d+(\.\d+)? (ms|s|min)\b( \d+ s\b)?", "TIME", text)
    text = re.sub(r"\d+ d \d+ h\b", "TIME", text)
    text = re.sub(r"(\d+) (bytes|[KMG]iB)\b", r"N \2", text)
    text = re.sub(r"127\.0\.0\.1:\d{5}\b", "CLIENT", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def first_day(text: str) -> str:
    """Return the earliest date of a text: on it the commands were run."""
    return str(min(_ISO.findall(text)))


class Terminals:
    """Runs a page's commands, each at a terminal, and types what they ask for.

    Args:
        passwords: what to type, by what the prompt or the command says.
        began: the day that the page's outputs are of.
    """

    def __init__(self, passwords: Mapping[str, str], began: str) -> None:
        self._passwords = passwords
        self._began = began
        self._today = datetime.now(UTC).date().isoformat()
        self._meanwhile: dict[str, pexpect.spawn[str]] = {}

    def run(self, command: Command) -> str:
        """Run a command to its end, or to the page's output; return what it printed."""
        if command.terminal:
            return self._begin(command) if command.text else self._more(command)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            output = self._typed(command.text)
            # What the file server tells, or a node reads at its start, may still be on its way.
            waits = command.text.startswith(("curl", "centcert status"))
            if not waits or self.agrees(output, command.output) or time.monotonic() > deadline:
                return output
            time.sleep(0.1)

    def _typed(self, text: str) -> str:
        child = _spawn(text)
        last = ""
        output = ""
        while True:
            found = child.expect(
                [r"(?:[^\r\n]*[Pp]assword[^\r\n:]*|Repeat[^\r\n:]*): ?$", pexpect.EOF]
            )
            output += _text(child.before) + _text(child.after)
            if found:
                child.close()
                return output.replace("\r\n", "\n")
            prompt = _text(child.after)
            asked = prompt + text if "SMB" in prompt else prompt
            last = next((typed for what, typed in self._passwords.items() if what in asked), last)
            child.sendline(last)

    def _begin(self, command: Command) -> str:
        self._meanwhile[command.terminal] = _spawn(command.text)
        return self._more(command)

    def _more(self, command: Command) -> str:
        """Read what a terminal shows until it is what the page has, with its ``^C`` at the end."""
        child = self._meanwhile[command.terminal]
        wanted, interrupt, _ = command.output.partition("^C")
        output = ""
        deadline = time.monotonic() + PATIENCE_S
        while not self.agrees(output, wanted) and time.monotonic() < deadline:
            found = child.expect([r"[^\r\n]*\r\n", pexpect.EOF, pexpect.TIMEOUT], timeout=1)
            if found == _LINE:
                output += _text(child.after)
            elif found == _END:
                break
        if interrupt:
            child.sendintr()
            child.expect(pexpect.EOF)
            output += _text(child.before)
        return output.replace("\r\n", "\n")

    def agrees(self, output: str, wanted: str) -> bool:
        """Say whether ``output``, of today, is what the page has."""
        return masked(output, self._today) == masked(wanted, self._began)

    def close(self) -> None:
        """End what still runs."""
        for child in self._meanwhile.values():
            child.close(force=True)


def _spawn(text: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        "bash",
        ["-c", text],
        timeout=PATIENCE_S,
        encoding="utf-8",
        dimensions=(40, WIDTH),
        env={**os.environ, "TERM": "dumb"},
    )


def _text(part: object) -> str:
    return part if isinstance(part, str) else ""  # pexpect has types for the end and for silence


def main(page: Path, passwords: str, results: Path) -> None:
    """Run a page's commands until one prints something else; write what each printed as JSON."""
    text = page.read_text(encoding="utf-8")
    terminals = Terminals(json.loads(passwords), first_day(text))
    printed = []
    for command in commands(text):
        printed.append(terminals.run(command))
        if not terminals.agrees(printed[-1], command.output):
            break
    terminals.close()
    results.write_text(json.dumps(printed), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
