"""The failure policy: what a handshake gets when its name has no good answer.

One pure function over all conditions. Whatever is chosen, no handshake ever gets a
certificate that covers neither the name it asked for nor a default the operator named.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Condition(Enum):
    """What a look-up came to."""

    GOOD = "good"
    EXPIRED = "expired"
    """There is a credential, but it is outside its dates."""
    ABSENT = "absent"
    """The store answered, and holds nothing for the name; or the name is none."""
    UNAVAILABLE = "unavailable"
    """The store gave no answer."""
    BAD = "bad"
    """The store holds only files that cannot be used."""
    NO_NAME = "no-name"
    """The client sent no server name."""


class Action(Enum):
    """What is done then."""

    SERVE = "serve"
    LAST_GOOD = "last-good"
    """Serve what this node served for the name before."""
    DEFAULT = "default"
    """Serve the credential of the default name."""
    REFUSE = "refuse"
    """End the handshake with the alert that says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do in each condition; each has its own two choices.

    Attributes:
        absent: ``DEFAULT`` (where a default name is configured) or ``REFUSE``.
        unavailable: ``LAST_GOOD`` (where there is a copy) or ``REFUSE``.
        bad: likewise.
        expired: ``SERVE`` or ``REFUSE``.
        no_name: as ``absent``.
    """

    absent: Action = Action.DEFAULT
    unavailable: Action = Action.LAST_GOOD
    bad: Action = Action.LAST_GOOD
    expired: Action = Action.SERVE
    no_name: Action = Action.DEFAULT

    @property
    def serves_copies(self) -> bool:
        """Whether a last-good copy may answer, whatever has kept the store from doing so."""
        return self.unavailable is Action.LAST_GOOD and self.bad is Action.LAST_GOOD


DEFAULT_POLICY: Final = Policy()

CHOICES: Final = {
    Condition.ABSENT: (Action.DEFAULT, Action.REFUSE),
    Condition.UNAVAILABLE: (Action.LAST_GOOD, Action.REFUSE),
    Condition.BAD: (Action.LAST_GOOD, Action.REFUSE),
    Condition.EXPIRED: (Action.SERVE, Action.REFUSE),
    Condition.NO_NAME: (Action.DEFAULT, Action.REFUSE),
}
"""What a policy may choose; the first is the default."""


def decide(condition: Condition, policy: Policy, *, default: bool, last_good: bool) -> Action:
    """Say what a handshake gets.

    Args:
        condition: what its look-up came to.
        policy: the listener's, or the site's.
        default: whether a default name is configured, and this is not itself its look-up.
        last_good: whether there is a last-good copy for the name.
    """
    match condition:
        case Condition.GOOD:
            return Action.SERVE
        case Condition.EXPIRED:
            return policy.expired
        case Condition.ABSENT | Condition.NO_NAME:
            chosen = policy.absent if condition is Condition.ABSENT else policy.no_name
            return chosen if default else Action.REFUSE
        case Condition.UNAVAILABLE | Condition.BAD:
            chosen = policy.unavailable if condition is Condition.UNAVAILABLE else policy.bad
            return chosen if last_good else Action.REFUSE
