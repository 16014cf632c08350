from __future__ import annotations

import pytest

from centcert.admin.units import Duration, Size
from centcert.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200 ms", 0.2),
        ("1.5 s", 1.5),
        ("5 min", 300),
        ("5min", 300),
        ("2 h", 7200),
        ("1 d", 86_400),
        ("365 d", 365 * 86_400),
        ("0 s", 0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float):
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "shown"),
    [("90 s", "90 s"), ("60 s", "1 min"), ("0.2 s", "200 ms"), ("1.5 s", "1.5 s"), ("24 h", "1 d")],
)
def test_a_duration_is_shown_in_the_unit_that_fits(text: str, shown: str):
    assert str(Duration.parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "size"), [("1 KiB", 1024), ("0.5 MiB", 512 * 1024), ("2GiB", 2 * 1024**3)]
)
def test_a_size_is_bytes(text: str, size: int):
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    ("text", "shown"), [("1024 KiB", "1 MiB"), ("3 GiB", "3 GiB"), ("1.5 KiB", "1.5 KiB")]
)
def test_a_size_is_shown_in_the_unit_that_fits(text: str, shown: str):
    assert str(Size.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "5", "min", "5 minutes", "5 MIN", "-5 s", "1e3 s", "\u0665 s"]
)
def test_a_time_without_a_known_unit_is_refused(text: str):
    with pytest.raises(SettingsError, match=r"needs a unit \(ms, s, min, h, d\): write .* '5 min'"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["5", "5 MB", "5 kib", "5 B"])
def test_a_size_without_a_known_unit_is_refused(text: str):
    with pytest.raises(SettingsError, match=r"needs a unit \(KiB, MiB, GiB\): write .* '256 MiB'"):
        Size.parse(text)


@pytest.mark.parametrize("many", ["366", "9" * 400, "9" * 5000])
def test_what_no_timer_and_no_memory_can_hold_is_refused(many: str):
    """Guards: float() makes these infinite, and the event loop, or int(), choked on them."""
    with pytest.raises(SettingsError, match=r"is more than 365 d\.$"):
        Duration.parse(f"{many} d")
    if len(many) > 3:
        with pytest.raises(SettingsError, match=r"is more than 1024 GiB\.$") as refused:
            Size.parse(f"{many} GiB")
        assert len(str(refused.value)) < 100
