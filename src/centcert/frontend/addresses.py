"""Where to listen and where to relay to, as people write it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

UNIX: Final = "unix:"

_TCP = re.compile(r"(?:\[(?P<ip6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")

P = TypeVar("P", bound=asyncio.BaseProtocol)


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
        if match is None or int(match["port"]) > 0xFFFF:  # noqa: PLR2004  16 bits
            raise SettingsError(
                f"{text!r} is not an address: write host:port, [ipv6]:port or :port."
            )
        return cls(match["ip6"] or match["host"], int(match["port"]))


@dataclass(frozen=True, slots=True)
class Backend:
    """Where decrypted connections are relayed to: a TCP address or a Unix socket's path."""

    where: TcpAddress | str

    def __str__(self) -> str:
        return f"{UNIX}{self.where}" if isinstance(self.where, str) else str(self.where)

    @classmethod
    def parse(cls, text: str) -> Backend:
        """Read ``host:port`` or ``unix:/path``.

        Raises:
            SettingsError: it is neither, or has no host.
        """
        if text.startswith(UNIX):
            if len(text) == len(UNIX):
                raise SettingsError(f"{text!r} names no socket: write unix:/run/app.sock.")
            return cls(text.removeprefix(UNIX))
        address = TcpAddress.parse(text)
        if not address.host or not address.port:
            raise SettingsError(f"{text!r} is not a backend: write host:port or unix:/path.")
        return cls(address)

    async def connect(self, factory: Callable[[], P]) -> P:
        """Open a connection; its protocol comes from ``factory``.

        Raises:
            OSError: nobody accepts it there.
        """
        loop = asyncio.get_running_loop()
        if isinstance(self.where, str):
            _, protocol = await loop.create_unix_connection(factory, self.where)
        else:
            _, protocol = await loop.create_connection(factory, self.where.host, self.where.port)
        return protocol
