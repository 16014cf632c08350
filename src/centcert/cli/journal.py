"""What a running front end writes to its log: one line for what a person may want to know.

Handshakes that went well are not among them. Strangers cause most of the lines, so
their rate is bounded and what is left out is counted; the node's own lines have a bound of
their own, which nobody else can use up.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from centcert.lines import Line, line_of, printable

if TYPE_CHECKING:
    import asyncio

    from centcert.lines import Level

LINES_A_SECOND: Final = 20
"""Of each of the two kinds."""


class LogLine(Line, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the log in JSON; ``time`` is when it was written."""

    time: datetime


class Journal:
    """Listens to store, provider and front end; writes to standard error.

    Args:
        as_json: whether each line is a ``LogLine``.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._visitors = _Budget("about visitors")
        self._own = _Budget("about this node")

    def __call__(self, event: object) -> None:
        """Write the event's line, if it has one and the second's share is not used up."""
        line = line_of(event)
        if line is not None:
            self._write_within(self._visitors if line.by_visitors else self._own, line)

    def say(self, event: str, sentence: str, level: Level = "info") -> None:
        """Write what the command itself has to say."""
        self._write(Line(event, level, printable(sentence)))

    def fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write what went wrong in Centcert itself; the event loop's exception handler."""
        del loop
        error = context.get("exception")
        words = f"fault: {context['message']}"
        if error is not None:
            words += f": {type(error).__name__}: {error}"
            for frame in traceback.extract_tb(error.__traceback__)[-1:]:
                words += f" ({Path(frame.filename).name}:{frame.lineno})"
        line = Line("fault", "error", printable(" ".join(words.split())))
        self._write_within(self._own, line)

    def _write_within(self, budget: _Budget, line: Line) -> None:
        left_out = budget.left_out()
        if left_out:
            sentence = f"left out {left_out} lines {budget.of_what}"
            self._write(Line("left-out", "warning", sentence))
        if budget.take():
            self._write(line)

    def _write(self, line: Line) -> None:
        """Write a line; a node goes on serving where nobody can read it."""
        text = line.sentence
        if self._as_json:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            text = msgspec.json.encode({"time": now, **msgspec.to_builtins(line)}).decode()
        with suppress(OSError):
            click.echo(text, err=True)


class _Budget:
    """So many lines a second."""

    def __init__(self, of_what: str) -> None:
        self.of_what = of_what
        self._second = 0
        self._asked = 0

    def left_out(self) -> int:
        """Return how many lines the last second had no room for, once it is over."""
        second = int(time.monotonic())
        if second == self._second:
            return 0
        left_out = max(self._asked - LINES_A_SECOND, 0)
        self._second, self._asked = second, 0
        return left_out

    def take(self) -> bool:
        """Say whether there is room for one more line in this second."""
        self._asked += 1
        return self._asked <= LINES_A_SECOND
