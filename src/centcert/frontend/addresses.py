"""Where to listen and where to relay to, as people write it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final, TypeAlias

from centcert.errors import SettingsError

UNIX: Final = "unix:"

MAX_SOCKET_PATH_BYTES: Final = 107
"""What sockaddr_un takes (unix(7)); libuv would cut a longer path and connect elsewhere."""

_TCP = re.compile(
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]|(?P<host>[A-Za-z0-9._-]*))"
    r":(?P<port>[0-9]{1,5})"
)
_LABEL_BYTES = range(1, 64)

SocketAddress: TypeAlias = "tuple[socket.AddressFamily, Any]"
"""A socket's family and what its connect(2) takes."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port; an empty host listens on every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> TcpAddress:
        """Read ``host:port``, ``[ipv6]:port`` or ``:port``.

        Raises:
            SettingsError: it is none of them.
        """
        match = _TCP.fullmatch(text)
        if match is None or int(match["port"]) > 0xFFFF or not _can_be_resolved(match):  # noqa: PLR2004  16 bits
            raise SettingsError(
                f"{text!r} is not an address: write host:port, [ipv6]:port or :port."
            )
        return cls(match["ip6"] or match["host"], int(match["port"]))


@dataclass(frozen=True, slots=True)
class Backend:
    """Where decrypted connections are relayed to: a TCP address or a Unix socket's path.

    Attributes:
        where: as people write it.
        numeric: the same for connect(2); ``None``: a host name that has to be resolved.
    """

    where: TcpAddress | str
    numeric: SocketAddress | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where, numeric = self.where, None
        if isinstance(where, str):
            numeric = socket.AF_UNIX, where
        else:
            with suppress(socket.gaierror):
                numeric = _of_info(
                    socket.getaddrinfo(
                        *(where.host, where.port),
                        type=socket.SOCK_STREAM,
                        flags=socket.AI_NUMERICHOST,
                    )[0]
                )
        object.__setattr__(self, "numeric", numeric)

    def __str__(self) -> str:
        return f"{UNIX}{self.where}" if isinstance(self.where, str) else str(self.where)

    @classmethod
    def parse(cls, text: str) -> Backend:
        """Read ``host:port`` or ``unix:/path``.

        Raises:
            SettingsError: it is neither, or has no host.
        """
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            if not path or "\0" in path:
                raise SettingsError(f"{text!r} names no socket: write unix:/run/app.sock.")
            if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
                raise SettingsError(
                    f"{text!r} is too long: a socket's path has {MAX_SOCKET_PATH_BYTES} bytes"
                    " at most."
                )
            return cls(path)
        address = TcpAddress.parse(text)
        if not address.host or not address.port:
            raise SettingsError(f"{text!r} is not a backend: write host:port or unix:/path.")
        return cls(address)

    async def resolve(self) -> list[SocketAddress]:
        """Ask the system's resolver for its addresses, best first: at least one.

        Raises:
            OSError: it has none.
        """
        if self.numeric is not None:
            return [self.numeric]
        assert isinstance(self.where, TcpAddress)  # noqa: S101  a path is numeric
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.where.host, self.where.port, type=socket.SOCK_STREAM)
        return [_of_info(info) for info in found]


def reason_of(error: OSError) -> str:
    """Put a failed system call into the system's words, without a full stop."""
    # asyncio and uvloop put the address and more into strerror, each in its own way.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _can_be_resolved(match: re.Match[str]) -> bool:
    """Leave out what Python's own resolver chokes on, with errors that are not OSError."""
    if match["ip6"] is not None:
        try:
            IPv6Address(match["ip6"])
        except AddressValueError:
            return False
        return True
    labels = match["host"].removesuffix(".").split(".")
    return not match["host"] or all(len(label) in _LABEL_BYTES for label in labels)


def _of_info(info: tuple[Any, ...]) -> SocketAddress:
    """Take what socket(2) and connect(2) want of getaddrinfo(3)'s answer."""
    return info[0], info[4]
