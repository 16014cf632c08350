"""What is seen of files when their changes are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from centcert.stores.smb import sightings
from centcert.stores.smb.errands import Errands
from centcert.stores.smb.sightings import Sightings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTLED_S = 0.02
LONG_S = 1_000.0


class Share:
    """Looks at files, when it is let."""

    def __init__(self) -> None:
        self.looks = 0
        self.state: str | None = "first"
        self.open = asyncio.Event()
        self.open.set()

    async def look(self) -> str | None:
        self.looks += 1
        await self.open.wait()
        return self.state


@pytest.fixture
async def errands() -> AsyncIterator[Errands]:
    errands = Errands()
    yield errands
    await errands.end()


@pytest.fixture
def share() -> Share:
    return Share()


async def test_what_was_seen_is_told_once_it_is_settled(errands: Errands, share: Share):
    loop, seen = asyncio.get_running_loop(), Sightings[str](errands, SETTLED_S)
    seen.expect("www")
    began = loop.time()
    seen.changed("www", share.look)
    assert await seen.take("www") == "first"
    assert loop.time() - began >= SETTLED_S
    assert await seen.take("www") is None, "it is as good for one read"


async def test_who_reads_waits_for_a_look_under_way(errands: Errands, share: Share):
    seen = Sightings[str](errands, SETTLED_S)
    seen.expect("www")
    share.open.clear()
    seen.changed("www", share.look)
    reading = asyncio.create_task(seen.take("www"))
    await asyncio.sleep(0)
    share.state = "second"
    share.open.set()
    assert await reading == "second"


async def test_only_what_is_read_is_looked_at_and_not_at_each_notice(
    errands: Errands, share: Share
):
    seen = Sightings[str](errands, LONG_S)
    seen.changed("www", share.look)
    await asyncio.sleep(0)
    assert share.looks < 1
    seen.expect("www")
    for _ in range(3):
        seen.changed("www", share.look)
        await asyncio.sleep(0.001)
    assert share.looks == 1


async def test_a_change_long_after_is_looked_at_again(errands: Errands, share: Share):
    seen = Sightings[str](errands, 0.0)
    seen.expect("www")
    seen.changed("www", share.look)
    await asyncio.sleep(0.001)
    share.state = "second"
    seen.changed("www", share.look)
    assert await seen.take("www") == "second"


async def test_what_cannot_be_seen_is_not_waited_for(errands: Errands, share: Share):
    seen = Sightings[str](errands, LONG_S)
    for path in ("www", "mail"):
        seen.expect(path)
    share.state = None
    seen.changed("www", share.look)
    assert await seen.take("www") is None
    share.open.clear()
    seen.changed("mail", share.look)
    reading = asyncio.create_task(seen.take("mail"))
    await asyncio.sleep(0)
    await errands.end()
    assert await reading is None


async def test_its_memory_and_its_looks_are_bounded(
    errands: Errands, share: Share, monkeypatch: pytest.MonkeyPatch
):
    for bound, value in (("MAX_EXPECTED", 4), ("MAX_LOOKS", 3), ("MAX_SIGHTINGS", 2)):
        monkeypatch.setattr(sightings, bound, value)
    seen = Sightings[str](errands, 0.0)
    for number in range(6):
        seen.expect(str(number))
    share.open.clear()
    for number in range(6):
        seen.changed(str(number), share.look)
    await asyncio.sleep(0.001)
    assert share.looks == 3, "of the four that are expected"
    share.open.set()
    found = [await seen.take(str(number)) for number in range(6)]
    assert found == [None, None, None, "first", "first", None]
    seen.changed("5", share.look)
    assert await seen.take("5") == "first", "there is room again"
