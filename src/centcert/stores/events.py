"""What a store tells a listener: what it found out about itself, and its steps.

A store that has nothing to tell tells nothing. Nothing here holds a secret or a blob.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from centcert.smb3 import Event as SmbEvent


@dataclass(frozen=True, slots=True)
class Weakness:
    """The store is less safe than it should be. Told once for each server that has it.

    Attributes:
        code: stable, for machines: ``account-can-write``, ``guest-access``,
            ``unencrypted-access``, ``store-disabled``.
        subject: the server's share as a URL.
        since: seconds since the epoch: when it was first seen.
        sentence: what is wrong and what to do.
    """

    code: str
    subject: str
    since: float
    sentence: str


@dataclass(frozen=True, slots=True)
class WeaknessGone:
    """What a ``Weakness`` of the same code and subject told was looked for and is no more."""

    code: str
    subject: str


@dataclass(frozen=True, slots=True)
class SmbStep:
    """A step of a connection to a file server; see ``centcert.smb3.events``.

    Attributes:
        server: ``host`` or ``host:port``.
        purpose: ``data`` for reading files, ``control`` for listing and watching.
        step: what happened.
    """

    server: str
    purpose: str
    step: SmbEvent


Event: TypeAlias = Weakness | WeaknessGone | SmbStep
Listener: TypeAlias = Callable[[Event], None]
"""Called at once and on the event loop; must not raise."""
