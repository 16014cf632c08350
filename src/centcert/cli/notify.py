"""Tell systemd how the service does: sd_notify(3) over a datagram, without its library."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ServiceManager:
    """Whoever started this service and wants to know; without one every call does nothing."""

    def __init__(self) -> None:
        where = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + where[1:] if where.startswith("@") else where
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        is_meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(microseconds) / 1e6 if is_meant and microseconds.isdecimal() else 0.0
        self._alive_at = 0.0

    def ready(self, status: str) -> None:
        """Say that it serves, at first or after ``reloading``; ``status`` is for people."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that it reads its settings again; ``ready`` ends that."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str, within_s: float) -> None:
        """Say that it ends, and how long that may take."""
        self._tell("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={within_s * 1e6:.0f}")

    def alive_again(self) -> float | None:
        """Give a sign of life if it is time; return when the next is due, by time.monotonic.

        Signs come twice as often as they are asked for. ``None``: nobody asks.
        """
        if not self._watchdog_s:
            return None
        now = time.monotonic()
        if now >= self._alive_at:
            self._tell("WATCHDOG=1")
            self._alive_at = now + self._watchdog_s / 2
        return self._alive_at

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give signs of life from the event loop, twice as often as they are asked for.

        A loop that hangs gives none, and the service is started anew.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def live() -> None:
            nonlocal timer
            self._tell("WATCHDOG=1")
            timer = loop.call_later(self._watchdog_s / 2, live)

        if self._watchdog_s:
            live()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto("\n".join(assignments).encode(), self._address)
