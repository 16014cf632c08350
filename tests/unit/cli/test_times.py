import pytest

from centcert.cli.times import age


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "0 s"),
        (12, "12 s"),
        (60, "1 min"),
        (65, "1 min 5 s"),
        (3_605, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400 * 3, "3 d"),
        (86_400 * 89 + 3_600 * 22 + 59, "89 d 22 h"),
    ],
)
def test_an_age_has_its_two_largest_units(seconds: float, words: str):
    assert age(seconds) == words
