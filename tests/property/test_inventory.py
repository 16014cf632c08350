from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centcert.admin.inventory.file_warnings import served_by
from centcert.admin.inventory.groups import EXPIRIES, expiry_group
from centcert.admin.inventory.listing import STATES, Grouping, Order, in_order, judge, matching
from centcert.admin.inventory.reading import Inspected, is_certificate_file
from centcert.admin.inventory.spelling import right_key
from centcert.cli.columns import Column, lay_out
from centcert.names import HostName, candidates, pattern_of
from tests.unit.admin.inventory.made import readable, unreadable

instants = st.floats(0, datetime(9990, 1, 1, tzinfo=UTC).timestamp())
names = st.sampled_from(
    ["x.example", "*.x.example", "www.x.example", "xn--bcher-kva.example", "y.example"]
)
keys = st.one_of(
    st.tuples(
        st.sampled_from(
            ["x.example", "_.x.example", "www.x.example", "bücher.example", "*.x", "X"]
        ),
        st.sampled_from([".pfx", ".pem", ".p12", ".PFX", " .pfx", ".pfx.pfx", " (1).pfx"]),
    ).map("".join),
    st.text(max_size=12),
)
files = st.lists(
    st.one_of(
        st.builds(unreadable, keys),
        st.builds(
            lambda key, held, not_before, not_after: readable(
                key, *held, not_before=not_before, not_after=not_after
            ),
            keys,
            st.lists(names, max_size=3, unique=True),
            instants,
            instants,
        ),
    ),
    max_size=8,
    unique_by=lambda one: one.file.key,
)


@given(now=instants, expiries=st.lists(instants, min_size=2))
def test_groups_follow_one_another(now: float, expiries: list[float]):
    ranks = [EXPIRIES.index(expiry_group(not_after, now)) for not_after in sorted(expiries)]
    assert all(earlier <= later for earlier, later in pairwise(ranks))
    assert "unreadable" not in {EXPIRIES[rank] for rank in ranks}
    assert expiry_group(now, now) == "tomorrow"


@given(key=keys)
def test_a_name_that_is_put_right_is_right(key: str):
    found = right_key(key)
    if found is None:
        return
    right, wrong = found
    assert wrong
    assert right != key
    assert pattern_of(right) is not None
    assert right_key(right) is None
    assert is_certificate_file(right)


@given(stem=st.sampled_from(["www.x.example", "xn--bcher-kva.example", "pem.example", "localhost"]))
def test_what_a_look_up_asks_for_is_never_put_right(stem: str):
    for candidate in candidates(HostName(stem)):
        assert right_key(candidate.key) is None
        assert served_by(candidate.key) == pattern_of(candidate.key)


@given(held=files, now=instants, grouping=st.sampled_from([None, "expiry", "issuer"]))
def test_any_store_is_judged(held: list[Inspected], now: float, grouping: Grouping | None):
    entries = judge(held, now, grouping)
    assert [entry.key for entry in entries] == [one.file.key for one in held]
    for entry in entries:
        assert entry.state in STATES
        assert (entry.state == "unused") <= (entry.name is None)
        assert (entry.certificate is None) == (entry.state == "unreadable")
        assert ("misnamed" in {warning.code for warning in entry.warnings}) == (entry.name is None)
    for order in get_args(Order):
        ordered = in_order(entries, order)
        assert sorted(entry.key for entry in ordered) == sorted(entry.key for entry in entries)
        groups = [entry.group for entry in ordered]
        assert len(set(groups)) == sum(a != b for a, b in pairwise([object(), *groups]))
    assert matching(entries, "", []) == entries


@given(held=files)
def test_of_each_name_one_file_comes_first(held: list[Inspected]):
    entries = judge(held, 0.0)
    for name in {entry.name for entry in entries} - {None}:
        same = [entry for entry in entries if entry.name == name]
        second = [e for e in same if "same-name" in {warning.code for warning in e.warnings}]
        assert len(second) == len(same) - 1


@given(
    rows=st.lists(st.lists(st.text(max_size=9), min_size=3, max_size=3), max_size=5),
    width=st.none() | st.integers(1, 40),
)
@pytest.mark.parametrize("worths", [(3, 2, 1), (1, 2, 3)])
def test_columns_fit(rows: list[list[str]], width: int | None, worths: tuple[int, ...]):
    columns = [Column(title, worth, 3) for title, worth in zip("abc", worths, strict=True)]
    lines, left_out = lay_out(columns, rows, width)
    assert len(lines) == len(rows) + 1
    assert len(left_out) < len(columns)
    assert width is not None or not left_out
