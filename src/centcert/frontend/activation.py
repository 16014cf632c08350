"""Sockets that systemd opened and passed to this process (sd_listen_fds(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from centcert.frontend.addresses import TcpAddress

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_sockets() -> list[socket.socket]:
    """Take the sockets that were passed to this process; a second call finds none.

    They are closed on exec, and the environment tells no child of them.
    """
    pid, count, _ = (os.environ.pop(variable, "") for variable in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = [socket.socket(fileno=_FIRST + number) for number in range(int(count))]
    for one in sockets:
        one.set_inheritable(False)
    return sockets


async def assign(
    sockets: Sequence[socket.socket], listeners: Iterable[TcpAddress]
) -> dict[TcpAddress, list[socket.socket]]:
    """Say which of the passed sockets each listener's address stands for.

    ``:443`` stands for a socket on every address of the machine, IPv4's, IPv6's, or both.
    What no socket was passed for is not in the answer.

    Raises:
        SettingsError: a socket is for none of them, or does not listen for TCP.
    """
    assigned: dict[TcpAddress, list[socket.socket]] = {}
    left = {_name(one): one for one in sockets}
    for address in listeners if left else ():
        for name in await _names(address):
            if name in left:
                assigned.setdefault(address, []).append(left.pop(name))
    for name in left:
        raise SettingsError(
            f"systemd has passed the socket {_shown(name)}, which no [[listen]] is for: name it"
            " there, or take it out of the socket unit."
        )
    return assigned


async def _names(address: TcpAddress) -> list[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        return []  # to listen there will fail, and say why
    return [_canonical(where) for *_, where in found]


def _name(one: socket.socket) -> tuple[str, int]:
    is_ip = one.family in {socket.AF_INET, socket.AF_INET6}
    if not is_ip or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise SettingsError(
            f"systemd has passed the socket {one.getsockname()}, which does not listen for TCP:"
            " write ListenStream= with a port in the socket unit."
        )
    return _canonical(one.getsockname())


def _canonical(where: tuple[str | int | bytes, ...]) -> tuple[str, int]:
    host, port = where[:2]
    return str(ip_address(str(host))), int(port)


def _shown(name: tuple[str, int]) -> str:
    host, port = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
