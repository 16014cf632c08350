"""docs/inventory.md says of every state, group and warning that there is, and of no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from centcert.admin.inventory.file_warnings import Code
from centcert.admin.inventory.groups import EXPIRIES
from centcert.admin.inventory.listing import FAULTS, STATES

TEXT = (Path(__file__).parents[3] / "docs" / "inventory.md").read_text()


@pytest.mark.parametrize(
    ("title", "all_there_are"),
    [("States", STATES), ("Groups", EXPIRIES), ("Warnings", get_args(Code))],
)
def test_each_is_described(title: str, all_there_are: tuple[str, ...]):
    (section,) = [part for part in TEXT.split("\n## ") if part.startswith(title)]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert re.findall(r"`([^`]+)`", "".join(rows)) == list(all_there_are)


def test_the_exit_codes_are_described():
    marked = [line.split("|")[1] for line in TEXT.splitlines() if line.endswith("| yes |")]
    assert set(re.findall(r"`([^`]+)`", "".join(marked))) == FAULTS
