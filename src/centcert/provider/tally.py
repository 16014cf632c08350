"""Count what the provider tells of the store and of what it does behind the handshakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.provider.events import Decoded, Fetched, FetchFailed, Kept, Refreshed, Withdrawn

if TYPE_CHECKING:
    from centcert.counters import Counters
    from centcert.provider.events import Event


def tally(event: Event, counters: Counters) -> None:
    """Count ``event``, if it is one that is counted."""
    match event:
        case Fetched(duration_s=duration_s, size=size):
            counters.fetched("absent" if size is None else "found", duration_s)
        case FetchFailed(duration_s=duration_s):
            counters.fetched("failed", duration_s)
        case Decoded(duration_s=duration_s):
            counters.decodes.observe(duration_s)
        case Refreshed(changed=changed):
            counters.refreshed("changed" if changed else "same")
        case Kept():
            counters.refreshed("kept")
        case Withdrawn():
            counters.refreshed("withdrawn")
        case _:
            pass
