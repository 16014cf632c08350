"""A disabled store answers nothing, and what it had in its day goes on being served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from centcert.errors import StoreDisabled
from centcert.stores.disabled import DisabledStore
from centcert.stores.events import Weakness

if TYPE_CHECKING:
    from centcert.stores.events import Event

SENTENCE = "The store /srv/certs is disabled: `centcert enable` has it used again."


async def test_every_call_is_refused():
    store = DisabledStore("/srv/certs")
    for call in (store.fetch("www.contoso.example.pfx"), store.list()):
        with pytest.raises(StoreDisabled) as refused:
            await call
        assert (str(refused.value), refused.value.retryable) == (SENTENCE, False)


async def test_a_watch_tells_once_that_it_is_disabled_and_no_change():
    told: list[Event] = []
    store = DisabledStore("/srv/certs", listener=told.append)
    watch = store.watch()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(watch)
    (weakness,) = told
    assert isinstance(weakness, Weakness)
    assert (weakness.code, weakness.subject, weakness.sentence) == (
        "store-disabled",
        "/srv/certs",
        SENTENCE,
    )
