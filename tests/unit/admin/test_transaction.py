from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from centcert.admin.lease import LOCK, is_staged, lease, new_staged_key
from centcert.admin.transaction import LEFT_OVER_S, Change, commit
from centcert.errors import StoreDenied, StoreUnavailable
from centcert.stores import FolderStore, MemoryStore, Publisher, open_publisher
from tests.publishers import MemoryPublisher, SteppedPublisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = {"a.pfx": b"old a", "b.pfx": b"old b", "gone.pfx": b"old gone", "other.pfx": b"other"}
CHANGES = (
    Change("a.pfx.previous", b"old a"),
    Change("a.pfx", b"new a"),
    Change("b.pfx", b"new b"),
    Change("c.pfx", b"new c"),
    Change("gone.pfx", None),
)
NEW = {
    "a.pfx.previous": b"old a",
    "a.pfx": b"new a",
    "b.pfx": b"new b",
    "c.pfx": b"new c",
    "other.pfx": b"other",
}


async def contents(store: MemoryStore) -> dict[str, bytes]:
    blobs = [await store.fetch(file.key) for file in await store.list()]
    return {blob.key: blob.data for blob in blobs if blob is not None}


def filled() -> MemoryStore:
    store = MemoryStore()
    for key, data in OLD.items():
        store.put(key, data)
    return store


async def committed(store: MemoryStore, publisher: Publisher) -> None:
    async with lease(store, publisher) as held:
        await commit(store, publisher, held, CHANGES)


async def steps_of_a_commit() -> int:
    store = filled()
    publisher = SteppedPublisher(MemoryPublisher(store))
    await committed(store, publisher)
    return publisher.steps


def raising_at(step: int) -> Callable[[int], None]:
    def fault(number: int) -> None:
        if number == step:
            raise StoreUnavailable("memory", f"told to fail at {number}")

    return fault


async def test_all_changes_are_made_and_nothing_else_is_left():
    store = filled()
    await committed(store, MemoryPublisher(store))
    assert await contents(store) == NEW


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_step_that_fails_leaves_everything_as_it_was(when: str):
    """Each step in turn; the failed one may have taken effect or not."""
    steps = await steps_of_a_commit()
    assert steps == 11  # the lock, four staged, five changes, the lock again
    for step in range(1, steps):
        store = filled()
        publisher = SteppedPublisher(MemoryPublisher(store), **{when: raising_at(step)})
        with pytest.raises(StoreUnavailable, match=f"^told to fail at {step}$"):
            await committed(store, publisher)
        left = await contents(store)
        if when == "after":  # a file whose making is not known of is left to a later command
            left = {key: data for key, data in left.items() if not is_staged(key)}
        if step == 1:
            left.pop(LOCK, None)
        assert left == OLD, step


async def test_a_store_that_goes_away_for_good_is_told_of():
    steps = await steps_of_a_commit()
    for step in range(6, steps):
        store = filled()

        def fault(number: int, step: int = step) -> None:
            if number >= step:
                raise StoreDenied("memory", "gone")

        with pytest.raises((StoreUnavailable, StoreDenied)) as caught:
            await committed(store, SteppedPublisher(MemoryPublisher(store), before=fault))
        left = await contents(store)
        changed = [
            key for key in ("a.pfx.previous", *OLD, "c.pfx") if left.get(key) != OLD.get(key)
        ]
        for key, data in OLD.items():
            assert left.get(key) in {data, NEW.get(key)}
        if changed:
            assert set(re.findall(r"[a-z]+\.pfx(?:\.previous)?", str(caught.value))) == set(changed)
            assert str(caught.value).endswith(
                " could not be put back after a failure (gone), so some names may have the new"
                " version and some the old one: run the command again."
            )
        else:
            assert str(caught.value) == "gone"


async def test_a_cancelled_commit_is_put_back():
    store = filled()

    def cancel(number: int) -> None:
        if number == 8:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await committed(store, SteppedPublisher(MemoryPublisher(store), after=cancel))
    assert await contents(store) == OLD


async def test_a_commit_whose_lease_was_taken_changes_nothing():
    store = filled()
    publisher = MemoryPublisher(store)
    async with lease(store, publisher) as held:
        store.put(LOCK, b"another\n")
        with pytest.raises(StoreUnavailable, match="Another publisher went to work in memory:"):
            await commit(store, publisher, held, CHANGES)
    assert await contents(store) == {**OLD, LOCK: b"another\n"}


async def test_what_a_killed_command_left_is_cleared_once_it_is_old(tmp_path: Path):
    old, young = new_staged_key(), new_staged_key()
    for key in (old, young, "centcert-notes.pfx"):
        (tmp_path / key).write_bytes(b"left")
    ages_s = {old: LEFT_OVER_S + 60, young: LEFT_OVER_S - 60, "centcert-notes.pfx": 9e6}
    for key, age_s in ages_s.items():
        os.utime(tmp_path / key, (time.time() - age_s,) * 2)
    async with (
        FolderStore(tmp_path) as store,
        open_publisher(str(tmp_path)) as publisher,
        lease(store, publisher) as held,
    ):
        await commit(store, publisher, held, [Change("a.pfx", b"new")])
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [young, "centcert-notes.pfx", "a.pfx"]
    )


async def test_no_content_is_in_a_repr():
    assert repr(CHANGES[0]) == "Change(key='a.pfx.previous')"
