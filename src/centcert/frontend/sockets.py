"""The listening sockets of a node: one owner, whoever accepts from them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from centcert.errors import SettingsError
from centcert.frontend.addresses import reason_of
from centcert.frontend.binding import bind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from socket import socket

    from centcert.frontend.addresses import TcpAddress

BACKLOG: Final = 1024
"""Connections that the kernel holds while the loop is busy; it caps this at net.core.somaxconn."""


class OpenSockets:
    """Sockets by the listener's address they are for.

    A front end and applications accept from duplicates of them. So an address goes from one
    to the other, or back, while it stays open, and whoever waits there meets the next one.

    Args:
        inherited: sockets that listen already; they stay the caller's to close.

    Attributes:
        by_address: all of them, always up to date.
    """

    def __init__(self, inherited: Mapping[TcpAddress, Sequence[socket]]) -> None:
        self.by_address: dict[TcpAddress, Sequence[socket]] = dict(inherited)
        self._inherited = frozenset(inherited)

    async def open(self, addresses: Collection[TcpAddress]) -> None:
        """Open what is not open yet of ``addresses``: all of it, or nothing.

        Raises:
            SettingsError: an address cannot be listened on.
        """
        opened: dict[TcpAddress, list[socket]] = {}
        try:
            for address in set(addresses) - self.by_address.keys():
                try:
                    opened[address] = await asyncio.to_thread(bind, address)
                    for one in opened[address]:
                        one.listen(BACKLOG)
                except OSError as error:
                    sentence = f"Cannot listen on {address}: {reason_of(error)}."
                    raise SettingsError(sentence) from error
        except BaseException:
            _close(opened.values())
            raise
        self.by_address |= opened

    def close_but(self, addresses: Collection[TcpAddress]) -> None:
        """Close those that are for none of ``addresses``."""
        gone = self.by_address.keys() - self._inherited - set(addresses)
        _close([self.by_address.pop(address) for address in gone])


def _close(sockets: Collection[Sequence[socket]]) -> None:
    for one in (one for of_address in sockets for one in of_address):
        one.close()
