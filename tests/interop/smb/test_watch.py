"""Change notifications of a real server."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from centcert import smb3
from centcert.smb3 import Action, FileChange, Kind
from tests.interop.smb.conftest import open_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba
    from centcert.smb3 import Connection, Watch
    from tests.interop.smb.conftest import Dial, Start

PATIENCE_S = 20.0


async def until_looking(watch: Watch, folder: Path) -> None:
    """Wait until the watch tells of what happens: Samba begins to look after it says so.

    All that it tells of this is taken.
    """
    step = asyncio.ensure_future(anext(watch))
    async with asyncio.timeout(PATIENCE_S):
        for number in itertools.count():
            last = f"probe-{number}"
            (folder / last).touch()
            (folder / last).unlink()
            await asyncio.wait((step,), timeout=0.1)
            if step.done():
                break
        told = step.result()
        while FileChange(Action.REMOVED, last) not in (told or ()):
            told = await anext(watch)


@pytest.fixture
async def watch(samba: PrivateSamba, reader: Connection) -> AsyncIterator[Watch]:
    async with await reader.watch(timeout_s=PATIENCE_S) as watch:
        await until_looking(watch, samba.folder)
        yield watch


async def seen_until(watch: Watch, last: str) -> list[FileChange]:
    """Every change up to the one of ``last``."""
    seen: list[FileChange] = []
    async with asyncio.timeout(PATIENCE_S):
        async for changes in watch:
            assert changes is not None
            seen += changes
            if any(change.name == last for change in changes):
                break
    return seen


async def test_a_rename_is_reported_with_both_names(samba: PrivateSamba, watch: Watch):
    (samba.folder / "tmp").write_bytes(b"content")
    (samba.folder / "tmp").rename(samba.folder / "www.pfx")

    seen = await seen_until(watch, "www.pfx")

    assert FileChange(Action.RENAMED_TO, "www.pfx") in seen
    assert FileChange(Action.RENAMED_FROM, "tmp") in seen


async def test_a_replacement_by_an_administrator_is_reported(watch: Watch, publisher: Connection):
    await publisher.write_new("tmp", b"content", timeout_s=PATIENCE_S)
    await publisher.rename("tmp", "www.pfx", replace=True, timeout_s=PATIENCE_S)

    assert "www.pfx" in {change.name for change in await seen_until(watch, "www.pfx")}


async def test_an_overwrite_is_reported(samba: PrivateSamba, reader: Connection):
    (samba.folder / "www.pfx").write_bytes(b"content")
    async with await reader.watch(timeout_s=PATIENCE_S) as watch:
        await until_looking(watch, samba.folder)
        (samba.folder / "www.pfx").write_bytes(b"other")

        assert FileChange(Action.MODIFIED, "www.pfx") in await seen_until(watch, "www.pfx")


async def test_a_deletion_is_reported(samba: PrivateSamba, reader: Connection):
    (samba.folder / "www.pfx").write_bytes(b"content")
    async with await reader.watch(timeout_s=PATIENCE_S) as watch:
        await until_looking(watch, samba.folder)
        (samba.folder / "www.pfx").unlink()

        assert FileChange(Action.REMOVED, "www.pfx") in await seen_until(watch, "www.pfx")


async def test_none_of_two_thousand_changes_is_missed(samba: PrivateSamba, watch: Watch):
    names = {f"{number}.pfx" for number in range(2_000)}

    def make() -> None:
        for name in sorted(names):
            (samba.folder / name).touch()
        (samba.folder / "last").touch()

    making = asyncio.create_task(asyncio.to_thread(make))
    seen = await seen_until(watch, "last")
    await making

    assert names <= {change.name for change in seen}


async def test_more_changes_than_the_server_keeps_are_reported_as_lost(
    samba: PrivateSamba, watch: Watch
):
    for number in range(2_000):
        (samba.folder / f"{number}-{'x' * 200}.pfx").touch()

    lost = False
    async with asyncio.timeout(PATIENCE_S):
        async for changes in watch:
            lost = changes is None
            if lost:
                break
    assert lost
    (samba.folder / "after").touch()
    names: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while "after" not in names:
            names |= {change.name for change in await anext(watch) or ()}


async def test_waiting_for_changes_has_no_deadline_and_holds_nobody_up(
    samba: PrivateSamba, reader: Connection, watch: Watch
):
    waiting = asyncio.create_task(anext(watch))
    for _ in range(100):
        await reader.echo(timeout_s=PATIENCE_S)
    assert not waiting.done()
    (samba.folder / "www.pfx").touch()

    async with asyncio.timeout(PATIENCE_S):
        assert await waiting


async def test_a_cancelled_wait_is_taken_up_again(samba: PrivateSamba, watch: Watch):
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (samba.folder / "www.pfx").touch()

    assert await seen_until(watch, "www.pfx")


async def test_a_closed_watch_ends_its_iteration_and_closes_the_folder(
    samba: PrivateSamba, reader: Connection
):
    before = open_files(samba)
    watch = await reader.watch(timeout_s=PATIENCE_S)
    assert open_files(samba) == before + 1
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0)

    watch.close()

    assert await waiting is None
    assert [changes async for changes in watch] == []
    await reader.echo(timeout_s=PATIENCE_S)
    await reader.echo(timeout_s=PATIENCE_S)
    assert open_files(samba) == before


async def test_cancelled_beginnings_leave_no_folder_open(samba: PrivateSamba, reader: Connection):
    before = open_files(samba)
    for rounds in range(20):
        beginning = asyncio.create_task(reader.watch(timeout_s=PATIENCE_S))
        for _ in range(rounds):
            await asyncio.sleep(0)
        beginning.cancel()
        try:
            (await beginning).close()
        except asyncio.CancelledError:
            continue

    await reader.echo(timeout_s=PATIENCE_S)
    await reader.echo(timeout_s=PATIENCE_S)
    assert open_files(samba) == before


async def test_a_server_that_keeps_no_record_says_so(start_samba: Start, dial: Dial):
    samba = start_samba({"change notify": "no"})
    connection = await dial(samba)

    with pytest.raises(smb3.StatusError) as refused:
        await connection.watch(timeout_s=PATIENCE_S)

    assert refused.value.kind is Kind.UNSUPPORTED
    assert await connection.list_folder(timeout_s=PATIENCE_S) == []


async def test_a_missing_folder_cannot_be_watched(reader: Connection):
    with pytest.raises(smb3.StatusError) as refused:
        await reader.watch("absent", timeout_s=PATIENCE_S)
    assert refused.value.kind is Kind.ABSENT


async def test_a_watch_of_a_lost_connection_ends_with_that(
    samba: PrivateSamba, reader: Connection, watch: Watch
):
    del samba
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    reader.abort()

    with pytest.raises(smb3.ConnectionLost):
        await waiting
