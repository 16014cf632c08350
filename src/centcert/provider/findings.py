"""What is wrong now: one list that keeps itself, from what the provider goes through.

A finding appears when something is seen to be wrong and goes when it is seen to be
right again. Each has a stable code, since when, and a sentence that says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from centcert.errors import (
    FileBusy,
    SettingsError,
    StoreAuthenticationFailed,
    StoreDisabled,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
    WrongName,
)
from centcert.provider.events import (
    Decoded,
    Fetched,
    FetchFailed,
    Kept,
    Listed,
    Refused,
    Unusable,
    WatchFailed,
    Watching,
)
from centcert.provider.lastgood import Fault
from centcert.stores.events import Weakness, WeaknessGone

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from centcert.credential import Credential
    from centcert.errors import BadBlob, CentcertError
    from centcert.provider.events import Event

MAX_FINDINGS: Final = 1_000
"""More are left out: nobody reads a longer list, and memory is bounded."""

EXPIRING_S: Final = 10 * 86_400.0
"""Ten days: certificates of 47 days are renewed long before, at two thirds of their life."""

_OF_DATES: Final = ("expired", "expiring", "hides-wildcard")

_UNREAD: Final = ("file-denied", "file-busy")

_OF_FILES: Final = ("bad-file", "wrong-name", *_UNREAD, *_OF_DATES)

_OF_THE_STORE: Final = ("store-unreachable", "store-denied", "store-insecure")

_TOLD_ONCE: Final = {"copy-damaged", "copy-expired"}
"""Faults that are over as soon as they are told: the copy is not served, or removed."""

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong now.

    Attributes:
        code: stable, for machines: ``bad-file``, ``wrong-name``, ``expired``, ``expiring``,
            ``hides-wildcard``, ``file-denied``, ``file-busy``, ``store-unreachable``,
            ``store-denied``, ``store-insecure``, ``passwords-unread``, ``changes-unseen``,
            and the codes of ``Weakness`` and ``Fault``.
        subject: a file's key or a store's URL.
        since: seconds since the epoch.
        sentence: what is wrong and what to do.
    """

    code: str
    subject: str
    since: float
    sentence: str


class Findings:
    """The findings of one provider."""

    def __init__(self, store_url: str) -> None:
        self._store_url = store_url
        self._found: dict[tuple[str, str], Finding] = {}

    def now(self) -> tuple[Finding, ...]:
        """Return what is wrong now, by code and subject."""
        return tuple(finding for _, finding in sorted(self._found.items()))

    def find(self, code: str, subject: str, sentence: str, now: float) -> None:
        """Add a finding, or bring its sentence up to date; it keeps its since."""
        held = self._found.get((code, subject))
        # Only those of files: strangers can cause them, by names where a whole folder is denied.
        if held is None and code in _OF_FILES and len(self._found) >= MAX_FINDINGS:
            return
        since = now if held is None else held.since
        self._found[code, subject] = Finding(code, subject, since, sentence)

    def has(self, code: str, subject: str) -> bool:
        """Say whether this is found now."""
        return (code, subject) in self._found

    def was_unread(self, key: str) -> bool:
        """Say whether the file could not be read when it was asked for last."""
        return any(self.has(code, key) for code in _UNREAD)

    def files(self) -> tuple[str, ...]:
        """Return the keys of the files in which something was found."""
        return tuple({subject: None for code, subject in self._found if code in _OF_FILES})

    def are_of(self, key: str) -> bool:
        """Say whether something was found in the file ``key``."""
        return any((code, key) in self._found for code in _OF_FILES)

    def reject(self, key: str, error: BadBlob, now: float) -> None:
        """Find that a file cannot be used, and why."""
        wrong_name = isinstance(error, WrongName)
        self.clear("bad-file" if wrong_name else "wrong-name", key)
        self.find("wrong-name" if wrong_name else "bad-file", key, str(error), now)

    def accept(self, key: str, *, in_use: bool) -> None:
        """Clear what was found in a file that is right now.

        ``in_use``: whether a name is answered with it, so that ``check`` sees to its dates.
        """
        for code in ("bad-file", "wrong-name", *(() if in_use else _OF_DATES)):
            self.clear(code, key)

    def forget(self, key: str) -> None:
        """Clear what was found in a file that is gone."""
        for code in _OF_FILES:
            self.clear(code, key)

    def clear(self, code: str, subject: str) -> None:
        """Remove a finding, if it is there."""
        self._found.pop((code, subject), None)

    def note(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912  one for each
        """Find and clear what an event of the provider tells."""
        match event:
            case Unusable(key=key, error=error):
                self.reject(key, error, now)
            case Decoded(key=key):
                self.clear("bad-file", key)
            case Fetched(key=key, size=size):
                self._reached(key)
                if size is None:
                    self.forget(key)
            case FetchFailed(key=key, error=error):
                self._unreached(key, error, now)
            case Kept(error=SettingsError() as error) | Refused(error=SettingsError() as error):
                self.find("passwords-unread", self._store_url, str(error), now)
            case Listed(keys=keys):
                self._listed(keys)
            case WatchFailed(error=StoreDisabled()):
                pass  # which is a finding itself
            case WatchFailed(error=error):
                self.find("changes-unseen", self._store_url, str(error), now)
            case Watching():
                self.clear("changes-unseen", self._store_url)
            case Weakness(code=code, subject=subject, sentence=sentence):
                self.find(code, subject, sentence, now)
            case WeaknessGone(code=code, subject=subject):
                self.clear(code, subject)
            case Fault(code=code) if code in _TOLD_ONCE:
                pass
            case Fault(code=code, subject=subject, sentence=None):
                self.clear(code, subject)
            case Fault(code=code, subject=subject, sentence=str(sentence)):
                self.find(code, subject, sentence, now)
            case _:
                pass

    def check(self, credential: Credential, now: float, hides_wildcard: Callable[[], bool]) -> None:
        """Find or clear what the dates of a credential in use tell.

        Args:
            credential: what a name is answered with.
            now: seconds since the epoch.
            hides_wildcard: says whether the store holds the wildcard's file too.
        """
        key = credential.key
        left_s = credential.not_after - now
        code = "expired" if left_s <= 0 else "expiring" if left_s < EXPIRING_S else None
        hides = code is not None and hides_wildcard()
        for other in _OF_DATES:
            if other != code and not (other == "hides-wildcard" and hides):
                self.clear(other, key)
        if code is None:
            return
        when = "has expired" if left_s <= 0 else f"expires in {left_s / _DAY_S:.1f} days"
        self.find(code, key, f"{key}: its certificate {when}: put a new one in its place.", now)
        if hides:
            sentence = f"{key}: it hides the wildcard's file: remove it if that is to be served."
            self.find("hides-wildcard", key, sentence, now)

    def _listed(self, keys: Container[str]) -> None:
        """Clear what was found in files that the store does not hold.

        Nobody may ask for them again: with a fresh index absent files are not fetched. Where
        a folder is denied, any key looks denied, also of names that strangers make up.
        """
        for code, subject in tuple(self._found):
            if code in _OF_FILES and subject not in keys:
                self.clear(code, subject)

    def _reached(self, key: str) -> None:
        for code in ("passwords-unread", *_OF_THE_STORE):
            self.clear(code, self._store_url)
        for code in _UNREAD:
            self.clear(code, key)

    def _unreached(self, key: str, error: CentcertError, now: float) -> None:
        if not isinstance(error, StoreError) or isinstance(error, StoreDisabled):
            return
        code = _code_of(error)
        subject = key if code in _UNREAD else self._store_url
        for other in _OF_THE_STORE:
            if other != code:
                self.clear(other, self._store_url)
        for other in _UNREAD:
            if subject == key and other != code:
                self.clear(other, key)
        self.find(code, subject, str(error), now)


def _code_of(error: StoreError) -> str:
    """Name what is wrong: with the one file that was asked for, or with the store."""
    if isinstance(error, StoreAuthenticationFailed):
        return "store-denied"
    if isinstance(error, StoreInsecure):
        return "store-insecure"
    if isinstance(error, FileBusy):
        return "file-busy"
    return "store-unreachable" if isinstance(error, StoreUnavailable) else "file-denied"
