from centcert.provider.allowance import Allowance


def test_a_burst_uses_up_the_reserve_and_time_brings_it_back():
    allowance = Allowance(rate=10, reserve=3)
    assert [allowance.take(0) for _ in range(5)] == [True, True, True, False, False]
    assert allowance.take(0.1)
    assert not allowance.take(0.1)
    assert [allowance.take(100) for _ in range(5)] == [True, True, True, False, False]


def test_in_the_long_run_the_rate_is_kept():
    allowance = Allowance(rate=10, reserve=1)
    assert sum(allowance.take(tick / 1000) for tick in range(10_000)) in range(99, 103)


def test_a_clock_that_stands_brings_nothing():
    allowance = Allowance(rate=10, reserve=1)
    assert allowance.take(5)
    assert not allowance.take(5)
    assert not allowance.take(4)
