"""The sockets that workers accept from: made once, kept open while workers come and go.

Linux hands a connection to one of the sockets of an address by its hash (socket(7),
SO_REUSEPORT). Closing one of them would drop the connections that wait at it, so none is
closed while its address is listened on: a worker that is replaced leaves its clients to
its successor, and with fewer workers than sockets some accept from several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.errors import SettingsError
from centcert.frontend.addresses import reason_of
from centcert.frontend.binding import bind, bind_one

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Mapping, Sequence

    from centcert.frontend.addresses import TcpAddress


class ListeningSockets:
    """Sockets by the listener's address they are for. They are bound here; workers listen.

    Args:
        passed: sockets that listen already; all workers accept from each of them.
    """

    def __init__(self, passed: Mapping[TcpAddress, Sequence[socket.socket]]) -> None:
        self._passed = {address: list(sockets) for address, sockets in passed.items()}
        # For each address the places it stands for, each with a socket for every worker.
        self._bound: dict[TcpAddress, list[list[socket.socket]]] = {}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every place, with the ports that the kernel chose."""
        sockets = [one for passed in self._passed.values() for one in passed]
        sockets += [place[0] for places in self._bound.values() for place in places]
        return [one.getsockname()[:2] for one in sockets]

    def open(self, addresses: Collection[TcpAddress], workers: int) -> None:
        """Have sockets at ``addresses`` for so many workers; those there are stay.

        Raises:
            SettingsError: an address cannot be listened on; then nothing was opened.
        """
        opened: dict[TcpAddress, list[list[socket.socket]]] = {}
        try:
            for address in addresses:
                if address not in self._bound and address not in self._passed:
                    opened[address] = [[one] for one in bind(address, shared=True)]
            for address in addresses:
                for place in self._bound.get(address, opened.get(address, [])):
                    while len(place) < workers:
                        where = place[0].getsockname()
                        place.append(bind_one(place[0].family, where, shared=True))
        except OSError as error:
            _close(opened.values())
            raise SettingsError(f"Cannot listen on {address}: {reason_of(error)}.") from error
        self._bound |= opened

    def close_but(self, addresses: Collection[TcpAddress]) -> None:
        """Close the sockets that are not for one of ``addresses``."""
        gone = self._bound.keys() - set(addresses)
        _close([self._bound.pop(address) for address in gone])

    def share(self, worker: int, workers: int) -> dict[TcpAddress, list[socket.socket]]:
        """Return what worker number ``worker`` of ``workers`` accepts from, by address."""
        bound = {
            address: [one for place in places for one in place[worker::workers]]
            for address, places in self._bound.items()
        }
        return {**self._passed, **bound}

    def all(self) -> list[socket.socket]:
        """Return every socket."""
        sockets = [one for passed in self._passed.values() for one in passed]
        return sockets + [one for at in self._bound.values() for place in at for one in place]

    def close(self) -> None:
        """Close everything in this process."""
        self.close_but(())
        for sockets in self._passed.values():
            for one in sockets:
                one.close()
        self._passed = {}


def _close(addresses: Collection[list[list[socket.socket]]]) -> None:
    for places in addresses:
        for place in places:
            for one in place:
                one.close()
