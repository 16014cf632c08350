"""What a provider tells while it works: one frozen value for each step.

Listening is a plain callable. Without one no event is made, so a step costs one
comparison. A listener must not block and must not raise. Events hold names, keys
and times; never key bytes or passwords.
"""

from __future__ import annotations

from collections.abc import Container, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.errors import BadBlob, CentcertError
    from centcert.names import HostName
    from centcert.provider.lastgood import Fault
    from centcert.stores.events import Event as StoreEvent


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants the credential of ``name``."""

    name: HostName


@dataclass(frozen=True, slots=True)
class Hit:
    """``name`` is answered from memory with the file ``key``; ``stale``: a refresh runs behind."""

    name: HostName
    key: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """The store answered for ``key`` after ``duration_s`` seconds.

    ``size`` is in bytes; ``None``: the store holds no such file.
    """

    key: str
    duration_s: float
    size: int | None


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """The store gave no answer for ``key``; ``error`` says why."""

    key: str
    duration_s: float
    error: CentcertError


@dataclass(frozen=True, slots=True)
class Decoded:
    """The file ``key`` became a credential in ``duration_s`` seconds."""

    key: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Unusable:
    """The file ``key`` was passed over for ``name``; ``error`` says why and what to do."""

    name: HostName
    key: str
    error: BadBlob


@dataclass(frozen=True, slots=True)
class Found:
    """``name`` is answered by the file ``key``, looked up in ``duration_s`` seconds."""

    name: HostName
    key: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """``name`` gets no credential; ``error`` says why."""

    name: HostName
    error: CentcertError


@dataclass(frozen=True, slots=True)
class Refreshed:
    """``name`` was looked up anew behind the handshakes; ``changed``: with another result."""

    name: HostName
    key: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A refresh of ``name`` failed with ``error``; what is in memory goes on being served."""

    name: HostName
    error: CentcertError


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The provider process has done a step for ``name``; as in ``centcert.steps.Step``."""

    name: HostName
    step: str
    text: str
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """``name`` is answered with this node's last-good copy of ``key``: the store gave none."""

    name: HostName
    key: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The store no longer holds a file for ``name``; it is forgotten."""

    name: HostName


class Keys(Container[str], Sized, Protocol):
    """A set of keys that can be asked and counted, but not read out."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The store was listed; ``keys`` are those of all its files."""

    keys: Keys = field(repr=False)


@dataclass(frozen=True, slots=True)
class WatchFailed:
    """Changes cannot be seen now, only polled for; ``error`` says why."""

    error: CentcertError


@dataclass(frozen=True, slots=True)
class Watching:
    """Changes of the store are seen from now on."""


Event: TypeAlias = (
    "Asked | Hit | Fetched | FetchFailed | Decoded | Unusable | Found | Refused | Refreshed | Kept"
    " | Elsewhere | Recalled | Withdrawn | Listed | WatchFailed | Watching | Fault | StoreEvent"
)

Listener: TypeAlias = "Callable[[Event], None]"
