"""How many clients a process has, whoever serves them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Crowd:
    """What ``Limits`` bounds for a front end and its applications together.

    Attributes:
        connections: clients that are connected.
        waiting: those of them whose handshakes wait for the store.
    """

    connections: int = 0
    waiting: int = 0
