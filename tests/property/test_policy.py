"""The failure policy over all conditions and all choices."""

from itertools import product

import pytest

from centcert.provider.policy import CHOICES, Action, Condition, Policy, decide

POLICIES = [
    Policy(absent, unavailable, bad, expired, no_name)
    for absent, unavailable, bad, expired, no_name in product(
        CHOICES[Condition.ABSENT],
        CHOICES[Condition.UNAVAILABLE],
        CHOICES[Condition.BAD],
        CHOICES[Condition.EXPIRED],
        CHOICES[Condition.NO_NAME],
    )
]
ALL = list(product(Condition, POLICIES, (False, True), (False, True)))


@pytest.mark.parametrize("condition", Condition)
def test_every_answer_is_one_that_can_be_given(condition: Condition):
    for policy, default, last_good in product(POLICIES, (False, True), (False, True)):
        action = decide(condition, policy, default=default, last_good=last_good)
        assert action is not Action.DEFAULT or default
        assert action is not Action.LAST_GOOD or last_good
        assert (action is Action.SERVE) <= (condition in {Condition.GOOD, Condition.EXPIRED})


def test_another_names_certificate_is_served_only_where_nothing_is_held_for_the_name():
    for condition, policy, default, last_good in ALL:
        if decide(condition, policy, default=default, last_good=last_good) is Action.DEFAULT:
            assert condition in {Condition.ABSENT, Condition.NO_NAME}


def test_a_refusal_that_was_chosen_is_kept():
    chosen = Policy(*[Action.REFUSE] * 5)
    for condition, default, last_good in product(Condition, (False, True), (False, True)):
        action = decide(condition, chosen, default=default, last_good=last_good)
        assert action is (Action.SERVE if condition is Condition.GOOD else Action.REFUSE)


def test_each_choice_matters_in_its_own_condition_only():
    for condition, policy in product(Condition, POLICIES):
        action = decide(condition, policy, default=True, last_good=True)
        own = getattr(policy, condition.name.lower(), Action.SERVE)
        assert action is own


def test_the_defaults_are_the_first_choices():
    for condition, choices in CHOICES.items():
        assert getattr(Policy(), condition.name.lower()) is choices[0]
