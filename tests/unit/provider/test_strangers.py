"""A hundred thousand names that strangers make up: what they cost memory and the store."""

from __future__ import annotations

import asyncio
import gc
import random
import string
import sys
from typing import TYPE_CHECKING

import pytest

from centcert.audience import Audience
from centcert.errors import CentcertError, NameRefused, Overloaded, StoreUnavailable, UnknownName
from centcert.names import MAX_NAME_BYTES, HostName
from centcert.provider import CacheLimits
from centcert.provider.answering import answer
from centcert.provider.events import WatchFailed
from centcert.provider.findings import MAX_FINDINGS
from centcert.provider.lastgood import LastGood
from centcert.provider.policy import DEFAULT_POLICY
from centcert.provider.provider import MAX_LOOK_UPS, UNLISTED_RESERVE
from tests.unit.provider.conftest import Rig, pem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized
    from pathlib import Path

    from centcert.provider import Provider

pytestmark = pytest.mark.timeout(300)  # 5 s as a rule

NAMES = 100_000
WWW = HostName.parse("www.contoso.example")
KEY, WILD = "www.contoso.example.pem", "_.contoso.example.pem"
LIMITS = CacheLimits(max_names=500, max_absent=1_000)
LETTERS = string.ascii_lowercase + string.digits


def allocated() -> int:
    """How many pieces of memory Python holds: what is kept for each name would be as many."""
    gc.collect()
    return sys.getallocatedblocks()


def made_up(count: int) -> Iterator[str]:
    """Names as scanners and fuzzers send them; every seventh is no host name at all."""
    draw = random.Random(20_261_123)  # noqa: S311  the same names in each run
    for number in range(count):
        label = "".join(draw.choices(LETTERS, k=draw.randint(1, 40)))
        match number % 7:
            case 0:
                yield "".join(map(chr, draw.choices(range(1, 256), k=draw.randint(0, 300))))
            case 1:
                yield f"{label}.contoso.example"
            case 2:
                yield ".".join(["x" * 60, label, "y" * 60, "z" * 60])[:MAX_NAME_BYTES]
            case 3:
                yield f"xn--{label}.example"
            case 4:
                yield f"../../{label}"
            case 5:
                yield f"{label}.{number}.test"
            case _:
                yield f"{number}.www.contoso.example"


async def ask_all(provider: Provider, names: Iterator[str]) -> dict[type[CentcertError], int]:
    outcomes: dict[type[CentcertError], int] = {}
    for text in names:
        try:
            await answer(provider, HostName.parse(text), DEFAULT_POLICY, None)
        except CentcertError as error:
            outcomes[type(error)] = outcomes.get(type(error), 0) + 1
        else:
            raise AssertionError(f"{text!r} was answered")
    return outcomes


def in_tables(provider: Provider) -> int:
    """How many things the provider keeps: whatever strangers ask for may be none of them."""
    loader = provider._loader
    tables: tuple[Sized, ...] = (
        *(provider._cache, provider._renewals, provider._look_ups, loader._flights, loader.index),
        *(loader._decoded, loader._rejections, provider.findings()),
    )
    return sum(len(table) for table in tables)


async def test_while_the_store_is_watched_they_cost_it_nothing(rig: Rig):
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(limits=LIMITS) as provider:
        provider._audience = Audience()
        await provider.credential(WWW)
        while not provider._loader.index.fresh:
            await asyncio.sleep(0.001)
        tables, requests = in_tables(provider), rig.store.fetched.total() + rig.store.listed
        await ask_all(provider, made_up(5_000))  # what grows once grows now
        blocks = allocated()
        outcomes = await ask_all(provider, made_up(NAMES))
        grown = allocated() - blocks
        assert set(outcomes) == {UnknownName, NameRefused}
        assert sum(outcomes.values()) == NAMES
        assert grown < 1_000
        assert in_tables(provider) == tables
        assert rig.store.fetched.total() + rig.store.listed == requests
        assert provider.known(WWW) is not None


async def test_without_a_watch_they_cost_it_no_more_than_their_allowance(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (600.0, 600.0))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(limits=LIMITS) as provider:
        await provider.credential(WWW)
        while not provider._loader.index.fresh:
            await asyncio.sleep(0.001)
        rig.store.fail()
        await rig.until(WatchFailed)
        rig.store.heal()
        provider._audience = Audience()
        requests = rig.store.fetched.total() + rig.store.listed
        blocks = allocated()
        outcomes = await ask_all(provider, made_up(NAMES))
        grown = allocated() - blocks
        assert outcomes[UnknownName] < 1.5 * UNLISTED_RESERVE  # some came twice, and are remembered
        assert outcomes[Overloaded] > NAMES / 2
        # Two files of its own, two of the wildcard, and for half as many again the IDN's.
        requests = rig.store.fetched.total() + rig.store.listed - requests
        assert requests <= 8 * UNLISTED_RESERVE
        assert grown < 10 * LIMITS.max_absent
        assert provider._cache.absent_count <= LIMITS.max_absent
        assert provider.known(WWW) is not None
        rig.clock.advance(1)
        assert (await provider.reload(WWW)).covers(WWW)


async def test_while_the_store_is_away_they_leave_nothing_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.freshness.REWATCH_S", (600.0, 600.0))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(limits=LIMITS) as provider:
        await provider.credential(WWW)
        rig.store.fail()
        await rig.until(WatchFailed)
        outcomes = await ask_all(provider, made_up(NAMES // 10))
        assert outcomes[StoreUnavailable] <= UNLISTED_RESERVE
        assert set(outcomes) == {StoreUnavailable, Overloaded, NameRefused}
        assert provider._cache.absent_count == 0
        assert len(provider._look_ups) <= MAX_LOOK_UPS
        assert len(provider.findings()) <= MAX_FINDINGS
        assert provider.known(WWW) is not None


async def test_names_under_a_wildcard_cost_nothing(rig: Rig, tmp_path: Path):
    """Guards: each took a request, a place in memory and a copy that honest names have lost."""
    rig.files.put(KEY, pem(WWW))
    rig.files.put(WILD, pem("*.contoso.example"))
    copies = LastGood(
        tmp_path / "copies", [bytes(32)], store_url=rig.store.url, listener=lambda _: None
    )
    async with rig.provider(limits=LIMITS, last_good=copies) as provider:
        provider._audience = Audience()
        await provider.credential(WWW)
        while not provider._loader.index.fresh:
            await asyncio.sleep(0.001)
        first = HostName.parse("first.contoso.example")
        await answer(provider, first, DEFAULT_POLICY, None)
        tables, requests = in_tables(provider), rig.store.fetched.total()
        blocks = allocated()
        for number in range(20_000):
            name = HostName.parse(f"n{number}.contoso.example")
            assert (await answer(provider, name, DEFAULT_POLICY, None)).credential.key == WILD
        assert allocated() - blocks < 1_000
        assert in_tables(provider) == tables
        assert rig.store.fetched.total() == requests
        assert provider.usage[0] == 2
        known = provider.known(WWW)
        assert known is not None
        assert known.key == KEY
        await copies.flush()
        assert {WWW, first.wildcard} == set(copies.recently_used(0))
