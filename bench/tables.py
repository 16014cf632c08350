"""What a table of the bench is: figures over rounds, printed for people and for the docs."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns, with what must be said about them.

    Attributes:
        title: one line.
        columns: the first is of words, the others of figures.
        rows: a cell for each column.
        notes: sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """Return it for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        shown = [
            "  ".join(
                cell + pad if number == 0 else pad + cell
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
                for pad in (" " * (width - cell_len(cell)),)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", *shown, *(["", *self.notes] if self.notes else [])])

    def markdown(self) -> str:
        """Return it for a page."""
        rule = ("---", *["---:"] * (len(self.columns) - 1))
        lines = [f"| {' | '.join(line)} |" for line in (self.columns, rule, *self.rows)]
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([f"**{self.title}**", "", *lines, *notes])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Show a median with the quartiles around it; with fewer than three values, the median."""
    middle = statistics.median(values)
    if len(values) < 3:  # noqa: PLR2004  quartiles of two would be inventions
        return f"{middle:,.{digits}f}"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Divide round by round: what was measured one after the other had the same neighbours."""
    return [value / other for value, other in zip(values, base, strict=True)]


def compared(
    title: str,
    unit: str,
    figures: Mapping[str, Sequence[float]],
    base: str,
    *,
    digits: int = 0,
    notes: tuple[str, ...] = (),
) -> Table:
    """Lay out one figure of several servers beside its ratio to one of them.

    Args:
        title: of the table.
        unit: of the figures.
        figures: for each server a value a round, in the order of the rounds.
        base: the server that the ratios are to.
        digits: after the point.
        notes: sentences below the table.
    """
    rows = [
        (name, spread(values, digits), spread(ratios(values, figures[base]), 2))
        for name, values in figures.items()
    ]
    return Table(title, ("server", f"{unit} (quartiles)", f"to {base} (quartiles)"), rows, notes)


def put_into(page: str, name: str, text: str) -> str:
    """Replace what stands between ``<!-- bench NAME -->`` and ``<!-- end -->`` in a page.

    Raises:
        ValueError: the page has no such place.
    """
    place = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    page, count = place.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"There is no place for {name}: a line <!-- bench {name} -->.")
    return page
