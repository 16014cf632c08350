"""The contract of ``centcert.stores.base.Store``, for every store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from centcert.errors import BlobTooLarge, StoreUnavailable
from centcert.stores import MAX_BLOB_BYTES, Blob, Change
from centcert.stores.base import BATCH
from tests.contract.places import PLACES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from centcert.stores import Store
    from tests.contract.places import Place

KEY = "www.contoso.example.pfx"
OTHER = "mail.contoso.example.pfx"


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with PLACES[request.param](request) as place:
        yield place


async def fetched(store: Store, key: str) -> Blob:
    blob = await store.fetch(key)
    assert blob is not None
    return blob


async def until(changes: AsyncGenerator[Change, None], *keys: str) -> None:
    """Read on until every key was reported, or that everything may have changed."""
    missing = set(keys)
    async with asyncio.timeout(20):
        while missing:
            change = await anext(changes)
            if change.key is None:
                return
            missing.discard(change.key)


# --- fetch --------------------------------------------------------------------


async def test_a_blob_comes_whole_with_its_key(place: Place):
    place.put(KEY, bytes(range(256)) * 500)
    blob = await fetched(place.store, KEY)
    assert (blob.key, blob.data) == (KEY, bytes(range(256)) * 500)


async def test_what_is_not_there_is_absent(place: Place):
    assert await place.store.fetch(KEY) is None


@pytest.mark.parametrize(
    "key",
    ["_.contoso.example.pfx", "bücher.example.pfx", "日本.example.pem", "a b.pfx", "..a", "-"],
)
async def test_unusual_keys(place: Place, key: str):
    place.put(key, b"here")
    assert (await fetched(place.store, key)).data == b"here"
    assert [file.key for file in await place.store.list()] == [key]


@pytest.mark.parametrize(
    "key",
    [
        *("", ".", "..", "/", "sub/x.pfx", "sub\\x.pfx", "../store/x.pfx", "./x.pfx", "x.pfx/"),
        *("/etc/passwd", "x.pfx\0", "\0", "x.pfx:stream", "*.pfx", "x?pfx", "\ud800.pfx"),
        *("\udcff.pfx", "x" * 256, "é" * 200, "x" * 70_000),
    ],
)
async def test_no_key_leads_elsewhere(place: Place, key: str):
    place.make_folder("sub")
    place.put("x.pfx", b"here")
    assert await place.store.fetch(key) is None


async def test_the_longest_key(place: Place):
    key = "x" * 251 + ".pfx"
    place.put(key, b"here")
    assert (await fetched(place.store, key)).data == b"here"


async def test_a_folder_is_no_blob(place: Place):
    place.make_folder(KEY)
    assert await place.store.fetch(KEY) is None
    assert await place.store.list() == []


async def test_an_empty_file_is_a_blob(place: Place):
    place.put(KEY, b"")
    assert (await fetched(place.store, KEY)).data == b""


async def test_the_largest_blob(place: Place):
    place.put(KEY, b"x" * MAX_BLOB_BYTES)
    assert len((await fetched(place.store, KEY)).data) == MAX_BLOB_BYTES


async def test_a_larger_blob_is_refused(place: Place):
    place.put(KEY, b"x" * (MAX_BLOB_BYTES + 1))
    with pytest.raises(BlobTooLarge) as caught:
        await place.store.fetch(KEY)
    assert caught.value.key == KEY


async def test_a_removed_file_is_absent(place: Place):
    place.put(KEY, b"here")
    await fetched(place.store, KEY)
    place.remove(KEY)
    assert await place.store.fetch(KEY) is None


# --- versions -----------------------------------------------------------------


async def test_the_version_stays_as_long_as_the_bytes(place: Place):
    place.put(KEY, b"one")
    first = await fetched(place.store, KEY)
    place.put(OTHER, b"another file")
    await fetched(place.store, OTHER)
    assert await fetched(place.store, KEY) == first


@pytest.mark.parametrize("way", ["put", "overwrite"])
async def test_other_bytes_have_another_version(place: Place, way: str):
    """Regression: two writes within one tick of the file system's clock look alike."""
    change = place.put if way == "put" else place.overwrite
    keys = [f"{number}.pfx" for number in range(20)]
    seen: set[tuple[str, str]] = set()
    for data in (b"one", b"two", b"six"):  # of one size
        for key in keys:
            change(key, data)
        for key in keys:
            blob = await fetched(place.store, key)
            assert blob.data == data
            assert (key, blob.version) not in seen
            seen.add((key, blob.version))
            change(key, b"ten")  # in the same tick as the fetch, at times


# --- list ---------------------------------------------------------------------


async def test_an_empty_store_lists_nothing(place: Place):
    assert await place.store.list() == []


async def test_the_listing_says_what_fetch_says(place: Place):
    for number in range(50):
        place.put(f"{number}.pfx", b"x" * number)
    place.remove("7.pfx")
    place.overwrite("8.pfx", b"longer than before")
    place.rename("9.pfx", "renamed.pfx")
    place.put("notes.txt", b"not a certificate, but a file")
    place.make_folder("sub")
    files = {file.key: file for file in await place.store.list()}
    assert len(files) == 50
    assert {"8.pfx", "renamed.pfx", "notes.txt"} <= files.keys()
    for key, file in files.items():
        blob = await fetched(place.store, key)
        assert (blob.version, len(blob.data)) == (file.version, file.size)


async def test_the_listing_holds_what_is_too_large_to_fetch(place: Place):
    place.put(KEY, b"x" * (MAX_BLOB_BYTES + 1))
    (file,) = await place.store.list()
    assert (file.key, file.size) == (KEY, MAX_BLOB_BYTES + 1)


async def test_a_listing_comes_in_batches(place: Place):
    keys = {f"{number}.pfx" for number in range(2 * BATCH + 1)}
    for key in keys:
        place.put(key, b"here")
    async with aclosing(place.store.scan()) as batches:
        read = [[file.key for file in batch] async for batch in batches]
    assert all(0 < len(batch) <= BATCH for batch in read)
    assert len(read) > 2
    assert sorted(key for batch in read for key in batch) == sorted(keys), "each once"
    assert {file.key for file in await place.store.list()} == keys


async def test_who_leaves_a_listing_leaves_the_store_usable(place: Place):
    for number in range(2 * BATCH + 1):
        place.put(f"{number}.pfx", b"here")
    for _ in range(3):
        async with aclosing(place.store.scan()) as batches:
            await anext(batches)
            asking = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    assert len(await place.store.list()) == 2 * BATCH + 1
    assert (await fetched(place.store, "0.pfx")).data == b"here"


async def test_a_listing_under_way_ends_when_the_store_is_closed(place: Place):
    for number in range(2 * BATCH + 1):
        place.put(f"{number}.pfx", b"here")
    async with aclosing(place.store.scan()) as batches:
        await anext(batches)
        await place.store.close()
        with pytest.raises(StoreUnavailable):
            async for _ in batches:
                pass


# --- watch --------------------------------------------------------------------


async def test_the_first_word_of_a_watch_is_to_look_at_everything(place: Place):
    async with aclosing(place.store.watch()) as changes:
        assert await anext(changes) == Change(None)


async def test_a_watch_sees_each_kind_of_change(place: Place):
    async with aclosing(place.store.watch()) as changes:
        await anext(changes)
        place.put(KEY, b"made")
        await until(changes, KEY)
        place.put(KEY, b"replaced")
        await until(changes, KEY)
        place.overwrite(KEY, b"overwritten")
        await until(changes, KEY)
        place.rename(KEY, OTHER)
        await until(changes, KEY, OTHER)
        place.remove(OTHER)
        await until(changes, OTHER)


async def test_after_a_change_was_seen_it_can_be_fetched(place: Place):
    async with aclosing(place.store.watch()) as changes:
        await anext(changes)
        for number in range(5):
            place.put(KEY, b"%d" % number)
            await until(changes, KEY)
            assert (await fetched(place.store, KEY)).data == b"%d" % number


async def test_changes_made_while_the_watcher_is_busy_are_kept(place: Place):
    async with aclosing(place.store.watch()) as changes:
        await anext(changes)
        keys = [f"{number}.pfx" for number in range(300)]
        for key in keys:
            place.put(key, b"here")
        await until(changes, *keys)


async def test_watches_do_not_disturb_each_other(place: Place):
    async with aclosing(place.store.watch()) as one:
        await anext(one)
        async with aclosing(place.store.watch()) as other:
            await anext(other)
            place.put(KEY, b"here")
            await until(other, KEY)
        place.put(OTHER, b"here")
        await until(one, KEY, OTHER)


# --- concurrency, cancellation, closing ---------------------------------------


async def test_many_at_once(place: Place):
    for number in range(40):
        place.put(f"{number}.pfx", b"%d" % number)
    keys = [f"{number}.pfx" for number in range(50)] * 20
    blobs = await asyncio.gather(*(place.store.fetch(key) for key in keys))
    for key, blob in zip(keys, blobs, strict=True):
        number = int(key.removesuffix(".pfx"))
        assert (blob.data if blob else None) == (b"%d" % number if number < 40 else None)


async def test_a_cancelled_call_leaves_the_store_usable(place: Place):
    place.put(KEY, b"here")
    for turns in range(8):
        calls = [asyncio.ensure_future(place.store.fetch(KEY)) for _ in range(30)]
        calls.append(asyncio.ensure_future(anext(place.store.watch())))  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await fetched(place.store, KEY)).data == b"here"


async def test_a_closed_store_answers_nothing(place: Place):
    place.put(KEY, b"here")
    await fetched(place.store, KEY)
    watch = place.store.watch()
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await place.store.close()
    with pytest.raises(StoreUnavailable):
        await waiting
    with pytest.raises(StoreUnavailable):
        await place.store.fetch(KEY)
    with pytest.raises(StoreUnavailable):
        await place.store.list()
    with pytest.raises(StoreUnavailable):
        await anext(place.store.watch())
    await place.store.close()


async def test_calls_under_way_end_when_the_store_is_closed(place: Place):
    place.put(KEY, b"here")
    calls = [asyncio.ensure_future(place.store.fetch(KEY)) for _ in range(100)]
    await asyncio.sleep(0)
    await place.store.close()
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, StoreUnavailable | Blob)


async def test_errors_name_the_store_and_no_blob_shows_its_bytes(place: Place):
    place.put(KEY, b"private key")
    assert "private key" not in repr(await fetched(place.store, KEY))
    await place.store.close()
    with pytest.raises(StoreUnavailable, match="was closed") as caught:
        await place.store.fetch(KEY)
    assert caught.value.store == place.store.url
