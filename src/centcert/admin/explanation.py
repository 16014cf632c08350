"""Which file a name gets, every step and why: the real look-up, written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from centcert import names
from centcert.admin.facts import Facts, facts
from centcert.errors import Alert, CredentialExpired, StoreError
from centcert.provider.answering import condition_of
from centcert.provider.decoder import Decoder
from centcert.provider.loader import Loader
from centcert.provider.lookup import Loaded, look_up
from centcert.provider.policy import DEFAULT_POLICY, Action, Condition, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from centcert.credential import Credential
    from centcert.errors import BadBlob, CentcertError
    from centcert.frontend import AppListener, Listener
    from centcert.names import Candidate, HostName
    from centcert.provider.lookup import Load, Rejected
    from centcert.provider.policy import Policy
    from centcert.stores.base import Store

Outcome: TypeAlias = Literal[
    "answers", "absent", "unusable", "outside-dates", "no-answer", "unasked"
]


class Step(msgspec.Struct, frozen=True):
    """One key of the look-up order.

    Attributes:
        key: the file asked for.
        wildcard: whether it is the wildcard's and not the name's own.
        outcome: ``answers``; ``absent``; ``unusable``: there, and bad or for other names;
            ``outside-dates``: good but for its dates, passed over or first of its kind;
            ``no-answer``: the store gave none; ``unasked``: what came before decided.
        sentence: what the store said and what was found, for people.
        certificate: what the file holds, if it could be read.
    """

    key: str
    wildcard: bool
    outcome: Outcome
    sentence: str
    certificate: Facts | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a listener does with the outcome, by its failure policy.

    Attributes:
        listener: its address; ``None``: none is configured, the default policy.
        action: ``serve``, ``last-good``, ``default`` or ``refuse``.
        sentence: the same for people.
    """

    listener: str | None
    action: str
    sentence: str


class Explanation(msgspec.Struct, frozen=True):
    """What a look-up comes to, with each of its steps.

    Attributes:
        name: the host name, in ASCII.
        store: the store's URL.
        condition: as the failure policy has it: ``good``, ``expired``, ``absent``,
            ``unavailable`` or ``bad``.
        key: the file that answers; ``None``: none does.
        fingerprint: SHA-256 of its certificate, in hex.
        steps: in look-up order.
        verdicts: what each listener does.
    """

    name: str
    store: str
    condition: str
    key: str | None
    fingerprint: str | None
    steps: tuple[Step, ...]
    verdicts: tuple[Verdict, ...]


async def explain(
    name: HostName,
    store: Store,
    *,
    passwords: Callable[[], Sequence[bytes]],
    now: float,
    listeners: Iterable[Listener | AppListener] = (),
    has_copy: bool = False,
) -> Explanation:
    """Look ``name`` up in ``store`` as a node does that has nothing in memory.

    Args:
        name: the host name.
        store: asked directly, whatever a node remembers of it.
        passwords: as for ``Provider``.
        now: seconds since the epoch.
        listeners: whose policies are applied; of none, the default policy is.
        has_copy: whether the node has a last-good copy for the name.

    Raises:
        SettingsError: a password file cannot be read.
    """
    record = _Record(name, now)
    async with Decoder() as decoder:
        loader = Loader(store, decoder, passwords, lambda _: None)
        await record.look_up(loader.load)
    answer = record.answer
    return Explanation(
        name=str(name),
        store=store.url,
        condition=record.condition.value,
        key=None if answer is None else answer.key,
        fingerprint=None if answer is None else answer.credential.fingerprint.hex(),
        steps=tuple(record.step(candidate) for candidate in names.candidates(name)),
        verdicts=tuple(record.verdicts(listeners, has_copy=has_copy)),
    )


class _Record:
    """A look-up that writes down what was said on its way."""

    def __init__(self, name: HostName, now: float) -> None:
        self._name = name
        self._now = now
        self._said: dict[str, Loaded | Rejected | StoreError | None] = {}
        self._passed_over: dict[str, BadBlob] = {}
        self._refusal: CentcertError | None = None
        self.answer: Loaded | None = None

    async def look_up(self, load: Load) -> None:
        async def noted(key: str) -> Loaded | Rejected | None:
            try:
                loaded = self._said[key] = await load(key)
            except StoreError as error:
                self._said[key] = error
                raise
            return loaded

        try:
            found = await look_up(self._name, noted, self._now)
        except StoreError as error:
            self._refusal = error
            return
        self._passed_over = {rejected.key: rejected.error for rejected in found.rejected}
        self.answer = found.answer
        if self.answer is None:
            self._refusal = found.refusal(self._name)
        elif not self.answer.credential.within_dates(self._now):
            self._refusal = CredentialExpired(self._name, self.answer.key)

    @property
    def condition(self) -> Condition:
        return Condition.GOOD if self._refusal is None else condition_of(self._refusal)

    def step(self, candidate: Candidate) -> Step:
        key, wildcard = candidate.key, candidate.wildcard
        if key not in self._said:
            why = f"{self.answer.key} answers" if self.answer else "the store gave no answer"
            return Step(key, wildcard, "unasked", f"not asked for: {why}.")
        said = self._said[key]
        if said is None:
            return Step(key, wildcard, "absent", "not there.")
        if isinstance(said, StoreError):
            return Step(key, wildcard, "no-answer", str(said))
        read = facts(said.credential) if isinstance(said, Loaded) else None
        error = self._passed_over.get(key)
        if error is not None:
            end = "" if error.sentence.endswith((".", "?")) else "."
            sentence = f"cannot be used: {error.sentence}{end}"
            return Step(key, wildcard, "unusable", sentence, read)
        if self.answer is not None and key == self.answer.key:
            return Step(key, wildcard, "answers", self._answers(self.answer.credential), read)
        sentence = "passed over: its certificate is outside its dates."
        return Step(key, wildcard, "outside-dates", sentence, read)

    def _answers(self, credential: Credential) -> str:
        pattern = next(one for one in credential.patterns if names.covers(one, self._name))
        if credential.within_dates(self._now):
            return f"answers: it covers {self._name} by {pattern} and is within its dates."
        outside = "has expired" if self._now > credential.not_after else "is not yet valid"
        return (
            f"answers: it covers {self._name} by {pattern}; it {outside}, but there is no better."
        )

    def verdicts(
        self, listeners: Iterable[Listener | AppListener], *, has_copy: bool
    ) -> Iterator[Verdict]:
        told = False
        for listener in listeners:
            told = True
            policy = listener.policy_of(self._name)
            yield self._verdict(
                str(listener.address), policy, listener.default_name, has_copy=has_copy
            )
        if not told:
            yield self._verdict(None, DEFAULT_POLICY, None, has_copy=has_copy)

    def _verdict(
        self, listener: str | None, policy: Policy, default: HostName | None, *, has_copy: bool
    ) -> Verdict:
        action = decide(
            self.condition,
            policy,
            default=default is not None and default != self._name,
            last_good=has_copy,
        )
        match action:
            case Action.SERVE:
                sentence = "serves it." if self.answer is None else f"serves {self.answer.key}."
            case Action.LAST_GOOD:
                sentence = "serves the copy of what this node served for the name before."
            case Action.DEFAULT:
                sentence = f"serves the default name's certificate: see centcert explain {default}."
            case Action.REFUSE:
                alert = Alert.INTERNAL_ERROR if self._refusal is None else self._refusal.alert
                sentence = f"refuses the handshake with the alert {alert.name.lower()}."
        return Verdict(listener, action.value, sentence)
