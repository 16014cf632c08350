"""A handshake's steps in words: for the demo's timelines, and for those of ``centcert trace``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from centcert.frontend import events as front_end
from centcert.lines import printable
from centcert.provider import events as provider
from centcert.stores.events import SmbStep

if TYPE_CHECKING:
    from centcert import smb3


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a handshake.

    Attributes:
        at_s: when it was over, in seconds since the first.
        step: which: ``client hello``, ``smb``, ``look-up``, ``fetch``, ``decode``, ``bad file``,
            ``refresh``, ``last good``, ``withdrawn``, ``server hello``, ``done``, ``refused``.
        text: what happened; printable, whatever strangers and servers have sent.
        duration_s: how long it took, where it is one thing that takes time.
    """

    at_s: float
    step: str
    text: str
    duration_s: float | None = None


def step_of(event: object, at_s: float) -> Step | None:
    """Put ``event`` into words; ``None``: it is no step that anybody wants to read."""
    said = _said(event)
    if said is None:
        return None
    step, text = said
    if isinstance(event, SmbStep):
        event = event.step
    return Step(at_s, step, printable(text), _duration_s(event))


def _duration_s(event: object) -> float | None:
    if isinstance(event, provider.Found):  # the sum of the steps before it
        return None
    duration_s: float | None = getattr(event, "duration_s", None)
    return duration_s


def _said(event: object) -> tuple[str, str] | None:  # noqa: C901, PLR0911, PLR0912  one for each
    match event:
        case front_end.HelloRead(name=name, size=size):
            return "client hello", f"{size} bytes, asks for {name}"
        case SmbStep(purpose="data", step=step):
            what = _smb(step)
            return None if what is None else ("smb", what)
        case provider.Hit(key=key, stale=stale):
            return "look-up", f"{key} is in memory" + (", stale: refreshed behind" if stale else "")
        case provider.Fetched(key=key, size=size):
            return "fetch", f"{key}: absent" if size is None else f"{key}: {size} bytes"
        case provider.FetchFailed(key=key, error=error):
            return "fetch", f"{key}: {error}"
        case provider.Decoded(key=key):
            return "decode", key
        case provider.Unusable(error=error):
            return "bad file", str(error)
        case provider.Found(key=key):
            return "look-up", f"{key} answers"
        case provider.Refreshed(key=key, changed=changed):
            return "refresh", f"{key} " + ("has a new certificate" if changed else "is as it was")
        case provider.Elsewhere(step=step, text=text):
            return step, text
        case provider.Recalled(key=key):
            return "last good", f"{key}, this node's own copy"
        case provider.Withdrawn(name=name):
            return "withdrawn", name
        case front_end.ServerHelloSent(size=size):
            return "server hello", f"{size} bytes with the certificate"
        case front_end.HandshakeDone(version=version, group=group, cipher=cipher):
            return "done", ", ".join(fact for fact in (version, group, cipher) if fact)
        case front_end.HandshakeRefused(error=error):
            if error.alert_name is None:
                return "refused", str(error)
            return "refused", f"alert {error.alert_name} ({error.alert:d}): {error}"
        case _:
            return None


def _smb(step: smb3.Event) -> str | None:  # noqa: PLR0911  one for each
    """Put a step of the connection to a file server into words."""
    from centcert import smb3  # noqa: PLC0415  who has a step has it; others need not wait for it

    match step:
        case smb3.Connected(address=address):
            return f"connected to {address}"
        case smb3.ProtocolAgreed(dialect=dialect, cipher=cipher):
            return f"SMB {dialect}, {cipher.replace('_', '-')}"
        case smb3.SessionSetUp():
            return "account and server proven, sealed"
        case smb3.TreeConnected(share=share):
            return f"share {share} open"
        case smb3.OperationEnded(operation="fetch", path=path, outcome=outcome, size=size):
            came = f": {outcome}" if size is None else ""
            return f"{path} in one frame each way{came}"
        case smb3.Closed(reason=reason):
            return reason
        case _:
            return None
