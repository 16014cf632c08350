"""The SMB store against real servers: what it reads, what it refuses, what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import signal
import tempfile
import threading
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import smbclient  # type: ignore[import-untyped]

from centcert import smb3
from centcert.demo.samba import PrivateSamba
from centcert.errors import (
    SettingsError,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
    StoreUnwatchable,
)
from centcert.stores import Account, Change
from centcert.stores.events import SmbStep, Weakness, WeaknessGone
from centcert.stores.smb import Address, Location, SmbStore, Timing
from tests.interop.smb.proxy import proxy_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from centcert.stores.events import Event
    from tests.interop.smb.conftest import Start
    from tests.interop.smb.proxy import Proxy

KEY = "www.contoso.example.pfx"
OTHER = "mail.contoso.example.pfx"

PATIENT = Timing(fetch_s=30, try_s=20, connect_s=20)
"""For tests that are not about deadlines: the machine may be busy."""

PATIENCE_S = 20.0


class Open(Protocol):
    """Opens a store on one or several servers; it is closed when the test ends."""

    def __call__(
        self,
        *sambas: PrivateSamba,
        share: str = PrivateSamba.share,
        folder: str = "",
        ports: tuple[int, ...] = (),
        password: Callable[[], bytes] | None = None,
        timing: Timing = PATIENT,
        account_rest_s: tuple[float, float] = (60.0, 60.0),
        listener: Callable[[Event], None] | None = None,
    ) -> SmbStore: ...


@pytest.fixture
async def open_on() -> AsyncIterator[Open]:
    stores: list[SmbStore] = []

    def open_on(
        *sambas: PrivateSamba,
        share: str = PrivateSamba.share,
        folder: str = "",
        ports: tuple[int, ...] = (),
        password: Callable[[], bytes] | None = None,
        timing: Timing = PATIENT,
        account_rest_s: tuple[float, float] = (60.0, 60.0),
        listener: Callable[[Event], None] | None = None,
    ) -> SmbStore:
        ports = ports or tuple(samba.port for samba in sambas)
        servers = tuple(Address(sambas[0].host, port) for port in ports)
        account = Account(sambas[0].username, password or sambas[0].password.encode)
        location = Location(servers, share, folder)
        store = SmbStore(
            location, account, timing=timing, account_rest_s=account_rest_s, listener=listener
        )
        stores.append(store)
        return store

    yield open_on
    for store in stores:
        await store.close()


@pytest.fixture
def pair() -> Iterator[tuple[PrivateSamba, PrivateSamba]]:
    """Two servers with the same account and the same file, but for its content."""
    with contextlib.ExitStack() as stack:
        sambas: list[PrivateSamba] = []
        for content in (b"first", b"second"):
            root = Path(tempfile.mkdtemp(prefix="smb"))
            stack.callback(shutil.rmtree, root)
            password = sambas[0].password if sambas else None
            samba = stack.enter_context(PrivateSamba(root, password=password))
            (samba.folder / KEY).write_bytes(content)
            sambas.append(samba)
        yield sambas[0], sambas[1]


async def data_of(store: SmbStore, key: str = KEY) -> bytes | None:
    blob = await store.fetch(key)
    return None if blob is None else blob.data


async def until_fetched(store: SmbStore, expected: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(StoreError):
                if await data_of(store) == expected:
                    return
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def until_idle(store: SmbStore) -> None:
    """Wait until the store does nothing behind its callers any more."""
    keepers = {server._keeper for server in store._servers}
    await until(lambda: not store._errands._tasks - keepers)


async def until_told(changes: AsyncGenerator[Change, None], file: Path) -> None:
    """Write to ``file`` until the watch tells of it: Samba begins to look a little late."""
    step = asyncio.ensure_future(anext(changes))
    async with asyncio.timeout(PATIENCE_S):
        for number in itertools.count():
            file.write_bytes(b"%d" % number)
            await asyncio.wait((step,), timeout=0.1)
            if step.done():
                if step.result().key == file.name:
                    return
                step = asyncio.ensure_future(anext(changes))


def proofs_in(proxy: Proxy) -> int:
    """How often the account was shown to the server."""
    return sum(not from_server and b"NTLMSSP\0\3" in frame for from_server, frame in proxy.seen)


# --- a server that fails ------------------------------------------------------------


async def test_a_killed_connection_is_made_anew_within_the_call(start_samba: Start, open_on: Open):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    store = open_on(samba)
    for _ in range(3):
        assert await data_of(store) == b"here"
        assert len(await store.list()) == 1
        await until_idle(store)
        samba.kill_connections()


async def test_many_readers_survive_a_killed_connection(start_samba: Start, open_on: Open):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    store = open_on(samba)
    await data_of(store)
    await until_idle(store)
    calls = [asyncio.ensure_future(data_of(store)) for _ in range(200)]
    await asyncio.sleep(0)
    samba.kill_connections()
    assert set(await asyncio.gather(*calls)) == {b"here"}


async def test_a_server_that_is_gone_is_said_so_and_left_alone_until_it_is_back(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    store = open_on(samba)
    await data_of(store)
    samba.stop()
    for call in (store.fetch(KEY), store.list()):
        with pytest.raises(StoreUnavailable) as caught:
            await call
        for fact in (f"127.0.0.1:{samba.port}", samba.share, samba.username):
            assert fact in str(caught.value)
    with pytest.raises(StoreUnavailable, match="tried again in"):
        await store.fetch(KEY)
    samba.start()
    await until_fetched(store, b"here")


async def test_a_frozen_server_is_given_up_at_the_deadline(start_samba: Start, open_on: Open):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    store = open_on(samba, timing=Timing(fetch_s=60, try_s=0.5, connect_s=20))
    await until_fetched(store, b"here")
    samba.freeze()
    try:
        calls = [store.fetch(KEY) for _ in range(20)]
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
        with pytest.raises(StoreUnavailable, match="tried again in"):
            await store.fetch(KEY)
    finally:
        samba.thaw()
    await until_fetched(store, b"here")


async def test_a_server_that_froze_before_the_first_visit_costs_no_more_than_a_fetch_may(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    store = open_on(samba, timing=Timing(fetch_s=0.3, connect_s=60))
    samba.freeze()
    try:
        with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
            await store.fetch(KEY)
    finally:
        samba.thaw()


async def test_a_frozen_server_is_noticed_by_its_silence(start_samba: Start, open_on: Open):
    samba = start_samba()
    timing = Timing(try_s=0.5, connect_s=20, echo_after_s=0.2)
    store = open_on(samba, timing=timing)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        samba.freeze()
        try:
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(StoreUnavailable):
                    await anext(changes)
        finally:
            samba.thaw()


async def test_a_server_that_takes_no_more_connections_is_read_from_and_not_pressed(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    store = open_on(samba, timing=Timing(fetch_s=30, try_s=20, connect_s=1))
    await until_fetched(store, b"here")
    await until_idle(store)
    await store._servers[0]._control.close()
    assert samba._process is not None
    samba._process.send_signal(signal.SIGSTOP)  # the parent: its children live on
    try:
        with pytest.raises(StoreUnavailable, match="not ready within"):
            await store.list()
        with pytest.raises(StoreUnavailable, match="tried again in"):
            await store.list()
        assert await data_of(store) == b"here"
    finally:
        samba._process.send_signal(signal.SIGCONT)


async def test_an_old_connection_is_replaced_and_nobody_notices(start_samba: Start, open_on: Open):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")
    opened: Counter[str] = Counter()

    def listener(event: Event) -> None:
        if isinstance(event, SmbStep) and isinstance(event.step, smb3.TreeConnected):
            opened[event.purpose] += 1

    timing = Timing(fetch_s=30, try_s=20, connect_s=20, recycle_after_s=0.3)
    store = open_on(samba, timing=timing, listener=listener)
    looks = 0

    async def watch() -> None:
        nonlocal looks
        async with aclosing(store.watch()) as changes:
            async for change in changes:
                looks += change.key is None

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(PATIENCE_S):
        while min(opened["data"], opened["control"]) < 3:
            assert await data_of(store) == b"here"
    await until(lambda: looks > 2)  # a new connection may have missed changes
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_calls_under_way_are_told_that_the_store_was_closed(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    store = open_on(samba)
    await store.fetch(KEY)
    samba.freeze()
    try:
        calls = [asyncio.ensure_future(store.fetch(KEY)) for _ in range(10)]
        await asyncio.sleep(0)
        await store.close()
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
            assert "was closed" in str(answer)
    finally:
        samba.thaw()


# --- two servers --------------------------------------------------------------------


async def test_the_first_server_is_asked_and_the_next_one_when_it_fails(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, _ = pair
    store = open_on(*pair)
    assert await data_of(store) == b"first"
    first.stop()
    for _ in range(20):
        assert await data_of(store) == b"second"
    assert [file.size for file in await store.list()] == [len(b"second")]
    first.start()
    await until_fetched(store, b"first")


@pytest.mark.parametrize("end", ["stop", "freeze", "kill_connections"])
async def test_no_fetch_fails_as_a_server_does(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open, end: str
):
    first, _ = pair
    store = open_on(*pair, timing=Timing(fetch_s=30, try_s=0.5, connect_s=20))
    answers: Counter[bytes | None] = Counter()

    async def read() -> None:
        for _ in range(100):
            answers[await data_of(store)] += 1

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await until(lambda: answers.total() > 50)
    getattr(first, end)()
    try:
        await asyncio.gather(*readers)
    finally:
        first.thaw()
    assert answers.total() == 500
    assert answers.keys() <= {b"first", b"second"}


async def test_a_silent_server_is_overtaken_by_the_next(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    """The deadline is far away, so that only a second request can have brought the answer."""
    first, _ = pair
    store = open_on(*pair, timing=Timing(fetch_s=50, try_s=50, connect_s=50))
    await until_fetched(store, b"first")
    first.freeze()
    try:
        assert await data_of(store) == b"second"
    finally:
        first.thaw()


async def test_a_watch_goes_on_at_the_next_server(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, second = pair
    store = open_on(*pair)
    await data_of(store)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        first.stop()
        with pytest.raises(StoreUnavailable):
            await anext(changes)
    await data_of(store)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        await until_told(changes, second.folder / OTHER)


async def test_a_watch_follows_the_server_that_is_read_from(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, _ = pair
    first.stop()
    store = open_on(*pair)
    assert await data_of(store) == b"second"
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        first.start()
        await until_fetched(store, b"first")
        await until_told(changes, first.folder / OTHER)


async def test_a_server_that_denies_a_file_is_passed_over(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, _ = pair
    (first.folder / KEY).chmod(0)
    assert await data_of(open_on(*pair)) == b"second"


async def test_when_all_servers_fail_the_gravest_reason_is_told(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, second = pair
    (second.folder / KEY).chmod(0)
    store = open_on(*pair)
    first.stop()
    with pytest.raises(StoreDenied, match=KEY):
        await store.fetch(KEY)


# --- the account --------------------------------------------------------------------


async def test_a_wrong_password_is_sent_once_however_many_ask(samba: PrivateSamba, open_on: Open):
    (samba.folder / KEY).write_bytes(b"here")
    password = b"wrong"
    async with proxy_to(samba.port) as proxy:
        store = open_on(samba, ports=(proxy.port,), password=lambda: password)
        calls = [store.fetch(KEY) for _ in range(20)]
        answers = await asyncio.gather(
            *calls, store.list(), anext(store.watch()), return_exceptions=True
        )
        for answer in answers:
            assert isinstance(answer, StoreAuthenticationFailed)
            assert samba.username in str(answer)
        for _ in range(20):
            with pytest.raises(StoreAuthenticationFailed, match="tried again in"):
                await store.fetch(KEY)
        assert proofs_in(proxy) == 1

        password = samba.password.encode()  # another secret is not the refused one
        assert await data_of(store) == b"here"
        await until_idle(store)
        await store.close()


async def test_a_wrong_password_is_sent_once_to_all_servers_of_a_trial(
    pair: tuple[PrivateSamba, PrivateSamba], open_on: Open
):
    first, second = pair
    async with proxy_to(first.port) as one, proxy_to(second.port) as other:
        store = open_on(
            *pair, ports=(one.port, other.port), password=lambda: b"wrong", account_rest_s=(1, 60)
        )
        for _ in range(3):
            with pytest.raises(StoreAuthenticationFailed):
                await store.fetch(KEY)
        await until_idle(store)
        at_first = proofs_in(one) + proofs_in(other)
        assert at_first <= 2
        async with asyncio.timeout(PATIENCE_S):
            while proofs_in(one) + proofs_in(other) == at_first:
                with pytest.raises(StoreAuthenticationFailed):
                    await store.fetch(KEY)
                await asyncio.sleep(0.05)
        await until_idle(store)
        assert proofs_in(one) + proofs_in(other) == at_first + 1
        await store.close()


async def test_the_password_is_read_at_each_connect(start_samba: Start, open_on: Open):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(b"here")

    def password() -> bytes:
        return samba.password.encode()

    store = open_on(samba, password=password)
    assert await data_of(store) == b"here"
    await until_idle(store)
    samba.change_password("another one")
    assert await data_of(store) == b"here", "a session that is set up stays"
    samba.kill_connections()
    assert await data_of(store) == b"here"


@pytest.mark.parametrize(
    ("password", "why"), [(b"\xff", "not UTF-8"), (None, "open to others"), (b"", "refuses")]
)
async def test_a_secret_that_is_none(
    samba: PrivateSamba, open_on: Open, password: bytes | None, why: str
):
    def read() -> bytes:
        if password is None:
            raise SettingsError("/etc/secret is open to others than its owner.")
        return password

    store = open_on(samba, password=read)
    with pytest.raises(StoreAuthenticationFailed, match=why):
        await store.fetch(KEY)


async def test_no_error_shows_the_password(start_samba: Start, open_on: Open):
    samba = start_samba()
    store = open_on(samba)
    samba.stop()
    with pytest.raises(StoreUnavailable) as caught:
        await store.fetch(KEY)
    assert samba.password not in f"{caught.value!r} {caught.value} {store!r} {vars(store)}"


# --- set-up faults ------------------------------------------------------------------


async def test_a_share_or_folder_that_is_not_there(samba: PrivateSamba, open_on: Open):
    with pytest.raises(StoreUnavailable, match="no share of files called nothing"):
        await open_on(samba, share="nothing").fetch(KEY)
    store = open_on(samba, folder="nothing")
    for call in (store.fetch(KEY), store.list(), anext(store.watch())):
        with pytest.raises(StoreUnavailable, match="folder nothing"):
            await call


@pytest.mark.parametrize(
    "options",
    [
        {"server max protocol": "SMB3_02", "server min protocol": "SMB2"},
        {"server smb encrypt": "off"},
    ],
)
async def test_a_server_that_offers_less_is_insecure(
    start_samba: Start, open_on: Open, options: Mapping[str, str]
):
    samba = start_samba(options)
    with pytest.raises(StoreInsecure, match=r"SMB 3\.1\.1") as caught:
        await open_on(samba).fetch(KEY)
    assert not caught.value.retryable


async def test_a_denied_file_is_denied_and_the_others_are_not(samba: PrivateSamba, open_on: Open):
    (samba.folder / KEY).write_bytes(b"here")
    (samba.folder / KEY).chmod(0)
    (samba.folder / OTHER).write_bytes(b"there")
    store = open_on(samba)
    with pytest.raises(StoreDenied) as caught:
        await store.fetch(KEY)
    assert not isinstance(caught.value, StoreAuthenticationFailed)
    for fact in (KEY, samba.share, samba.username):
        assert fact in str(caught.value)
    assert await data_of(store, OTHER) == b"there"


async def test_a_file_that_a_writer_holds_is_busy_until_it_is_done(
    samba: PrivateSamba, open_on: Open
):
    (samba.folder / KEY).write_bytes(b"here")
    (samba.folder / KEY).chmod(0o666)
    store = open_on(samba)
    options = {"port": samba.port, "connection_cache": {}}
    smbclient.register_session(
        samba.host, username=samba.username, password=samba.password, encrypt=True, **options
    )
    path = rf"\\{samba.host}\{samba.publish_share}\{KEY}"
    with (
        smbclient.open_file(path, mode="r+b", share_access="", **options),
        pytest.raises(StoreBusy, match="held by another program"),
    ):
        await store.fetch(KEY)
    assert await data_of(store) == b"here"
    smbclient.reset_connection_cache(connection_cache=options["connection_cache"])


# --- files that change ----------------------------------------------------------------


async def test_a_file_replaced_during_ten_thousand_reads_is_always_whole(
    samba: PrivateSamba, open_on: Open
):
    size = 4096
    (samba.folder / KEY).write_bytes(bytes(size))
    store = open_on(samba)
    done, due = threading.Event(), threading.Event()

    def replace() -> None:
        for number in itertools.cycle(range(256)):
            new = samba.folder / "new"
            new.write_bytes(bytes([number]) * size)
            new.replace(samba.folder / KEY)
            due.wait()
            due.clear()
            if done.is_set():
                return

    bytes_of: dict[str, bytes] = {}
    answers: Counter[str] = Counter()

    async def read() -> None:
        for _ in range(200):
            if answers.total() % 500 == 499:  # twenty times, however fast the machine
                due.set()
            try:
                blob = await store.fetch(KEY)
            except StoreBusy:
                answers["busy"] += 1
                continue
            if blob is None:
                answers["absent"] += 1
                continue
            answers["read"] += 1
            assert len(blob.data) == size
            assert len(set(blob.data)) == 1, "a mixture"
            assert bytes_of.setdefault(blob.version, blob.data) == blob.data

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        await asyncio.gather(*(read() for _ in range(50)))
    finally:
        done.set()
        due.set()
        writer.join()
    assert answers.total() == 10_000
    assert answers["read"] > 9_950, answers
    assert len(bytes_of) > 2


async def test_two_writes_within_a_tick_of_the_clock_have_two_versions(
    samba: PrivateSamba, open_on: Open
):
    store = open_on(samba)
    bytes_of: dict[str, bytes] = {}
    for number in range(20):
        (samba.folder / KEY).write_bytes(b"%02d" % number)
        blob = await store.fetch(KEY)
        assert blob is not None
        assert bytes_of.setdefault(blob.version, blob.data) == blob.data


async def test_a_file_is_read_again_only_if_it_has_just_changed(samba: PrivateSamba, open_on: Open):
    heard: list[object] = []
    store = open_on(samba, listener=heard.append)

    async def reads() -> int:
        heard.clear()
        assert await data_of(store) == b"here"
        steps = [event.step for event in heard if isinstance(event, SmbStep)]
        ended = [step for step in steps if isinstance(step, smb3.OperationEnded)]
        return sum(step.operation == "fetch" for step in ended)

    async with asyncio.timeout(PATIENCE_S):
        while True:  # a busy machine may take longer to read than the change stays fresh
            (samba.folder / KEY).write_bytes(b"here")
            if await reads() > 1:
                break
    await asyncio.sleep(1)  # of the file's age, not for anything to happen
    assert await reads() == 1


# --- watching -------------------------------------------------------------------------


async def test_what_changes_as_a_watch_begins_is_looked_at_again(
    samba: PrivateSamba, open_on: Open
):
    """Regression: Samba's record began after its word that it keeps one, and nobody knew."""
    store = open_on(samba)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        (samba.folder / KEY).write_bytes(b"here")
        async with asyncio.timeout(PATIENCE_S):
            while await anext(changes) != Change(None):
                pass


async def test_a_watch_that_lost_changes_says_to_look_at_everything(
    samba: PrivateSamba, open_on: Open
):
    store = open_on(samba)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)
        for number in range(2_000):
            (samba.folder / f"{number}-{'x' * 200}.pfx").touch()
        async with asyncio.timeout(PATIENCE_S):
            while (await anext(changes)).key is not None:
                pass
        (samba.folder / KEY).touch()
        async with asyncio.timeout(PATIENCE_S):
            while (await anext(changes)).key != KEY:
                pass


async def test_a_watch_of_a_killed_connection_ends_and_the_next_one_works(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    store = open_on(samba)
    async with aclosing(store.watch()) as changes:
        await anext(changes)
        samba.kill_connections()
        with pytest.raises(StoreUnavailable):
            await anext(changes)
    async with aclosing(store.watch()) as changes:
        assert await anext(changes) == Change(None)


async def test_a_server_without_notifications_says_so(start_samba: Start, open_on: Open):
    """Guards: it told nothing, and nobody was told that changes are not seen."""
    samba = start_samba({"change notify": "no", "kernel change notify": "no"})
    store = open_on(samba)
    with pytest.raises(StoreUnwatchable, match=r"does not tell of changes: .* lower it"):
        await anext(store.watch())
    assert await store.list() == []


# --- upper and lower case -------------------------------------------------------------


async def test_where_case_makes_no_difference_keys_are_lower_case(
    start_samba: Start, open_on: Open
):
    samba = start_samba(share_options={"case sensitive": "no"})
    (samba.folder / "WWW.Contoso.example.PFX").write_bytes(b"here")
    (samba.folder / "BÜCHER.example.pfx").write_bytes(b"books")
    store = open_on(samba)
    files = {file.key: file for file in await store.list()}
    assert files.keys() == {KEY, "bücher.example.pfx"}
    for key, file in files.items():
        blob = await store.fetch(key)
        assert blob is not None
        assert blob.version == file.version
    async with aclosing(store.watch()) as changes:
        await until_told(changes, samba.folder / "WWW.Contoso.example.PFX")
        assert (await anext(changes)).key == KEY, "in lower case as well"


async def test_where_case_makes_a_difference_keys_are_as_they_are(
    samba: PrivateSamba, open_on: Open
):
    (samba.folder / "WWW.Contoso.example.PFX").write_bytes(b"here")
    store = open_on(samba)
    assert [file.key for file in await store.list()] == ["WWW.Contoso.example.PFX"]
    assert await store.fetch(KEY) is None
    (samba.folder / KEY).write_bytes(b"the other")
    assert {file.key for file in await store.list()} == {"WWW.Contoso.example.PFX", KEY}


# --- what is weak about the share -----------------------------------------------------


async def looked(store: SmbStore, heard: list[object]) -> set[str]:
    """Have the store look around; return the codes of what it found."""
    await data_of(store)
    tasks = store._errands._tasks
    await until(lambda: not [task for task in tasks if "look" in repr(task)])
    codes = [event.code for event in heard if isinstance(event, Weakness)]
    assert len(codes) == len(set(codes)), "each is told once"
    assert set(codes) == {weakness.code for weakness in store.weaknesses}
    return set(codes)


async def test_a_share_as_it_should_be_has_no_weakness(samba: PrivateSamba, open_on: Open):
    heard: list[object] = []
    (samba.folder / KEY).write_bytes(b"here")
    assert await looked(open_on(samba, listener=heard.append), heard) == set()


async def test_an_account_that_can_add_files_is_a_weakness(samba: PrivateSamba, open_on: Open):
    heard: list[object] = []
    store = open_on(samba, share=samba.publish_share, listener=heard.append)
    assert await looked(store, heard) == {"account-can-write"}
    (weakness,) = store.weaknesses
    assert samba.username in weakness.sentence
    assert weakness.subject == store.url


async def test_an_account_that_can_change_a_file_only_is_a_weakness(
    start_samba: Start, open_on: Open
):
    samba = start_samba()
    samba.folder.chmod(0o755)
    (samba.folder / KEY).write_bytes(b"here")
    (samba.folder / KEY).chmod(0o666)
    heard: list[object] = []
    store = open_on(samba, share=samba.publish_share, listener=heard.append)
    assert await looked(store, heard) == {"account-can-write"}


async def test_a_share_that_is_open_to_guests_is_a_weakness(start_samba: Start, open_on: Open):
    samba = start_samba(
        {"map to guest": "bad user", "server smb encrypt": "if_required", "server signing": "auto"},
        {"guest ok": "yes", "valid users": ""},
    )
    heard: list[object] = []
    assert "guest-access" in await looked(open_on(samba, listener=heard.append), heard)


async def test_a_share_that_does_not_require_encryption_is_a_weakness(
    start_samba: Start, open_on: Open
):
    samba = start_samba({"server smb encrypt": "if_required"})
    heard: list[object] = []
    store = open_on(samba, listener=heard.append)
    assert await looked(store, heard) == {"unencrypted-access"}


async def test_a_weakness_that_was_mended_is_found_gone(start_samba: Start, open_on: Open):
    samba = start_samba({"server smb encrypt": "if_required"})
    heard: list[object] = []
    timing = Timing(fetch_s=30, try_s=20, connect_s=20, recycle_after_s=0.3)
    store = open_on(samba, timing=timing, listener=heard.append)
    await data_of(store)
    await until(lambda: store.weaknesses)
    configuration = samba._configuration.read_text()
    samba._configuration.write_text(configuration.replace("if_required", "required"))
    assert samba._process is not None
    samba._process.send_signal(signal.SIGHUP)
    await until(lambda: not store.weaknesses)
    assert WeaknessGone("unencrypted-access", store.url) in heard
