"""What the bench computes from its figures, and how it shows it."""

from __future__ import annotations

import pytest

from bench.load import Result, percentile
from bench.tables import Table, compared, put_into, ratios, spread


def result(**fields: object) -> Result:
    whole = {
        "done": 3,
        "refused": 0,
        "failed": 0,
        "wrong": 0,
        "resumed": 0,
        "seconds": 1.0,
        "reason": "",
        "latencies_us": [1000.0, 2000.0, 3000.0],
    }
    return Result(**{**whole, **fields})  # type: ignore[arg-type]


def test_a_spread_is_the_median_and_the_quartiles():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == "3 (2 to 4)"
    assert spread([1000.0, 1250.0, 1500.0], 1) == "1,250.0 (1,125.0 to 1,375.0)"


def test_of_two_values_nobody_knows_quartiles():
    assert spread([1.0, 2.0], 1) == "1.5"


def test_ratios_are_of_the_same_round():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_a_ratio_is_the_median_of_the_rounds_not_of_the_medians():
    # The machine was slow in the last round for both.
    table = compared("T", "us", {"a": [10, 20, 300], "b": [20, 50, 300]}, "a")
    assert table.rows == [
        ("a", "20 (15 to 160)", "1.00 (1.00 to 1.00)"),
        ("b", "50 (35 to 175)", "2.00 (1.50 to 2.25)"),
    ]


TABLE = Table(
    "Title",
    ("server", "us"),
    [("nginx", "1"), ("ünïcode", "1,000")],
    ("A note.",),
)


def test_a_table_for_a_terminal_is_aligned():
    assert TABLE.text() == ("Title\n\nserver      us\nnginx        1\nünïcode  1,000\n\nA note.")


def test_a_table_for_a_page_is_markdown():
    assert TABLE.markdown() == (
        "**Title**\n"
        "\n"
        "| server | us |\n"
        "| --- | ---: |\n"
        "| nginx | 1 |\n"
        "| ünïcode | 1,000 |\n"
        "\n"
        "A note."
    )


PAGE = "before\n<!-- bench one -->\nold\n<!-- end -->\nbetween\n<!-- bench two -->\n<!-- end -->\n"


def test_a_table_replaces_only_its_own_place_in_a_page():
    page = put_into(PAGE, "one", r"new \1")
    assert page == PAGE.replace("old\n", "\nnew \\1\n\n")
    assert put_into(page, "one", r"new \1") == page
    assert put_into(page, "two", "x").endswith("<!-- bench two -->\n\nx\n\n<!-- end -->\n")


def test_a_page_without_the_place_is_refused():
    with pytest.raises(ValueError, match="no place for three"):
        put_into(PAGE, "three", "x")


def test_percentiles():
    assert percentile([7.0], 99) == 7.0
    assert percentile([float(n) for n in range(101)], 99) == 99.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert result().percentile_ms(50) == 2.0


@pytest.mark.parametrize("what", ["refused", "failed", "wrong"])
def test_a_figure_of_visits_that_went_wrong_is_none(what: str):
    assert result().check().done == 3
    with pytest.raises(RuntimeError, match=rf"\b1 {what}.*: the reason"):
        result(**{what: 1}, reason="the reason").check()
