"""What a running front end writes to its log: one line for what a person may want to know.

Handshakes that went well are not among them. Strangers cause most of the lines, so
their rate is bounded and what is left out is counted.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from centcert.errors import StoreDisabled
from centcert.frontend.events import BackendFailed, Full, HandshakeRefused
from centcert.provider.events import Kept, Recalled, Refreshed, Unusable, WatchFailed, Withdrawn
from centcert.provider.lastgood import Fault
from centcert.stores.events import Weakness, WeaknessGone

if TYPE_CHECKING:
    import asyncio

    from centcert.frontend.events import Event as FrontEndEvent
    from centcert.provider.events import Event as ProviderEvent
    from centcert.stores.events import Event as StoreEvent

    Event: TypeAlias = StoreEvent | ProviderEvent | FrontEndEvent

LINES_A_SECOND: Final = 20


class Journal:
    """Listens to store, provider and front end; writes to standard error."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one and the second's share is not used up."""
        line = sentence(event)
        if line is not None:
            self._write(line)

    def fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write what went wrong in Centcert itself; the event loop's exception handler."""
        del loop
        error = context.get("exception")
        line = f"fault: {context['message']}"
        if error is not None:
            line += f": {type(error).__name__}: {error}"
            for frame in traceback.extract_tb(error.__traceback__)[-1:]:
                line += f" ({Path(frame.filename).name}:{frame.lineno})"
        self._write(" ".join(line.split()))

    def _write(self, line: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > LINES_A_SECOND:
                say(f"left out {self._lines - LINES_A_SECOND} lines like these")
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_A_SECOND:
            say(line)


def say(line: str) -> None:
    """Write a line to standard error; a node goes on serving where nobody can read it.

    What servers and certificates say is part of some: it stays on its line and in its place.
    """
    with suppress(OSError):
        click.echo("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), err=True)


def sentence(event: Event) -> str | None:  # noqa: C901, PLR0911, PLR0912  one for each
    """Put an event into words; ``None``: nobody needs to read it."""
    match event:
        case HandshakeRefused(client=client, asked=asked, error=error):
            name = "no name" if asked is None else ascii(asked)[1:-1]
            return f"refused {client}, which asked for {name}: {error}"
        case BackendFailed(name=name, backend=backend, reason=reason):
            return f"backend {backend} failed for {name}: {reason}"
        case Unusable(name=name, error=error):
            return f"bad file for {name}: {error}"
        case WatchFailed(error=StoreDisabled()) | Kept(error=StoreDisabled()):
            return None  # it was told once, and goes on for as long as somebody wants it so
        case Kept(name=name, error=error):
            return f"kept the certificate of {name}, which could not be refreshed: {error}"
        case Recalled(name=name):
            return f"serving the last good certificate of {name} from this node's own copy"
        case Withdrawn(name=name):
            return f"withdrew {name}: its file is gone from the store"
        case Refreshed(name=name, key=key, changed=True):
            return f"renewed {name} from {key}"
        case WatchFailed(error=error):
            return f"changes of the store cannot be seen: {error}"
        case Weakness(code=code, sentence=sentence):
            return f"warning, {code}: {sentence}"
        case WeaknessGone(code=code, subject=subject):
            return f"no longer {code}: {subject}"
        case Fault(code=code, sentence=str(sentence)):
            return f"warning, {code}: {sentence}"
        case Fault(code=code, subject=subject):
            return f"no longer {code}: {subject}"
        case Full(client=client):
            return f"turned away {client}: as many clients are connected as may be"
        case _:
            return None
