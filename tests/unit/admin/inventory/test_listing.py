from __future__ import annotations

import pytest

from centcert.admin.inventory.listing import Entry, Grouping, Order, in_order, judge, matching
from centcert.provider.findings import EXPIRING_S
from tests.unit.admin.inventory.made import DAY_S, NOW, readable, unreadable


def state_of(*files: object) -> tuple[str, str | None]:
    entry = judge(files, NOW)[0]  # type: ignore[arg-type]
    return entry.state, entry.code


@pytest.mark.parametrize(
    ("not_before", "not_after", "state"),
    [
        (NOW, NOW + EXPIRING_S, "good"),
        (NOW, NOW + EXPIRING_S - 1, "expiring"),
        (NOW, NOW, "expiring"),
        (NOW - 2, NOW - 1, "expired"),
        (NOW + 1, NOW + EXPIRING_S, "not-yet-valid"),
    ],
)
def test_a_state_by_dates(not_before: float, not_after: float, state: str):
    file = readable("x.example.pfx", "x.example", not_before=not_before, not_after=not_after)
    assert state_of(file) == (state, None)


def test_other_states():
    assert state_of(unreadable("x.example.pfx")) == ("unreadable", "blob-damaged")
    assert state_of(unreadable("x.example.p12")) == ("unreadable", "blob-damaged")
    assert state_of(readable("x.example.p12", "x.example")) == ("unused", None)
    expired = readable("x.example.pfx", "y.example", not_after=NOW - 1)
    assert state_of(expired) == ("wrong-name", "wrong-name")
    assert state_of(readable("_.x.example.pfx", "a.x.example")) == ("good", None)


def test_a_wrong_name_says_which():
    (entry,) = judge([readable("x.example.pfx")], NOW)
    assert entry.sentence == (
        "its certificate is for no DNS name at all and does not cover x.example: put a certificate"
        " for that name in this file, or rename the file"
    )


FILES = [
    unreadable("a.example.pfx"),
    readable("xn--bcher-kva.example.pfx", "xn--bcher-kva.example", not_after=NOW + 2 * DAY_S),
    readable("_.y.example.pfx", "*.y.example", issuer="Another CA", not_after=NOW + DAY_S),
    readable("old.example.pfx", "old.example", not_after=NOW - DAY_S),
    readable("z.example.p12", "z.example", not_after=NOW + 300 * DAY_S),
]


def keys(entries: list[Entry]) -> list[str]:
    return [entry.key.removesuffix(".example.pfx") for entry in entries]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("file", ["_.y", "a", "old", "xn--bcher-kva", "z.example.p12"]),
        ("name", ["_.y", "a", "old", "xn--bcher-kva", "z.example.p12"]),
        ("issuer", ["_.y", "old", "xn--bcher-kva", "z.example.p12", "a"]),
        ("expires", ["old", "_.y", "xn--bcher-kva", "z.example.p12", "a"]),
    ],
)
def test_orders(order: Order, expected: list[str]):
    assert keys(in_order(judge(FILES, NOW), order)) == expected


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        (None, {"a": None, "_.y": None}),
        ("issuer", {"a": "unreadable", "_.y": "Another CA", "old": "Test CA"}),
        (
            "expiry",
            {
                "a": "unreadable",
                "_.y": "tomorrow",
                "old": "expired",
                "xn--bcher-kva": "this week",
                "z.example.p12": "later",
            },
        ),
    ],
)
def test_groups(grouping: Grouping | None, expected: dict[str, str | None]):
    entries = judge(FILES, NOW, grouping)
    found = dict(zip(keys(entries), (entry.group for entry in entries), strict=True))
    assert {key: found[key] for key in expected} == expected


def test_groups_stay_together_the_most_urgent_first():
    ordered = in_order(judge(FILES, NOW, "expiry"), "file")
    assert [one.group for one in ordered] == [
        *("expired", "tomorrow", "this week", "later", "unreadable"),
    ]
    ordered = in_order(judge(FILES, NOW, "issuer"), "expires")
    assert [one.group for one in ordered] == [
        *("Another CA", "Test CA", "Test CA", "Test CA", "unreadable"),
    ]
    assert keys(ordered) == ["_.y", "old", "xn--bcher-kva", "z.example.p12", "a"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["a", "xn--bcher-kva", "_.y", "old", "z.example.p12"]),
        ("Y.EXAMPLE", ["_.y"]),
        ("*.y", ["_.y"]),
        ("bücher", ["xn--bcher-kva"]),
        ("BÜCHER", ["xn--bcher-kva"]),
        ("another", ["_.y"]),
        ("test ca", ["xn--bcher-kva", "old", "z.example.p12"]),
        ("p12", ["z.example.p12"]),
        ("nowhere", []),
    ],
)
def test_text_is_found_wherever_it_stands(text: str, found: list[str]):
    assert keys(matching(judge(FILES, NOW), text, [])) == found


def test_states_are_chosen_among():
    entries = judge(FILES, NOW)
    assert keys(matching(entries, "", ["expired", "unused"])) == ["old", "z.example.p12"]
    assert keys(matching(entries, "old", ["unused"])) == []
