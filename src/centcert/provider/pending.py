"""What waits to be written to the last-good copies. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centcert.credential import Credential
    from centcert.names import HostName


@dataclass(frozen=True, slots=True)
class Copy:
    """What a name was answered with.

    Attributes:
        version: of the store's file ``credential.key``.
        credential: as it was then.
    """

    version: str
    credential: Credential


@dataclass(slots=True)
class Pending:
    """What is to be kept, and what must no longer be.

    A copy holds a credential, so copies are bounded and the oldest is dropped. A
    withdrawal is a name, and never dropped: not even when its name is kept anew, as that
    copy may still be.

    Attributes:
        copies: to be kept, the one noted first at the front.
        withdrawn: names whose copies on the disk must go.
    """

    copies: dict[HostName, Copy] = field(default_factory=dict)
    withdrawn: dict[HostName, None] = field(default_factory=dict)

    def __contains__(self, name: HostName) -> bool:
        return name in self.copies or name in self.withdrawn

    def keep(self, name: HostName, copy: Copy) -> None:
        """Note a copy."""
        self.copies[name] = copy

    def withdraw(self, name: HostName, *, on_disk: bool) -> None:
        """Note that nothing is to be kept, and to be removed if it may be on the disk."""
        self.copies.pop(name, None)
        if on_disk:
            self.withdrawn[name] = None

    def drop_to(self, most: int) -> bool:
        """Drop the oldest copies but ``most``; say whether there were more."""
        excess = len(self.copies) - most
        if excess <= 0:
            return False
        for name in tuple(islice(self.copies, excess)):
            del self.copies[name]
        return True

    def put_back(self, earlier: Pending) -> None:
        """Take up what was to be written before this; what is noted here is the last word."""
        unwritten = {n: copy for n, copy in earlier.copies.items() if n not in self.withdrawn}
        self.copies = unwritten | self.copies
        self.withdrawn = earlier.withdrawn | self.withdrawn
