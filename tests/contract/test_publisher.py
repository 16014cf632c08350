"""The contract of ``centcert.stores.publishing.Publisher``, for a folder and for a share."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from centcert.demo.samba import PrivateSamba
from centcert.errors import SettingsError, StoreBusy, StoreDenied, StoreUnavailable
from centcert.stores import MAX_BLOB_BYTES, Account, Publisher, open_publisher

KEY = "www.contoso.example.pfx"
OTHER = "mail.contoso.example.pfx"


@asynccontextmanager
async def folder(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Publisher, Path]]:
    path: Path = request.getfixturevalue("tmp_path") / "store"
    path.mkdir()
    async with open_publisher(str(path)) as publisher:
        yield publisher, path


@asynccontextmanager
async def smb(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Publisher, Path]]:
    samba: PrivateSamba = request.getfixturevalue("samba")
    path = samba.folder / secrets.token_hex(4)
    path.mkdir()
    path.chmod(0o777)
    account = Account(samba.username, samba.password.encode)
    url = f"smb://{samba.host}:{samba.port}/{samba.publish_share}/{path.name}"
    async with open_publisher(url, account=account) as publisher:
        yield publisher, path


Place = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[tuple[Publisher, Path]]]
PLACES: dict[str, Place] = {"folder": folder, "smb": smb}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Publisher, Path]]:
    async with PLACES[request.param](request) as place:
        yield place


async def test_a_file_is_made_moved_and_deleted(place: tuple[Publisher, Path]):
    publisher, path = place
    assert await publisher.make(OTHER, b"here")
    assert (path / OTHER).read_bytes() == b"here"
    await publisher.move(OTHER, KEY)
    assert [file.name for file in path.iterdir()] == [KEY]
    assert (path / KEY).read_bytes() == b"here"
    assert await publisher.delete(KEY)
    assert not await publisher.delete(KEY)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 70_000, MAX_BLOB_BYTES])
async def test_every_byte_is_there(place: tuple[Publisher, Path], size: int):
    publisher, path = place
    data = secrets.token_bytes(size)
    assert await publisher.make(KEY, data)
    assert (path / KEY).read_bytes() == data


async def test_what_is_there_is_not_made_anew(place: tuple[Publisher, Path]):
    publisher, path = place
    (path / KEY).write_bytes(b"old")
    assert not await publisher.make(KEY, b"new")
    assert (path / KEY).read_bytes() == b"old"


async def test_a_move_replaces(place: tuple[Publisher, Path]):
    publisher, path = place
    (path / KEY).write_bytes(b"old")
    await publisher.make("new", b"new")
    await publisher.move("new", KEY)
    assert [file.name for file in path.iterdir()] == [KEY]
    assert (path / KEY).read_bytes() == b"new"


async def test_a_move_replaces_what_is_being_read(place: tuple[Publisher, Path]):
    publisher, path = place
    (path / KEY).write_bytes(b"old")
    await publisher.make("new", b"new")
    with (path / KEY).open("rb") as reader:
        await publisher.move("new", KEY)
        assert reader.read() == b"old"


async def test_what_is_not_there_cannot_be_moved(place: tuple[Publisher, Path]):
    publisher, path = place
    (path / KEY).write_bytes(b"old")
    with pytest.raises(StoreUnavailable):
        await publisher.move(OTHER, KEY)
    assert (path / KEY).read_bytes() == b"old"


@pytest.mark.parametrize("key", ["_.contoso.example.pfx", "bücher.example.pfx", "a b.pfx", ".a"])
async def test_unusual_keys(place: tuple[Publisher, Path], key: str):
    publisher, path = place
    await publisher.make("new", b"here")
    await publisher.move("new", key)
    assert [file.name for file in path.iterdir()] == [key]


@pytest.mark.parametrize("key", ["", ".", "..", "../x.pfx", "sub/x.pfx", "/x.pfx", "x\0"])
async def test_no_key_leads_elsewhere(place: tuple[Publisher, Path], key: str):
    publisher, path = place
    (path / "sub").mkdir()
    await publisher.make(KEY, b"here")
    with pytest.raises(ValueError, match="is no bare file name"):
        await publisher.make(key, b"")
    with pytest.raises(ValueError, match="is no bare file name"):
        await publisher.move(KEY, key)
    with pytest.raises(ValueError, match="is no bare file name"):
        await publisher.move(key, KEY)
    with pytest.raises(ValueError, match="is no bare file name"):
        await publisher.delete(key)
    assert sorted(file.name for file in path.rglob("*")) == ["sub", KEY]


async def test_a_key_too_long_is_one_sentence(place: tuple[Publisher, Path]):
    publisher, path = place
    await publisher.make(KEY, b"here")
    for key in ("x" * 256, "é" * 200, "x" * 70_000):
        with pytest.raises(StoreUnavailable, match="cannot hold a file called"):
            await publisher.move(KEY, key)
    assert [file.name for file in path.iterdir()] == [KEY]


async def test_one_of_many_makes_a_file(request: pytest.FixtureRequest):
    async with folder(request) as (one, path), open_publisher(str(path)) as other:
        made = await asyncio.gather(one.make(KEY, b"one"), other.make(KEY, b"other"))
    assert sorted(made) == [False, True]
    assert (path / KEY).read_bytes() == (b"one" if made[0] else b"other")


# --- one kind each ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"),
    [(0o755, 0o644), (0o750, 0o640), (0o2775, 0o644), (0o711, 0o600), (0o700, 0o600)],
)
async def test_who_may_read_the_folder_may_read_the_file(
    tmp_path: Path, folder_mode: int, file_mode: int
):
    tmp_path.chmod(folder_mode)
    async with open_publisher(str(tmp_path)) as publisher:
        await publisher.make(KEY, b"here")
    assert (tmp_path / KEY).stat().st_mode & 0o777 == file_mode


async def test_a_folder_that_is_not_there(tmp_path: Path):
    async with open_publisher(str(tmp_path / "none")) as publisher:
        with pytest.raises(StoreUnavailable, match="is not there"):
            await publisher.make(KEY, b"here")
    async with open_publisher(str(tmp_path / "none")) as publisher:
        with pytest.raises(StoreUnavailable, match="is not there"):
            await publisher.delete(KEY)


async def test_a_share_to_read_is_not_written(samba: PrivateSamba):
    account = Account(samba.username, samba.password.encode)
    url = f"smb://{samba.host}:{samba.port}/{samba.share}"
    async with open_publisher(url, account=account) as publisher:
        with pytest.raises(StoreDenied) as denied:
            await publisher.make(KEY, b"here")
    assert str(denied.value) == (
        f"The account {samba.username} may not write {KEY} into the share certs on"
        f" 127.0.0.1:{samba.port}: name one that may by --username."
    )
    assert not (samba.folder / KEY).exists()


async def test_a_broken_connection_is_made_anew_for_the_next_step(
    request: pytest.FixtureRequest, samba: PrivateSamba
):
    async with smb(request) as (publisher, path):
        await publisher.make(KEY, b"here")
        samba.kill_connections()
        with suppress(StoreUnavailable):  # unless its end was noticed before
            await publisher.make("unlucky", b"here")
        assert await publisher.make(OTHER, b"here")
        assert (path / OTHER).read_bytes() == b"here"


async def test_which_of_several_servers_is_not_guessed():
    account = Account("a", b"b".decode)  # type: ignore[arg-type]  # never read
    with pytest.raises(SettingsError, match=r"such as --store smb://one/certs"):
        open_publisher("smb://one,two/certs", account=account)


SMBD_ON_A_FULL_DISK = """#!/bin/sh
trap "" XFSZ
ulimit -f 4000
PATH=${PATH#*:} exec smbd "$@"
"""  # no file grows beyond 2 MB


async def test_a_share_that_is_full():
    root = Path(tempfile.mkdtemp(prefix="smb"))
    (root / "bin").mkdir()
    (root / "bin" / "smbd").touch(mode=0o755)
    (root / "bin" / "smbd").write_text(SMBD_ON_A_FULL_DISK)
    path = f"{root}/bin:{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    try:
        with PrivateSamba(root, environment={"PATH": path}) as samba:
            url = f"smb://{samba.host}:{samba.port}/{samba.publish_share}"
            account = Account(samba.username, samba.password.encode)
            async with open_publisher(url, account=account) as publisher:
                assert await publisher.make(OTHER, b"here")
                with pytest.raises(StoreBusy) as full:
                    await publisher.make(KEY, bytes(3_000_000))
            assert str(full.value) == (
                f"The share publish on 127.0.0.1:{samba.port} has no room left for {KEY}: make"
                " some."
            )
            assert [file.name for file in samba.folder.iterdir()] == [OTHER]
    finally:
        shutil.rmtree(root)
