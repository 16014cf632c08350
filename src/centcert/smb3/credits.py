"""Credits and message ids of one connection ([MS-SMB2] 3.2.4.1.2, 3.2.4.1.5, 3.2.5.1.4).

The server lends credits; each request spends some and takes as many message ids in a
row. No id is ever used twice, and no credit is spent that was not granted.
"""

from __future__ import annotations

from typing import Final

from centcert.smb3.errors import ProtocolViolation

TARGET: Final = 512
"""How many credits the client wants to hold: enough for 64 compounds of three, and a listing."""

UNIT_BYTES: Final = 64 * 1024
"""What one credit pays for, sent or received ([MS-SMB2] 3.1.5.2)."""

_MAX_ASKED: Final = 256
"""More in one request than any server grants."""


def charge_for(payload_bytes: int) -> int:
    """How many credits a request costs that sends or asks for so many bytes."""
    return max(1, (payload_bytes + UNIT_BYTES - 1) // UNIT_BYTES)


class Credits:
    """The purse of one connection. It begins with one credit ([MS-SMB2] 3.2.5.1.4)."""

    __slots__ = ("_asked", "_next_id", "available")

    def __init__(self) -> None:
        self.available = 1  # never negative: take() refuses to overdraw
        self._next_id = 0
        self._asked = 0  # asked for in requests that are not answered yet

    @property
    def expecting(self) -> bool:
        """Whether a reply is on its way that may bring credits."""
        return self._asked > 0

    def take(self, charge: int) -> tuple[int, int]:
        """Spend ``charge`` credits on one request.

        The caller has seen that ``available`` covers it.

        Returns:
            Its first message id, and how many credits it shall ask for: at least what
            it spends, and more until ``TARGET`` are held or on their way.
        """
        if charge > self.available:
            raise ValueError(f"{charge} credits were spent but {self.available} are held")
        message_id = self._next_id
        self._next_id += charge
        self.available -= charge
        missing = TARGET - self.available - self._asked
        asked = min(_MAX_ASKED, max(1, missing))
        self._asked += asked
        return message_id, asked

    def settle(self, asked: int, granted: int) -> None:
        """Book a reply: the request asked for ``asked`` (0 if booked before), got ``granted``.

        Raises:
            ProtocolViolation: the last credit is gone, so nothing can ever be asked again.
        """
        self._asked -= asked
        self.available += granted
        if not self.available and not self._asked:
            raise ProtocolViolation("The server took the last credit away.")
