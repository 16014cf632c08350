"""The purse: never overdrawn, never idle, no message id twice."""

from __future__ import annotations

import pytest

from centcert.smb3.credits import TARGET, Credits, charge_for
from centcert.smb3.errors import ProtocolViolation


def test_it_begins_with_one_credit_and_the_id_zero():
    purse = Credits()

    assert purse.available == 1
    assert purse.take(1)[0] == 0
    assert purse.available == 0


def test_what_is_not_held_cannot_be_spent():
    with pytest.raises(ValueError, match="2 credits"):
        Credits().take(2)


def test_a_request_of_several_credits_takes_as_many_ids():
    purse = Credits()
    purse.settle(purse.take(1)[1], 100)

    assert [purse.take(charge)[0] for charge in (1, 16, 1)] == [1, 2, 18]


def test_it_asks_until_it_holds_the_target_and_no_further():
    purse = Credits()
    for _ in range(20):
        _, asked = purse.take(1)
        purse.settle(asked, asked)

    assert purse.available == TARGET
    _, asked = purse.take(16)
    assert asked == 16


def test_what_is_asked_for_already_is_not_asked_for_again():
    purse = Credits()
    purse.settle(purse.take(1)[1], 10)
    asked = [purse.take(1)[1] for _ in range(10)]

    assert sum(asked) <= TARGET + 10
    assert min(asked) >= 1


def test_a_server_that_takes_the_last_credit_away_is_left():
    purse = Credits()
    _, asked = purse.take(1)

    with pytest.raises(ProtocolViolation, match="last credit"):
        purse.settle(asked, 0)


@pytest.mark.parametrize(
    ("size", "charge"), [(0, 1), (1, 1), (65_536, 1), (65_537, 2), (1 << 20, 16)]
)
def test_one_credit_pays_for_64_kib(size: int, charge: int):
    assert charge_for(size) == charge
