"""What a listener offers, to whom, and within which limits: values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from centcert.provider.policy import DEFAULT_POLICY, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from centcert.frontend.addresses import Backend, TcpAddress
    from centcert.names import HostName


@dataclass(frozen=True, slots=True)
class Site:
    """How the connections for a name are handled.

    Attributes:
        backend: where they are relayed to.
        alpn: the application protocols the backend speaks, most wanted first; empty:
            ALPN is not answered.
        proxy_protocol: whether the backend is told the client's address and what TLS
            found out, by a PROXY protocol v2 header.
        policy: what a handshake gets when its name has no good answer.
    """

    backend: Backend
    alpn: tuple[bytes, ...] = ()
    proxy_protocol: bool = False
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class Listener:
    """One address with its sites.

    Attributes:
        site: for every name that ``sites`` does not list.
        sites: by host name or by wildcard (``*.contoso.com``).
        default_name: whose certificate a client gets that sends no name, or one that the
            store has no file for, if the policy does not refuse that. ``None``: such a
            handshake is refused.
    """

    address: TcpAddress
    site: Site
    sites: Mapping[str, Site] = field(default_factory=lambda: MappingProxyType({}))
    default_name: HostName | None = None

    def site_of(self, name: HostName) -> Site:
        """Return the name's own site, else its wildcard's, else the listener's."""
        if not self.sites:
            return self.site
        return self.sites.get(name) or self.sites.get(f"*.{name.parent}") or self.site

    def policy_of(self, name: HostName) -> Policy:
        """Return the failure policy of the name's site."""
        return self.site_of(name).policy


@dataclass(frozen=True, slots=True)
class AppListener:
    """One address whose connections an ASGI application of this process serves.

    Attributes:
        app: where to import it from: ``module:attribute``.
        default_name: as in ``Listener``.
        policy: as in ``Site``.
    """

    address: TcpAddress
    app: str
    default_name: HostName | None = None
    policy: Policy = DEFAULT_POLICY

    def policy_of(self, _: HostName) -> Policy:
        """Return the failure policy, one for all names."""
        return self.policy


@dataclass(frozen=True, slots=True)
class Limits:
    """What strangers may take of a front end. Times are in seconds.

    Attributes:
        connections: clients connected at once; one more is closed at once.
        waiting: handshakes that wait for the store at once; one more is refused.
        handshake_s: from accepting a client until TLS stands (nginx and Envoy: 60 and
            15 s until the hello; a client that needs longer has given up).
        connect_s: until the backend has accepted.
        idle_s: without a byte in either direction.
    """

    connections: int = 20_000
    waiting: int = 2_000
    handshake_s: float = 10.0
    connect_s: float = 5.0
    idle_s: float = 300.0
