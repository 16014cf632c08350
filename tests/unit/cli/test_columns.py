from __future__ import annotations

import pytest

from centcert.cli.columns import Column, lay_out

COLUMNS = (Column("file", 9), Column("issued to", 1, least=6), Column("by", 5, least=4))
ROWS = [("a.pfx", "somebody else", "authority"), ("bü世.pfx", "x", "y")]


def test_a_pipe_gets_everything():
    lines, left_out = lay_out(COLUMNS, ROWS, None)
    assert lines == [
        "FILE      ISSUED TO      BY",
        "a.pfx     somebody else  authority",
        "bü世.pfx  x              y",
    ]
    assert left_out == []


@pytest.mark.parametrize(
    ("width", "line", "left_out"),
    [
        (34, "a.pfx     somebody else  authority", []),
        (33, "a.pfx     somebody el…  authority", []),
        (27, "a.pfx     someb…  authority", []),
        (26, "a.pfx     someb…  authori…", []),
        (22, "a.pfx     someb…  aut…", []),
        (21, "a.pfx     authority", ["issued to"]),
        (15, "a.pfx     auth…", ["issued to"]),
        (13, "a.pfx", ["issued to", "by"]),
        (1, "a.pfx", ["issued to", "by"]),
    ],
)
def test_a_terminal_gets_what_it_has_room_for(width: int, line: str, left_out: list[str]):
    lines, missing = lay_out(COLUMNS, ROWS, width)
    assert (lines[1], missing) == (line, left_out)
    assert width < 8 or all(len(one) <= width for one in lines)
