"""A name's answer under a failure policy: from memory, the store, a copy, or the default.

``policy.decide`` says what is to be done; this module finds out the condition and does
it. The front end asks here, and nowhere else.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from centcert.errors import (
    BadBlob,
    CentcertError,
    CredentialExpired,
    NoServerName,
    UnknownName,
)
from centcert.provider.policy import Action, Condition, Policy, decide

if TYPE_CHECKING:
    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.provider import Provider

PATIENCE_S: Final = 0.25
"""How long a store may take for a name that there is a copy of: a node that starts while its
store hangs serves from its copies at once, not after the store's own deadlines."""


class Answer(NamedTuple):
    """What a handshake gets: ``name`` is the one asked for, or the default name."""

    name: HostName
    credential: Credential


class Answers(Protocol):
    """What a front end asks: a ``Provider``, or a worker's way to the one of its node."""

    def known(self, name: HostName, *, copies: bool = True) -> Credential | None:
        """Return the credential of ``name`` if it is in memory here, without waiting.

        ``copies``: whether it may be a last-good copy, which the store did not give.
        """

    async def answer(self, name: HostName, policy: Policy, default: HostName | None) -> Answer:
        """Return what a handshake for ``name`` gets; see the function ``answer``."""

    def source(self, name: HostName) -> str | None:
        """Return the key of the file that answers ``name`` from memory, if one does."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""


def answer_from_memory(provider: Answers, name: HostName, policy: Policy) -> Credential | None:
    """Return the credential of ``name`` if it is in memory, without waiting.

    Raises:
        CredentialExpired: it is outside its dates, and the policy refuses that.
    """
    credential = provider.known(name, copies=policy.serves_copies)
    if credential is not None and policy.expired is Action.REFUSE:
        _check_dates(provider, name, credential)
    return credential


async def answer(
    provider: Provider, name: HostName, policy: Policy, default: HostName | None
) -> Answer:
    """Return what a handshake for ``name`` gets.

    Raises:
        CentcertError: a refusal; its ``alert`` says why in the protocol's words.
    """
    try:
        credential = await _ask_store(provider, name, policy)
    except CentcertError as error:
        action = decide(
            condition_of(error),
            policy,
            default=default is not None and default != name,
            last_good=provider.has_copy(name),
        )
        if action is Action.DEFAULT and default is not None:
            return await answer(provider, default, replace(policy, absent=Action.REFUSE), None)
        copy = await provider.copy(name) if action is Action.LAST_GOOD else None
        if copy is None:
            raise
        credential = copy
    if policy.expired is Action.REFUSE:
        _check_dates(provider, name, credential)
    return Answer(name, credential)


def name_for_none(
    error: CentcertError | None, policy: Policy, default: HostName | None
) -> HostName:
    """Return the name to answer for when the client sent none, or none that is a host name.

    Args:
        error: why what the client sent is no host name; ``None``: it sent nothing.
        policy: the listener's.
        default: the configured default name.

    Raises:
        CentcertError: the handshake is refused.
    """
    condition = Condition.NO_NAME if error is None else Condition.ABSENT
    action = decide(condition, policy, default=default is not None, last_good=False)
    if action is Action.DEFAULT and default is not None:
        return default
    raise error or NoServerName()


def condition_of(error: CentcertError) -> Condition:
    """Say what a look-up came to that ended with ``error``."""
    if isinstance(error, UnknownName):
        return Condition.ABSENT
    if isinstance(error, CredentialExpired):
        return Condition.EXPIRED
    return Condition.BAD if isinstance(error, BadBlob) else Condition.UNAVAILABLE


async def _ask_store(provider: Provider, name: HostName, policy: Policy) -> Credential:
    known = provider.known(name) if policy.serves_copies else None
    if known is not None:  # the default name's, for one, or what has come meanwhile
        return known
    if policy.unavailable is Action.REFUSE or not provider.has_copy(name):
        return await provider.credential(name)
    if provider.is_busy and (copy := await provider.copy(name)) is not None:
        return copy
    try:
        async with asyncio.timeout(PATIENCE_S):  # ends this wait: the look-up goes on behind
            return await provider.credential(name)
    except TimeoutError:
        copy = await provider.copy(name)
    # A copy that has expired, or proves damaged, is no reason to refuse: the store is only slow.
    return await provider.credential(name) if copy is None else copy


def _check_dates(provider: Answers, name: HostName, credential: Credential) -> None:
    if not credential.within_dates(provider.wall()):
        raise CredentialExpired(name, credential.key)
