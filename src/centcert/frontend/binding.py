"""From an address that people write to the sockets that are bound there."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centcert.frontend.addresses import TcpAddress


def bind(address: TcpAddress, *, shared: bool = False) -> list[socket.socket]:
    """Bind a socket at every place that ``address`` stands for, as asyncio does.

    Nobody can connect until they listen. Asks the system's resolver, so not on the loop.

    Args:
        address: without a host every address of the machine: IPv4's, IPv6's, or both.
        shared: whether more sockets may be bound there afterwards (socket(7), SO_REUSEPORT).
            There must be none yet: another node on the same port would go unnoticed.

    Raises:
        OSError: one of the places cannot be had; nothing stays bound.
    """
    found = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    with ExitStack() as stack:
        for family, where in dict.fromkeys((family, where) for family, *_, where in found):
            if shared and where[1]:
                bind_one(family, where).close()
            bound.append(stack.enter_context(bind_one(family, where, shared=shared)))
        stack.pop_all()
    return bound


def bind_one(
    family: int, where: tuple[str | int | bytes, ...], *, shared: bool = False
) -> socket.socket:
    """Bind a socket at one place; see ``bind``."""
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
    except OSError:
        one.close()
        raise
    return one
