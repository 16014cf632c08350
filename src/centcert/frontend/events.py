"""What a front end tells of its connections: one frozen value for each step.

As with ``centcert.provider.events``: a plain callable listens, or nobody does and no
event is made. ``connection`` counts up from 1 and ties a connection's events together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from centcert.errors import CentcertError
    from centcert.names import HostName


@dataclass(frozen=True, slots=True)
class Accepted:
    """A client has connected; ``client`` is its address for people, ``192.0.2.7:51234``."""

    connection: int
    client: str


@dataclass(frozen=True, slots=True)
class HelloRead:
    """The whole ClientHello is here; ``name`` is the one that will be answered for.

    ``size`` is what the client had sent by then, in bytes.
    """

    connection: int
    name: HostName
    size: int


@dataclass(frozen=True, slots=True)
class ServerHelloSent:
    """The credential is there and the server's first flight has left."""

    connection: int
    name: HostName
    size: int


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """TLS stands. The facts are in OpenSSL's words: ``TLSv1.3``, ``X25519MLKEM768``.

    ``key`` is the store's file that answered; ``None`` if it has left the memory since.
    """

    connection: int
    name: HostName
    key: str | None
    version: str
    cipher: str
    group: str | None
    alpn: str | None


@dataclass(frozen=True, slots=True)
class HandshakeRefused:
    """The connection ends before TLS stands; ``error`` says why and with which alert.

    ``asked`` is the server name as the client sent it, if it got so far.
    """

    connection: int
    client: str
    asked: str | None
    error: CentcertError


@dataclass(frozen=True, slots=True)
class BackendFailed:
    """The backend could not be reached or broke off; the connection ends."""

    connection: int
    name: HostName
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over."""

    connection: int


@dataclass(frozen=True, slots=True)
class Full:
    """A client was turned away: the front end holds as many connections as it may."""

    client: str


Event: TypeAlias = (
    Accepted
    | HelloRead
    | ServerHelloSent
    | HandshakeDone
    | HandshakeRefused
    | BackendFailed
    | Closed
    | Full
)

Listener: TypeAlias = Callable[[Event], None]
