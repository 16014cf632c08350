"""What only a folder has: links, special files, rights, writers, mounts."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import aclosing, contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from centcert.errors import (
    BlobTooLarge,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
)
from centcert.stores import Blob, Change, FolderStore, folder, posix
from centcert.stores.inotify import Inotify
from centcert.stores.posix import Directory, Unsettled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

KEY = "www.contoso.example.pfx"
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[FolderStore]:
    async with FolderStore(path) as store:
        yield store


async def data_of(store: FolderStore, key: str) -> bytes | None:
    blob = await store.fetch(key)
    return None if blob is None else blob.data


async def keys_of(store: FolderStore) -> set[str]:
    return {file.key for file in await store.list()}


# --- links --------------------------------------------------------------------


async def test_links_within_the_folder_are_followed(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    (path / "direct.pfx").symlink_to(KEY)
    (path / "twice.pfx").symlink_to("direct.pfx")
    (path / "around.pfx").symlink_to(f"../store/{KEY}")
    (path / "absolute.pfx").symlink_to(path / KEY)
    (path / "sub").mkdir()
    (path / "sub" / "deep.pfx").write_bytes(b"deep")
    (path / "deep.pfx").symlink_to("sub/deep.pfx")
    for key in ("direct.pfx", "twice.pfx", "around.pfx", "absolute.pfx"):
        assert await data_of(store, key) == b"here"
    assert await data_of(store, "deep.pfx") == b"deep"
    files = {file.key: file for file in await store.list()}
    assert len(files) == 6
    for key, file in files.items():
        blob = await store.fetch(key)
        assert blob is not None
        assert blob.version == file.version


async def test_links_out_of_the_folder_are_denied(store: FolderStore, path: Path):
    secret = path.parent / "secret.pfx"
    secret.write_bytes(b"secret")
    beside = path.parent / "store-beside"  # its path begins as the store's does
    beside.mkdir()
    (beside / "x.pfx").write_bytes(b"secret")
    (path / "up.pfx").symlink_to("../secret.pfx")
    (path / "absolute.pfx").symlink_to(secret)
    (path / "hop.pfx").symlink_to("up.pfx")
    (path / "beside.pfx").symlink_to("../store-beside/x.pfx")
    (path / "sub").symlink_to("..")
    (path / "through.pfx").symlink_to("sub/secret.pfx")
    for key in ("up.pfx", "absolute.pfx", "hop.pfx", "beside.pfx", "through.pfx"):
        with pytest.raises(StoreDenied, match=rf"{key} in .* leads out of the store's folder"):
            await store.fetch(key)
    assert await store.list() == []


async def test_links_to_nothing_and_to_folders_are_absent(store: FolderStore, path: Path):
    (path / "nothing.pfx").symlink_to("not-here")
    (path / "loop.pfx").symlink_to("loop.pfx")
    (path / "sub").mkdir()
    (path / "folder.pfx").symlink_to("sub")
    (path / KEY).write_bytes(b"here")
    (path / "under-a-file.pfx").symlink_to(f"{KEY}/x")
    for key in ("nothing.pfx", "loop.pfx", "folder.pfx", "under-a-file.pfx"):
        assert await store.fetch(key) is None
    assert await keys_of(store) == {KEY}


async def test_no_race_leads_out_of_the_folder(path: Path):
    """A link is swapped for a file and back, as fast as can be, while it is fetched."""
    (path.parent / "secret.pfx").write_bytes(b"secret")
    (path / "good").write_bytes(b"good")
    (path / KEY).write_bytes(b"good")
    done = threading.Event()

    def swap() -> None:
        link, hard = path.parent / "link", path.parent / "hard"
        while not done.is_set():
            link.symlink_to("../secret.pfx")
            link.replace(path / KEY)
            hard.hardlink_to(path / "good")
            hard.replace(path / KEY)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        directory = Directory(str(path))
        outcomes: set[object] = set()
        for _ in range(3000):
            try:
                blob = await asyncio.to_thread(directory.read, KEY)
                outcomes.add(None if blob is None else blob.data)
            except (StoreDenied, Unsettled) as refusal:
                outcomes.add(type(refusal))
    finally:
        done.set()
        swapper.join()
    assert outcomes <= {b"good", StoreDenied, Unsettled}
    assert StoreDenied in outcomes


async def test_a_link_moved_away_while_being_opened_is_no_offence(
    store: FolderStore, path: Path, monkeypatch: pytest.MonkeyPatch
):
    (path / "real.pfx").write_bytes(b"here")
    (path / KEY).symlink_to("real.pfx")
    real_path = posix._real_path

    def move_first(descriptor: int) -> str:
        with suppress(FileNotFoundError):
            (path / KEY).unlink()
            (path / "real.pfx").rename(path.parent / "archived.pfx")
        return real_path(descriptor)

    monkeypatch.setattr(posix, "_real_path", move_first)
    assert await store.fetch(KEY) is None


async def test_a_file_that_becomes_a_link_while_being_opened_leads_nowhere_else(
    store: FolderStore, path: Path, monkeypatch: pytest.MonkeyPatch
):
    (path / KEY).write_bytes(b"here")
    (path.parent / "secret.pfx").write_bytes(b"not ours")
    read_settled = posix._read_settled

    def swap_first(found: int, key: str, now_ns: int) -> Blob:
        (path / KEY).unlink()
        (path / KEY).symlink_to(path.parent / "secret.pfx")
        monkeypatch.undo()
        return read_settled(found, key, now_ns)

    monkeypatch.setattr(posix, "_read_settled", swap_first)
    with pytest.raises(StoreDenied, match="leads out of the store's folder"):
        await store.fetch(KEY)  # it has just changed, so it is read again


# --- special files ------------------------------------------------------------


async def test_special_files_are_absent_and_never_waited_for(store: FolderStore, path: Path):
    os.mkfifo(path / "fifo.pfx")
    (path / "null.pfx").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "socket.pfx"))
        for key in ("fifo.pfx", "null.pfx", "socket.pfx"):
            assert await store.fetch(key) is None
        assert await store.list() == []


async def test_names_that_are_not_utf8_are_no_keys(store: FolderStore, path: Path):
    (path / os.fsdecode(b"\xff.pfx")).write_bytes(b"here")
    assert await store.list() == []
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / os.fsdecode(b"\xff.pfx")).write_bytes(b"here")
        (path / KEY).write_bytes(b"here")
        assert await anext(changes) == Change(KEY)


# --- the folder itself --------------------------------------------------------


@pytest.mark.parametrize("walk", ["scan", "arm"])
def test_a_walk_through_a_large_folder_leaves_time_for_handshakes(
    path: Path, monkeypatch: pytest.MonkeyPatch, walk: str
):
    """Guards: a listing of a million files held up every handshake for some milliseconds."""
    for number in range(25):
        (path / f"{number}.pfx").touch()
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(posix, "_STATS", 10)
    monkeypatch.setattr(posix, "_GLANCES", 5)
    if walk == "scan":
        assert [len(batch) for batch in Directory(str(path)).scan()] == [25]
        assert len(pauses) == 2
    else:
        with Inotify() as inotify:
            Directory(str(path)).arm(inotify)
        assert len(pauses) == 5


async def test_a_folder_that_is_gone_is_no_absence(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    path.rename(path.with_name("away"))
    for call in (store.fetch(KEY), store.fetch("absent.pfx"), store.list()):
        with pytest.raises(StoreUnavailable, match=f"There is no folder {path}") as caught:
            await call
        assert caught.value.retryable
    path.with_name("away").rename(path)
    assert await data_of(store, KEY) == b"here"


async def test_a_folder_removed_in_the_middle_of_a_fetch(path: Path):
    directory = Directory(str(path))
    with directory._open() as descriptor:
        path.rmdir()
        with pytest.raises(StoreUnavailable), directory._find(descriptor, KEY):
            pass


async def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    async with FolderStore(tmp_path / "file") as store:
        with pytest.raises(StoreUnavailable, match="is no folder"):
            await store.fetch(KEY)


async def test_the_empty_folder_under_a_lost_mount_is_no_absence(path: Path):
    """/proc is a mount point everywhere; the link is swapped as an unmount would."""
    link = path.parent / "mount"
    link.symlink_to("/proc")
    async with FolderStore(link) as store:
        assert await store.fetch(KEY) is None
        link.unlink()
        link.symlink_to(path)
        with pytest.raises(StoreUnavailable, match=f"Nothing is mounted at {link}"):
            await store.fetch(KEY)
        with pytest.raises(StoreUnavailable, match="Nothing is mounted"):
            await store.list()


async def test_a_relative_path_is_that_of_the_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(path.parent)
    (path / KEY).write_bytes(b"here")
    async with FolderStore("store") as store:
        monkeypatch.chdir("/")
        assert store.url == str(path)
        assert await data_of(store, KEY) == b"here"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.EHOSTDOWN, StoreUnavailable),
        (errno.ETIMEDOUT, StoreUnavailable),
        (errno.ENOTCONN, StoreUnavailable),
        (errno.EMFILE, StoreBusy),
        (errno.EACCES, StoreDenied),
    ],
)
@pytest.mark.parametrize("step", ["folder", "file", "read"])
async def test_faults_of_the_file_system(
    store: FolderStore,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    expected: type[StoreError],
):
    (path / KEY).write_bytes(b"here")
    really_open = os.open

    def fail(*_args: object, **_keywords: object) -> int:
        raise OSError(number, os.strerror(number))

    def fail_file(name: str | bytes, *args: int, dir_fd: int | None = None) -> int:
        return fail() if dir_fd is not None else really_open(name, *args)

    target, name, fault = {
        "folder": (os, "open", fail),
        "file": (os, "open", fail_file),
        "read": (os, "read", fail),
    }[step]
    monkeypatch.setattr(folder, "RETRIES_S", (0, 0))
    monkeypatch.setattr(target, name, fault)
    with pytest.raises(expected) as caught:
        await store.fetch(KEY)
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, StoreDenied) == (expected is StoreDenied)
    assert not isinstance(caught.value, StoreInsecure | BlobTooLarge)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.ETXTBSY, errno.ESTALE])
async def test_a_file_that_is_in_use_is_tried_again(
    store: FolderStore, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    (path / KEY).write_bytes(b"here")
    tries: list[int] = []
    really_read = os.read

    def locked_twice(descriptor: int, most: int) -> bytes:
        if len(tries) < 2:
            tries.append(most)
            raise OSError(number, os.strerror(number))
        return really_read(descriptor, most)

    monkeypatch.setattr(folder, "RETRIES_S", (0.05, 0.05, 0.05))
    monkeypatch.setattr(os, "read", locked_twice)
    assert await data_of(store, KEY) == b"here"
    tries[:] = []
    monkeypatch.setattr(folder, "RETRIES_S", (0,))
    with pytest.raises(StoreBusy, match="still being written"):
        await store.fetch(KEY)


# --- rights -------------------------------------------------------------------


@contextmanager
def as_nobody() -> Iterator[None]:
    """Let this thread alone open files as nobody does: root is never denied. setfsuid(2)."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0:
        libc.setfsuid(NOBODY)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid())


@pytest.fixture
async def nobodys(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FolderStore]:
    """A store whose threads have no more rights than anybody."""
    for parent in (*path.parents[:-1], path):
        if parent.is_relative_to(path.parents[2]):  # pytest's own folders are root's alone
            parent.chmod(0o755)

    def demoted(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with as_nobody():
                return call()

        return run

    async with FolderStore(path) as store:
        run = store._threads.run
        monkeypatch.setattr(
            store._threads, "run", lambda call, deadline: run(demoted(call), deadline=deadline)
        )
        yield store


async def test_a_file_that_may_not_be_read(nobodys: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    (path / KEY).chmod(0o000)
    (path / "open.pfx").write_bytes(b"open")
    with pytest.raises(StoreDenied, match=f"{KEY} in {path} may not be read by this account"):
        await nobodys.fetch(KEY)
    assert await data_of(nobodys, "open.pfx") == b"open"
    (path / KEY).chmod(0o644)
    assert await data_of(nobodys, KEY) == b"here"


async def test_a_folder_that_may_not_be_entered(nobodys: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    path.chmod(0o600)
    try:
        for call in (nobodys.fetch(KEY), nobodys.fetch("absent.pfx")):
            with pytest.raises(StoreDenied, match="may not be read by this account"):
                await call
        with pytest.raises(StoreDenied, match="may not be listed by this account"):
            await nobodys.list()
    finally:
        path.chmod(0o755)


async def test_a_folder_that_may_be_entered_but_not_listed(nobodys: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    path.chmod(0o311)
    assert await data_of(nobodys, KEY) == b"here"
    calls: list[Callable[[], Awaitable[object]]] = [nobodys.list, lambda: anext(nobodys.watch())]
    for call in calls:
        with pytest.raises(StoreDenied) as refused:
            await call()
        assert str(refused.value) == (
            f"{path} may not be listed by this account: grant it the right to read the folder."
            " Until then changes are not seen, and made-up names can crowd out the first visits of"
            " real ones."
        )


async def test_rights_that_change_are_a_change(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / KEY).chmod(0o600)
        assert await anext(changes) == Change(KEY)
        path.chmod(0o700)
        assert await anext(changes) == Change(None)


# --- writers ------------------------------------------------------------------

WRITER = """
    import itertools, os, random, sys, time
    path, way = sys.argv[1:]
    target = path + ".new" if way == "rename" else path
    random.seed(1)
    print("ready", flush=True)
    for number in itertools.count(1):
        lines = random.randrange(1, 15_000)
        data = b"%08d %06d\\n" % (number, lines) * lines
        with open(target, "wb", buffering=0) as file:
            middle = random.randrange(len(data))
            file.write(data[:middle])
            time.sleep(random.choice([0, 0, 0.001, 0.02]))
            file.write(data[middle:])
        if way == "rename":
            os.replace(target, path)
        if number % 20 == 0:
            time.sleep(random.choice([0, 0.06, 0.1]))
"""


@pytest.mark.parametrize("way", ["in place", "rename"])
async def test_a_blob_is_never_a_mixture(path: Path, way: str):
    """2,000 reads of a file that another process rewrites without pause, or nearly."""
    (path / KEY).write_bytes(b"00000000 000001\n")
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path / KEY), way]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    versions: dict[str, bytes] = {}
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        async with FolderStore(path, timeout_s=60) as store:  # 400 at once take their time
            for _ in range(5):
                reads = (store.fetch(KEY) for _ in range(400))
                for answer in await asyncio.gather(*reads, return_exceptions=True):
                    if not isinstance(answer, StoreBusy):
                        assert isinstance(answer, Blob)
                        assert versions.setdefault(answer.version, answer.data) == answer.data
    finally:
        writer.kill()
        writer.communicate()
    assert len(versions) > 1
    for data in versions.values():
        lines = data.split(b"\n")
        last = lines.pop()
        assert len({*lines}) <= 1
        if way == "rename":
            assert len(lines) == int(lines[0][9:])
            assert last == b""
        # A writer in place that stalls leaves a half file, but never one of two halves.
        assert not lines or lines[0].startswith(last)


async def test_a_file_that_grows_while_being_read_is_read_again(
    store: FolderStore, path: Path, monkeypatch: pytest.MonkeyPatch
):
    (path / KEY).write_bytes(b"first")
    await asyncio.sleep(0.1)  # beyond the age below which a file is read again anyway
    really_read = os.read
    reads: list[bytes] = []

    def grow_once(descriptor: int, most: int) -> bytes:
        data = really_read(descriptor, most)
        if not reads:
            (path / KEY).write_bytes(b"FIRST")  # of one size
        reads.append(data)
        return data

    monkeypatch.setattr(os, "read", grow_once)
    assert await data_of(store, KEY) == b"FIRST"


@pytest.mark.parametrize(
    ("age_ms", "settled"), [(0, False), (39, False), (41, True), (-1, True), (-60_000, True)]
)
def test_a_file_changed_a_moment_ago_is_not_yet_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, age_ms: int, *, settled: bool
):
    """Kernels before 6.13 stamp two writes within one tick alike; a server's clock may be ahead."""
    (path / KEY).write_bytes(b"here")
    now_ns = (path / KEY).stat().st_ctime_ns + age_ms * 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    directory = Directory(str(path))
    if settled:
        assert directory.read(KEY) is not None
    else:
        with pytest.raises(Unsettled):
            directory.read(KEY)


def test_fewer_bytes_than_the_file_has_are_no_blob(path: Path, monkeypatch: pytest.MonkeyPatch):
    (path / KEY).write_bytes(b"here")
    now_ns = (path / KEY).stat().st_ctime_ns + 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    pieces = [b"he", b""]
    monkeypatch.setattr(os, "read", lambda *_: pieces.pop(0))
    with pytest.raises(Unsettled):
        Directory(str(path)).read(KEY)


async def test_a_rewrite_that_hides_its_time_is_seen(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"one")
    times = (path / KEY).stat()
    first = await store.fetch(KEY)
    (path / KEY).write_bytes(b"two")
    os.utime(path / KEY, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = await store.fetch(KEY)
    assert first is not None
    assert second is not None
    assert first.version != second.version


@pytest.mark.parametrize("fact", ["st_mtime_ns", "st_ctime_ns", "st_size", "st_ino"])
def test_each_fact_of_a_file_is_in_its_version(fact: str):
    facts = {"st_mtime_ns": 1, "st_ctime_ns": 2, "st_size": 3, "st_ino": 4}
    before = SimpleNamespace(**facts)
    after = SimpleNamespace(**{**facts, fact: 5})
    assert posix._version(before) != posix._version(after)  # type: ignore[arg-type]


# --- threads ------------------------------------------------------------------


async def test_a_hanging_mount_harms_nobody(path: Path, monkeypatch: pytest.MonkeyPatch):
    (path / KEY).write_bytes(b"here")
    monkeypatch.setattr(folder, "MAX_THREADS", 3)
    hanging = threading.Event()
    really_read = Directory.read

    def hang(self: Directory, key: str) -> object:
        if key.startswith("hang"):
            hanging.wait(30)
        return really_read(self, key)

    monkeypatch.setattr(Directory, "read", hang)
    async with FolderStore(path) as store:
        for number in range(3):
            store._timeout_s = 20.0
            assert await data_of(store, KEY) == b"here"
            store._timeout_s = 0.1
            with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.1 seconds"):
                await store.fetch(f"hang-{number}.pfx")
        store._timeout_s = 20.0
        with pytest.raises(StoreBusy, match="enough calls wait"):
            await store.fetch(KEY)
        hanging.set()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await data_of(store, KEY) == b"here"
                    break
                except StoreBusy:
                    await asyncio.sleep(0.01)


async def test_who_leaves_a_listing_leaves_nothing_open(store: FolderStore, path: Path):
    for number in range(2_000):
        (path / f"{number}.pfx").touch()
    await store.list()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for turns in range(20):
        async with aclosing(store.scan()) as batches:
            await anext(batches)
            asking = asyncio.ensure_future(anext(batches))
            for _ in range(turns % 3):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    await store.list()  # by then every thread has done with what was left to it
    async with asyncio.timeout(20):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: PTH208
            await asyncio.sleep(0.01)


async def test_the_loop_runs_on_while_many_files_are_listed(store: FolderStore, path: Path):
    for number in range(5_000):
        (path / f"{number}.pfx").touch()
    listing = asyncio.ensure_future(store.list())
    turns = 0
    while not listing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(await listing) == 5_000
    assert turns > 5


# --- watch --------------------------------------------------------------------


async def test_links_are_reported_with_what_they_lead_to(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"one")
    (path / "alias.pfx").symlink_to(KEY)
    (path / "second.pfx").symlink_to("alias.pfx")
    (path / "other.pfx").symlink_to("elsewhere.pfx")
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / KEY).write_bytes(b"two")
        keys = {(await anext(changes)).key for _ in range(3)}
        assert keys == {KEY, "alias.pfx", "second.pfx"}


async def test_a_link_made_during_the_watch_is_followed_too(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"one")
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / "alias.pfx").symlink_to(KEY)
        assert await anext(changes) == Change("alias.pfx")
        (path / KEY).write_bytes(b"two")
        assert {(await anext(changes)).key for _ in range(2)} == {KEY, "alias.pfx"}
        (path / "alias.pfx").unlink()
        assert await anext(changes) == Change("alias.pfx")
        (path / KEY).write_bytes(b"three")
        assert await anext(changes) == Change(KEY)
        (path / KEY).write_bytes(b"four")
        assert await anext(changes) == Change(KEY)


async def test_kubernetes_swaps_all_files_at_once(store: FolderStore, path: Path):
    for version in ("..1", "..2"):
        (path / version).mkdir()
        (path / version / KEY).write_bytes(version.encode())
    (path / "..data").symlink_to("..1")
    (path / KEY).symlink_to(f"..data/{KEY}")
    assert await data_of(store, KEY) == b"..1"
    assert await keys_of(store) == {KEY}
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / "..data_tmp").symlink_to("..2")
        (path / "..data_tmp").rename(path / "..data")
        assert await anext(changes) == Change(None)
        assert await data_of(store, KEY) == b"..2"


async def test_lost_notifications_are_owned_up_to(store: FolderStore, path: Path):
    with open("/proc/sys/fs/inotify/max_queued_events") as file:  # noqa: PTH123
        bound = int(file.read())
    one, other = path / "one.pfx", path / "other.pfx"
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        one.touch()
        for _ in range(bound // 2 + 10):  # nobody reads meanwhile: this test holds the loop
            one.rename(other)
            other.rename(one)
        async with asyncio.timeout(30):
            while (await anext(changes)).key is not None:
                pass
        other.touch()
        assert await anext(changes) == Change("other.pfx")


async def test_a_replaced_folder_is_watched_anew(store: FolderStore, path: Path):
    new = path.with_name("new")
    new.mkdir()
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        path.rename(path.with_name("old"))
        new.rename(path)
        assert await anext(changes) == Change(None)
        (path / KEY).touch()
        assert await anext(changes) == Change(KEY)


async def test_a_path_that_leads_elsewhere_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch):
    """As when the store is mounted late, over the folder that is watched."""
    monkeypatch.setattr(folder, "RECHECK_S", 0.01)
    other, link = path.with_name("other"), path.with_name("link")
    other.mkdir()
    link.symlink_to(path)
    async with FolderStore(link) as store, aclosing(store.watch()) as changes:
        await anext(changes)
        link.unlink()
        link.symlink_to(other)
        assert await anext(changes) == Change(None)
        (other / KEY).touch()
        assert await anext(changes) == Change(KEY)


async def test_the_watch_of_a_lost_folder_ends(store: FolderStore, path: Path):
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        path.rmdir()
        with pytest.raises(StoreUnavailable, match="There is no folder"):
            await anext(changes)
    with pytest.raises(StoreUnavailable, match="There is no folder"):
        await anext(store.watch())


async def test_a_limit_of_the_system_is_named(store: FolderStore, monkeypatch: pytest.MonkeyPatch):
    def none_left() -> None:
        raise OSError(errno.EMFILE, "raise fs.inotify.max_user_instances")

    monkeypatch.setattr(folder, "Inotify", none_left)
    with pytest.raises(StoreBusy, match="max_user_instances"):
        await anext(store.watch())


async def test_watches_leave_no_descriptor_open(store: FolderStore, path: Path):
    (path / KEY).write_bytes(b"here")
    await store.fetch(KEY)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        async with aclosing(store.watch()) as changes:
            await anext(changes)
        waiting = asyncio.ensure_future(anext(store.watch()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await store.fetch(KEY)
    await store.list()
    async with asyncio.timeout(20):  # a thread may still be closing what was cancelled
        while len(os.listdir("/proc/self/fd")) != before:  # noqa: PTH208
            await asyncio.sleep(0.01)


async def test_a_watcher_that_is_busy_elsewhere_does_not_keep_the_loop_busy(
    store: FolderStore, path: Path, monkeypatch: pytest.MonkeyPatch
):
    inotify = Inotify()
    monkeypatch.setattr(folder, "Inotify", lambda: inotify)
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        (path / KEY).touch()
        await anext(changes)
        (path / "unread.pfx").touch()
        assert not asyncio.get_running_loop().remove_reader(inotify.fileno())


async def test_a_watch_ends_as_soon_as_the_store_is_closed(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder, "RECHECK_S", 3_600)
    watch = store.watch()
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable, match="was closed"):
            await waiting
