"""Looks a name up, and decides what becomes of what is remembered of it.

What the store gives replaces what is held, unless it is worse: a bad file, or the absence
of one that proves to be an instant's. What a listing bears out is held on to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from centcert.errors import CentcertError
from centcert.names import WILDCARD_MARK, ascii_keys
from centcert.provider.cache import Entry
from centcert.provider.events import Found, Kept, Listener, Refreshed, Refused, Unusable, Withdrawn
from centcert.provider.lookup import Loaded, LookUp, look_up
from centcert.provider.memory import has_own_file

if TYPE_CHECKING:
    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.clock import Clock
    from centcert.provider.findings import Findings
    from centcert.provider.loader import Loader
    from centcert.provider.memory import Memory

RETRY_S: Final = 5.0
"""How long a failed refresh of a remembered name rests before the next visit tries again."""

CONFIRM_ABSENCE_AFTER_S: Final = (0.005, 0.025, 0.1)
"""A rename over an existing file can show it missing for an instant (measured: up to 2 in
10,000 reads), so what it has answered is withdrawn only after as many confirmations."""


class Resolver:
    """Looks names up for one provider, one after the other or side by side.

    Args:
        loader: reads the store.
        memory: where is remembered what comes of it.
        findings: learn of the dates of what is in use.
        clock: where times come from.
        tell: is told each step.
        refresh_s: how long an answer of the store is fresh.
        absent_s: how long it is remembered that there is none.
    """

    def __init__(
        self,
        loader: Loader,
        memory: Memory,
        findings: Findings,
        clock: Clock,
        tell: Listener,
        *,
        refresh_s: float,
        absent_s: float,
    ) -> None:
        self._loader = loader
        self._memory = memory
        self._findings = findings
        self._clock = clock
        self._tell = tell
        self._refresh_s = refresh_s
        self._absent_s = absent_s

    async def look_up(self, name: HostName) -> Credential:
        """Look ``name`` up, whatever is remembered, and return what it gets from the store.

        If it gets nothing better than what the store has once given, that; never a copy.

        Raises:
            CentcertError: as ``Provider.credential``.
        """
        began = self._clock.monotonic()
        try:
            found = await look_up(name, self._loader.load, self._clock.wall())
            if self._is_missing(name, found):
                found = await self._confirm_absence(name, found)
        except CentcertError as error:
            held = self._memory.own(name)
            if held is None:
                raise self._refused(name, error) from None
            return self._keep(name, held, error)
        held = self._memory.own(name)  # now: a copy may have been recalled meanwhile
        for rejected in found.rejected:
            self._tell(Unusable(name, rejected.key, rejected.error))
        if held is not None and self._is_better(held, found):
            return self._keep(name, held, found.refusal(name), found.answer)
        if found.answer is None:
            raise self._without_answer(name, found)
        self._remember(name, found.answer, found, held)
        if held is None:
            self._tell(Found(name, found.answer.key, self._clock.monotonic() - began))
        else:
            changed = held.credential is not found.answer.credential
            self._tell(Refreshed(name, found.answer.key, changed))
        return found.answer.credential

    def confirm(self, name: HostName) -> None:
        """Hold on to what is remembered of ``name``: a listing has borne it out."""
        entry = self._memory.own(name)
        if entry is None:
            return
        if any(self._findings.was_unread(key) for key, _ in entry.examined):
            self._memory.renew(name)  # a listing does not tell whether it can be read again
            return
        entry.fresh_until = self._fresh_until(entry.until)
        if self._memory.place(name, entry) != name:
            self._memory.put(name, entry)  # the index knows more than it did
        self._check_dates(name, entry.credential)

    def remember_copy(self, name: HostName, credential: Credential) -> None:
        """Answer ``name`` with a last-good copy until the store does; it is asked behind."""
        if self._memory.own(name) is not None:  # the store has answered meanwhile
            return
        fresh_until = self._clock.monotonic() + RETRY_S
        self._memory.put_copy(name, Entry(credential.key, credential, (), fresh_until, used=True))
        self._check_dates(name, credential)

    def _is_missing(self, name: HostName, found: LookUp) -> bool:
        """Say whether the file that has answered ``name`` so far is not there any more."""
        held = self._memory.own(name)
        if held is not None:
            return (held.key, None) in found.examined
        if found.answer is None:
            return not found.rejected and self._memory.has_copy(name)
        return not has_own_file(found.examined) and self._memory.has_copy_of_its_own(name)

    async def _confirm_absence(self, name: HostName, found: LookUp) -> LookUp:
        for pause_s in CONFIRM_ABSENCE_AFTER_S:
            await asyncio.sleep(pause_s)
            found = await look_up(name, self._loader.load_unlisted, self._clock.wall())
            if not self._is_missing(name, found):
                break
        return found

    def _is_better(self, held: Entry, found: LookUp) -> bool:
        """Say whether what is held must stay: a bad file never replaces a good credential."""
        if found.answer is None:
            return bool(found.rejected)
        spoilt = any(rejected.key == held.key for rejected in found.rejected)
        return spoilt and held.credential.within_dates(self._clock.wall())

    def _without_answer(self, name: HostName, found: LookUp) -> CentcertError:
        if not found.rejected and self._memory.withdraw(
            name, self._clock.monotonic() + self._absent_s
        ):
            self._tell(Withdrawn(name))
        return self._refused(name, found.refusal(name))

    def _remember(self, name: HostName, answer: Loaded, found: LookUp, held: Entry | None) -> None:
        fresh_until = self._fresh_until(found.until)
        entry = Entry(answer.key, answer.credential, found.examined, fresh_until)
        entry.used = held is not None and held.used  # a refresh is no use, nor is a prefetch
        entry.until = found.until
        self._memory.put(name, entry)
        self._memory.keep(name, answer, own_is_gone=not has_own_file(found.examined))
        self._findings.accept(answer.key, in_use=True)
        self._check_dates(name, answer.credential)

    def _keep(
        self, name: HostName, held: Entry, error: CentcertError, answer: Loaded | None = None
    ) -> Credential:
        """Go on with what is held; but return a copy to nobody: a policy may refuse it."""
        held.fresh_until = self._clock.monotonic() + RETRY_S
        self._check_dates(name, held.credential)
        self._tell(Kept(name, error))
        if not held.is_copy:
            return held.credential
        if answer is None:
            raise error
        return answer.credential

    def _fresh_until(self, until: float) -> float:
        """A date ends freshness too, and may have done so while the name was looked up."""
        return self._clock.monotonic() + min(self._refresh_s, until - self._clock.wall())

    def _refused(self, name: HostName, error: CentcertError) -> CentcertError:
        self._tell(Refused(name, error))
        return error

    def _check_dates(self, name: HostName, credential: Credential) -> None:
        def hides_wildcard() -> bool:
            # Not its candidates: to spell them takes long, and a listing confirms every name.
            mark = WILDCARD_MARK + "."
            return not credential.key.startswith(mark) and any(
                key.startswith(mark) and self._loader.index.may_hold_spelling(key)
                for key in ascii_keys(name)
            )

        self._findings.check(credential, self._clock.wall(), hides_wildcard)
