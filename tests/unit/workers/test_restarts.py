"""When a process that has died is started again."""

from centcert.workers.restarts import LONG_LIFE_S, PAUSES_S, Restarts


def test_after_a_long_life_the_successor_comes_at_once():
    restarts = Restarts()
    for _ in range(5):
        assert restarts.after(began=0.0, died=LONG_LIFE_S) == LONG_LIFE_S


def test_whoever_dies_of_its_start_is_not_started_over_and_over():
    restarts = Restarts()
    pauses = [restarts.after(began=-1.0, died=0.0) for _ in range(2000)]
    assert pauses[0] == 0, "it may have been killed"
    assert pauses[1:4] == [PAUSES_S[0], 2 * PAUSES_S[0], 4 * PAUSES_S[0]]
    assert pauses[-1] == PAUSES_S[1]


def test_a_long_life_in_between_is_a_new_beginning():
    restarts = Restarts()
    for _ in range(5):
        restarts.after(began=0.0, died=1.0)
    restarts.after(began=0.0, died=LONG_LIFE_S)
    assert restarts.after(began=0.0, died=1.0) == 1.0
