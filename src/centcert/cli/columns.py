"""Lay rows out in columns, as far as a terminal has room for them.

Rich's tables do it more finely, and take seconds over 10,000 rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        worth: of several, the one of least worth is left out first.
        least: so few cells it can do with where room is scarce; ``None``: it cannot.
    """

    title: str
    worth: int
    least: int | None = None


def lay_out(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[str], list[str]]:
    """Write headings and rows, each as one line without blanks at its end.

    Args:
        columns: what the columns are.
        rows: a text for each column.
        width: of the terminal, in cells; ``None``: there is room for all.

    Returns:
        The lines, headings first, and the titles of the columns that are left out.
    """
    titles = [column.title.upper() for column in columns]
    lines = [titles, *rows]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    shown = list(range(len(columns)))
    if width is not None and _total(widths, shown) > width:
        wanted = widths
        widths = [
            min(wide, column.least or wide) for wide, column in zip(wanted, columns, strict=True)
        ]
        while len(shown) > 1 and _total(widths, shown) > width:
            shown.remove(min(shown, key=lambda at: columns[at].worth))
        for at in sorted(shown, key=lambda at: columns[at].worth, reverse=True):
            widths[at] += max(0, min(wanted[at] - widths[at], width - _total(widths, shown)))
    left_out = [column.title for at, column in enumerate(columns) if at not in shown]
    return [_line(line, widths, shown) for line in lines], left_out


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] for at in shown) + _GAP * (len(shown) - 1)


def _line(texts: Sequence[str], widths: Sequence[int], shown: Sequence[int]) -> str:
    cells = []
    for at in shown:
        text, width = texts[at], widths[at]
        if cell_len(text) > width:
            text = set_cell_size(text, width - 1) + "…"
        cells.append(set_cell_size(text, width))
    return (" " * _GAP).join(cells).rstrip()
