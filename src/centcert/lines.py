"""What a node does that a person may want to know, one line each, in words and for machines.

Handshakes that went well are not among it. Nothing here holds a secret; what strangers,
servers and certificates say is made printable, so that it stays on its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from centcert.errors import StoreDisabled
from centcert.frontend.events import BackendFailed, Full, HandshakeRefused
from centcert.provider.events import (
    Kept,
    Recalled,
    Refreshed,
    Unusable,
    WatchFailed,
    Watching,
    Withdrawn,
)
from centcert.provider.lastgood import Fault
from centcert.stores.events import Weakness, WeaknessGone

if TYPE_CHECKING:
    from centcert.errors import CentcertError

MAX_SHOWN: Final = 1_000
"""Characters of a text that others chose. A name has 253; a hello could bring 16,000."""

_BY_VISITORS: Final = {"handshake-refused", "turned-away", "backend-failed", "bad-file"}

Level: TypeAlias = Literal["info", "warning", "error"]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        event: what happened, for machines: ``handshake-refused``, ``renewed``, …
        level: ``info``, ``warning``: something is worse than it should be, ``error``.
        sentence: the same for people.
        name: the host name it is about, as it was asked for.
        client: its address and port.
        reason: ``CentcertError.code`` of what went wrong, or a finding's code.
        alert: what the client was told, where Centcert chose it: ``unrecognized_name``.
        subject: the file, the store or the backend it is about.
    """

    event: str
    level: Level
    sentence: str
    name: str | None = None
    client: str | None = None
    reason: str | None = None
    alert: str | None = None
    subject: str | None = None

    @property
    def by_visitors(self) -> bool:
        """Whether clients cause it, as often as they like."""
        return self.event in _BY_VISITORS


def printable(text: str) -> str:
    """Escape what could end a line, move the cursor or turn the writing direction."""
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def line_of(event: object) -> Line | None:  # noqa: PLR0911  one for each
    """Put an event of store, provider or front end into words; ``None``: not worth a line."""
    match event:
        case HandshakeRefused():
            return _refused(event)
        case Full(client=client):
            sentence = f"turned away {client}: as many clients are connected as may be"
            return Line("turned-away", "warning", sentence, client=client)
        case BackendFailed(name=name, backend=backend, reason=reason):
            sentence = f"backend {backend} failed for {name}: {reason}"
            return Line(
                *("backend-failed", "warning", printable(sentence)),
                name=str(name),
                subject=backend,
            )
        case Unusable(name=name, key=key, error=error):
            return _about(f"bad file for {name}: ", "bad-file", name, error, key)
        # That a store is disabled was told once, and lasts for as long as somebody wants it to.
        case Kept(name=name, error=error) if not isinstance(error, StoreDisabled):
            sentence = f"kept the certificate of {name}, which could not be refreshed: "
            return _about(sentence, "kept", name, error)
        case Recalled(name=name, key=key):
            sentence = f"serving the last good certificate of {name} from this node's own copy"
            return Line("recalled", "warning", sentence, name=str(name), subject=printable(key))
        case Withdrawn(name=name):
            sentence = f"withdrew {name}: its file is gone from the store"
            return Line("withdrawn", "info", sentence, name=str(name))
        case Refreshed(name=name, key=key, changed=True):
            sentence = printable(f"renewed {name} from {key}")
            return Line("renewed", "info", sentence, name=str(name), subject=printable(key))
        case WatchFailed(error=error) if not isinstance(error, StoreDisabled):
            return _about("changes of the store cannot be seen: ", "watch-failed", None, error)
        case _:
            return _of_the_store(event)


def _of_the_store(event: object) -> Line | None:
    match event:
        case Watching():
            return Line("watching", "info", "changes of the store are seen from now on")
        case (
            Weakness(code=code, subject=subject, sentence=str(sentence))
            | Fault(code=code, subject=subject, sentence=str(sentence))
        ):
            words = printable(f"warning, {code}: {sentence}")
            return Line("finding", "warning", words, reason=code, subject=printable(subject))
        case WeaknessGone(code=code, subject=subject) | Fault(code=code, subject=subject):
            words = printable(f"no longer {code}: {subject}")
            return Line("finding-gone", "info", words, reason=code, subject=printable(subject))
        case _:
            return None


def _refused(event: HandshakeRefused) -> Line:
    name = None if event.asked is None else printable(event.asked)
    sentence = f"refused {event.client}, which asked for {name or 'no name'}: {event.error}"
    return Line(
        event="handshake-refused",
        level="info",
        sentence=printable(sentence),
        name=name,
        client=event.client,
        reason=event.error.code,
        alert=event.error.alert_name,
    )


def _about(
    words: str,
    event: str,
    name: str | None,
    error: CentcertError,
    key: str | None = None,
) -> Line:
    return Line(
        event=event,
        level="warning",
        sentence=printable(f"{words}{error}"),
        name=None if name is None else str(name),
        reason=error.code,
        subject=None if key is None else printable(key),
    )
