"""Handshakes for people: a table of time, step and what happened."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table
from rich.text import Text

from centcert.lines import printable
from centcert.steps import step_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert.steps import Step

MAX_EVENTS: Final = 1_000
"""Noted and not yet taken: nobody takes them any more once the tour is over."""


class Recorder:
    """Listens to store, provider and front end and stamps each event with the time."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, object]] = deque(maxlen=MAX_EVENTS)

    def __call__(self, event: object) -> None:
        """Note an event."""
        self._events.append((time.perf_counter(), event))

    def take(self) -> list[Step]:
        """Return the steps that were noted since the last call; the first was at 0 s."""
        steps = [step for at, event in self._events if (step := step_of(event, at))]
        self._events.clear()
        began = steps[0].at_s if steps else 0.0
        return [msgspec.structs.replace(step, at_s=step.at_s - began) for step in steps]


def timeline(steps: Iterable[Step]) -> Table:
    """Lay steps out as rows of time, step and what happened."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", width=10)
    table.add_column(width=13, style="cyan")
    table.add_column()
    for step in steps:
        text = Text(printable(step.text))
        if step.duration_s is not None:
            text.append(f"  {step.duration_s * 1000:.1f} ms", style="dim")
        table.add_row(f"{step.at_s * 1000:.1f} ms", Text(printable(step.step)), text)
    return table
