"""The way to a backend: a connection that is being made, without a task."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from centcert.frontend.addresses import SocketAddress
    from centcert.frontend.streams import Poller


class Dialler(Protocol):
    """Who wants the connection."""

    def reached(self, connected: socket.socket, interest: int) -> None:
        """Take the connected socket over; ``interest`` is what the poller waits for already."""

    def not_reached(self, error: OSError) -> None:
        """Learn why the last of the addresses does not accept; nothing more will come."""


class Dial:
    """Tries addresses one after the other until one accepts."""

    def __init__(
        self, poller: Poller, addresses: Iterable[SocketAddress], dialler: Dialler
    ) -> None:
        """Nothing is tried yet.

        Args:
            poller: whose loop it belongs to.
            addresses: best first.
            dialler: is told the outcome, once.
        """
        self._poller = poller
        self._addresses = iter(addresses)
        self._dialler = dialler
        self._trying: socket.socket | None = None

    def begin(self) -> None:
        """Try the first address; ``dialler`` may hear of the outcome before this returns."""
        self._try_next(OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)))

    def cancel(self) -> None:
        """Give up; ``dialler`` hears nothing."""
        if self._trying is not None:
            self._poller.forget(self._trying.fileno())
            self._trying.close()
            self._trying = None

    def ready(self, mask: int) -> None:
        """See ``Polled.ready``."""
        trying = self._trying
        if trying is None or not mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
            return
        code = trying.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.cancel()
            self._try_next(OSError(code, os.strerror(code)))
        else:
            self._trying = None
            self._dialler.reached(trying, select.EPOLLOUT)

    def failed(self, error: Exception) -> None:
        """See ``Polled.failed``."""
        self._poller.report("A backend's connection has failed", error)
        self.cancel()

    def _try_next(self, error: OSError) -> None:
        for family, address in self._addresses:
            try:
                trying = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError as out_of_descriptors:
                error = out_of_descriptors
                break
            if family is not socket.AF_UNIX:
                trying.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = trying.connect_ex(address)
            if code == errno.EINPROGRESS:
                code = trying.connect_ex(address)  # on this machine it has been accepted by now
            if not code or code == errno.EISCONN:
                self._dialler.reached(trying, 0)
                return
            if code == errno.EALREADY:
                self._trying = trying
                self._poller.want(trying.fileno(), self, select.EPOLLOUT, 0)
                return
            trying.close()
            error = OSError(code, os.strerror(code))
        self._dialler.not_reached(error)
