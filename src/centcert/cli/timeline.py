"""A handshake, step by step, with the time of each step since the first."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.markup import escape
from rich.table import Table

from centcert.frontend import events as front_end
from centcert.provider import events as provider
from centcert.stores.events import SmbStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert import smb3
    from centcert.stores import events as store

    Event: TypeAlias = store.Event | provider.Event | front_end.Event


MAX_EVENTS: Final = 1_000
"""Noted and not yet taken: nobody takes them any more once the tour is over."""


class Recorder:
    """Listens to store, provider and front end and stamps each event with the time."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Event]] = deque(maxlen=MAX_EVENTS)

    def __call__(self, event: Event) -> None:
        """Note an event."""
        self._events.append((time.perf_counter(), event))

    def take(self) -> list[tuple[float, Event]]:
        """Return what was noted since the last call, with times in seconds."""
        events = list(self._events)
        self._events.clear()
        return events


def timeline(events: Iterable[tuple[float, Event]]) -> Table:
    """Lay events out as rows of time, step and what happened."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", width=10)
    table.add_column(width=13, style="cyan")
    table.add_column()
    began: float | None = None
    for at, event in events:
        step = _step(event)
        if step is None:
            continue
        began = at if began is None else began
        table.add_row(f"{(at - began) * 1000:.1f} ms", *step)
    return table


def _step(event: Event) -> tuple[str, str] | None:  # noqa: C901, PLR0911, PLR0912  one for each
    match event:
        case front_end.HelloRead(name=name, size=size):
            return "client hello", f"{size} bytes, asks for {name}"
        case SmbStep(purpose="data", step=step):
            what = _smb(step)
            return None if what is None else ("smb", what)
        case provider.Hit(key=key, stale=stale):
            return "look-up", f"{key} is in memory" + (", stale: refreshed behind" if stale else "")
        case provider.Asked():
            return None
        case provider.Fetched(key=key, duration_s=duration_s, size=size):
            found = "absent" if size is None else f"{size} bytes"
            return "fetch", f"{key}: {found}  {_took(duration_s)}"
        case provider.FetchFailed(key=key, duration_s=duration_s, error=error):
            return "fetch", f"{key}: {error}  {_took(duration_s)}"
        case provider.Decoded(key=key, duration_s=duration_s):
            return "decode", f"{key}  {_took(duration_s)}"
        case provider.Unusable(error=error):
            return "bad file", str(error)
        case provider.Found(key=key):
            return "look-up", f"{key} answers"
        case provider.Refreshed(key=key, changed=changed):
            return "refresh", f"{key} " + ("has a new certificate" if changed else "is as it was")
        case provider.Recalled(key=key):
            return "last good", f"{key}, this node's own copy"
        case provider.Withdrawn(name=name):
            return "withdrawn", str(name)
        case front_end.ServerHelloSent(size=size):
            return "server hello", f"{size} bytes with the certificate"
        case front_end.HandshakeDone(version=version, group=group, cipher=cipher):
            return "done", ", ".join(fact for fact in (version, group, cipher) if fact)
        case front_end.HandshakeRefused(error=error):
            return "refused", f"alert {error.alert.name.lower()} ({error.alert:d})\n{error}"
        case _:
            return None


def _smb(step: smb3.Event) -> str | None:  # noqa: PLR0911  one for each
    """Put a step of the connection to a file server into words."""
    from centcert import smb3  # noqa: PLC0415  who has a step has it; others need not wait for it

    match step:
        case smb3.Connected(address=address, duration_s=duration_s):
            return f"connected to {address}  {_took(duration_s)}"
        case smb3.ProtocolAgreed(dialect=dialect, cipher=cipher, duration_s=duration_s):
            return f"SMB {dialect}, {cipher.replace('_', '-')}  {_took(duration_s)}"
        case smb3.SessionSetUp(duration_s=duration_s):
            return f"account and server proven, sealed  {_took(duration_s)}"
        case smb3.TreeConnected(share=share, duration_s=duration_s):
            return f"share {escape(share)} open  {_took(duration_s)}"
        case smb3.OperationEnded(operation="fetch", path=path, outcome=outcome, size=size):
            came = f": {outcome}" if size is None else ""
            took = _took(step.duration_s)
            return f"{escape(path)} in one frame each way{escape(came)}  {took}"
        case smb3.Closed(reason=reason):
            return escape(reason)
        case _:
            return None


def _took(duration_s: float) -> str:
    return f"[dim]{duration_s * 1000:.1f} ms[/]"
