"""Ports for programs that must be told theirs before they listen."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of loopback that the kernel gives to nobody else within the block.

    A socket stays bound to it that does not listen, so a program may that sets SO_REUSEADDR
    (socket(7)); who connects before that is refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
