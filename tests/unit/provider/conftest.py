"""A provider over a store in memory, with its events, its clock and a decoder in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from centcert.credential import Credential, decode
from centcert.provider import CacheLimits, Provider
from centcert.stores import Blob, MemoryStore
from centcert.testing import Authority, FaultyStore, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from centcert.provider.events import Event
    from centcert.provider.lastgood import LastGood

AUTHORITY = Authority()


def pem(*names: str, days: float = 30) -> bytes:
    """A PEM file for ``names`` that ends in ``days``."""
    end = datetime.now(UTC) + timedelta(days=days)
    begin = end - timedelta(days=60)
    return AUTHORITY.issue(*names, not_before=begin, not_after=end).pem()


class Decoder:
    """Decodes in this process, and counts."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        self.decoded.append(blob.key)
        return decode(blob.data, key=blob.key, passwords=passwords)


@dataclass
class Rig:
    """What a test turns and looks at."""

    files: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    decoder: Decoder = field(default_factory=Decoder)
    passwords: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = FaultyStore(self.files)
        self._heard = asyncio.Event()

    def provider(
        self,
        *,
        refresh_s: float = 300.0,
        limits: CacheLimits | None = None,
        last_good: LastGood | None = None,
    ) -> Provider:
        return Provider(
            self.store,
            passwords=lambda: self.passwords,
            refresh_s=refresh_s,
            limits=limits,
            last_good=last_good,
            decoder=self.decoder,
            clock=self.clock,
            listener=self._listen,
        )

    def _listen(self, event: Event) -> None:
        self.events.append(event)
        self._heard.set()

    async def until(self, kind: type[Event], times: int = 1) -> None:
        """Wait until so many events of ``kind`` have come."""
        await self.until_true(lambda: sum(isinstance(e, kind) for e in self.events) >= times)

    async def until_true(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds after some event."""
        while not condition():
            self._heard.clear()
            await self._heard.wait()

    def kinds(self) -> list[str]:
        """The events so far, by the names of their kinds."""
        return [type(event).__name__ for event in self.events]


@pytest.fixture
def rig() -> Rig:
    return Rig()
