"""What a connection tells a listener: one frozen value a step, for timelines and traces.

Nothing here holds a secret or a file's content. Without a listener none of it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Connected:
    """The server accepted the TCP connection.

    Attributes:
        address: ``host:port``.
        duration_s: since ``connect`` was called.
    """

    address: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class ProtocolAgreed:
    """NEGOTIATE is done.

    Attributes:
        dialect: always ``3.1.1``.
        cipher: ``AES_128_GCM`` or ``AES_256_GCM``.
        signing: ``AES_GMAC`` or ``AES_CMAC``: of the set-up's last message.
        server_time: the server's clock, seconds since the epoch; ``None`` if it did not say.
        duration_s: of this step.
    """

    dialect: str
    cipher: str
    signing: str
    server_time: float | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class SessionSetUp:
    """The account is proven, and the server too; everything is sealed from here on.

    Attributes:
        duration_s: of this step.
    """

    duration_s: float


@dataclass(frozen=True, slots=True)
class TreeConnected:
    """The share is open.

    Attributes:
        share: its name.
        encryption_required: whether the server asks for what this client does anyway.
        duration_s: of this step.
    """

    share: str
    encryption_required: bool
    duration_s: float


@dataclass(frozen=True, slots=True)
class OperationEnded:
    """A fetch, a listing or the like came to its end.

    Attributes:
        operation: the method's name: ``fetch``, ``stat``, ...
        path: what it was about; empty for the share's top folder.
        outcome: ``done``, ``absent``, or the error's sentence.
        size: bytes read or entries listed, where that makes sense.
        duration_s: from the call to the result, queueing included.
    """

    operation: str
    path: str
    outcome: str
    size: int | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is gone.

    Attributes:
        reason: a sentence.
    """

    reason: str


Event: TypeAlias = (
    Connected | ProtocolAgreed | SessionSetUp | TreeConnected | OperationEnded | Closed
)
