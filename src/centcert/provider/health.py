"""How the store does, as seen by what the provider asks of it anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from centcert.errors import (
    CentcertError,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDisabled,
    StoreInsecure,
    StoreUnavailable,
)
from centcert.provider.events import Fetched, FetchFailed, Listed, WatchFailed, Watching

if TYPE_CHECKING:
    from centcert.provider.events import Event

State: TypeAlias = Literal["unasked", "reachable", "unreachable", "denied", "insecure", "disabled"]


class StoreHealth(msgspec.Struct):
    """What the store last answered. Times are in seconds since the epoch.

    Attributes:
        state: ``unasked``: nothing has been asked yet; ``denied``: the account is refused;
            ``insecure``: its server offers less protection than Centcert accepts;
            ``disabled``: the settings have nothing asked of it.
        since: from when on.
        watched: whether it tells of changes.
        listed_at: when it was last listed.
        files: how many files it held then.
    """

    state: State = "unasked"
    since: float | None = None
    watched: bool = False
    listed_at: float | None = None
    files: int | None = None

    def note(self, event: Event, now: float) -> None:
        """Take in what an event of the provider tells."""
        match event:
            case Fetched():
                self._is("reachable", now)
            case FetchFailed(error=error):
                self._failed(error, now)
            case Listed(keys=keys):
                self.listed_at, self.files = now, len(keys)
                self._is("reachable", now)
            case Watching():
                self.watched = True
                self._is("reachable", now)
            case WatchFailed(error=error):
                self.watched = False
                self._failed(error, now)
            case _:
                pass

    def _failed(self, error: CentcertError, now: float) -> None:
        """Of one busy or denied file, or of what this node lacks itself, nothing follows."""
        match error:
            case StoreDisabled():
                self._is("disabled", now)
            case StoreAuthenticationFailed():
                self._is("denied", now)
            case StoreInsecure():
                self._is("insecure", now)
            case StoreUnavailable() if not isinstance(error, StoreBusy):
                self._is("unreachable", now)
            case _:
                pass

    def _is(self, state: State, now: float) -> None:
        if state != self.state:
            self.state, self.since = state, now
