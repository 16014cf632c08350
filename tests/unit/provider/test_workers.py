"""Workers and their provider process, all in one event loop but over a real Unix socket."""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from centcert.audience import Audience
from centcert.counters import Counters
from centcert.errors import StoreUnavailable, UnknownName
from centcert.names import HostName
from centcert.provider import CacheLimits, Provider
from centcert.provider.events import Elsewhere, Fetched, Refreshed
from centcert.provider.messages import Answered, Ask, FromProvider, Hello, Report, encode
from centcert.provider.policy import DEFAULT_POLICY
from centcert.provider.remote import RemoteProvider
from centcert.provider.service import Service
from tests.unit.provider.conftest import Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from centcert.credential import Credential

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
SHOP = HostName.parse("shop.contoso.example")
KEY, MAIL_KEY, WILD = f"{WWW}.pem", f"{MAIL}.pem", "_.contoso.example.pem"
TOKEN = secrets.token_bytes(32)

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centcert.provider.freshness.TOGETHER_S", 0.0)
    monkeypatch.setattr("centcert.provider.bursts.QUIET_S", 0.0)
    monkeypatch.setattr("centcert.provider.resolver.CONFIRM_ABSENCE_AFTER_S", (0.0,))
    monkeypatch.setattr("centcert.provider.remote.TELL_EVERY_S", 0.01)
    monkeypatch.setattr("centcert.provider.remote.AWAY_S", 20.0)
    monkeypatch.setattr("centcert.provider.service.COMPARE_AGAIN_S", 0.01)


class Farm:
    """One listening socket, as the supervisor keeps it; provider processes come and go."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind("")
        self.listening.listen()
        self.address: bytes = self.listening.getsockname()

    @asynccontextmanager
    async def provider_process(
        self, limits: CacheLimits | None = None
    ) -> AsyncIterator[tuple[Provider, Service]]:
        async with self.rig.provider(limits=limits) as provider:
            service = Service(provider, TOKEN)
            async with service.serving(self.listening.dup()):
                yield provider, service

    def worker(self, limits: CacheLimits | None = None) -> RemoteProvider:
        return RemoteProvider(self.address, TOKEN, limits=limits)


@pytest.fixture
def farm(rig: Rig) -> Iterator[Farm]:
    farm = Farm(rig)
    yield farm
    farm.listening.close()


async def ask(
    worker: RemoteProvider, name: HostName, default: HostName | None = None
) -> Credential:
    return (await worker.answer(name, DEFAULT_POLICY, default)).credential


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


# --- answers --------------------------------------------------------------------------


async def test_an_answer_is_as_the_providers_and_remembered(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process() as (provider, _), farm.worker() as worker:
        assert worker.known(WWW) is None
        answered = await ask(worker, WWW)
        held = provider.held(WWW)
        assert held is not None
        assert answered.to_parts() == held.to_parts()
        assert answered.fingerprint == held.fingerprint
        assert worker.known(WWW) is answered
        assert worker.source(WWW) == KEY


async def test_however_many_ask_it_is_one_question(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process(), farm.worker() as one, farm.worker() as other:
        farm.rig.store.hold()
        asking = [asyncio.ensure_future(ask(one, WWW)) for _ in range(50)]
        asking += [asyncio.ensure_future(ask(other, WWW)) for _ in range(50)]
        await farm.rig.store.until_fetched(1)
        farm.rig.store.release()
        credentials = await asyncio.gather(*asking)
        assert len(set(credentials)) == 2, "one in each worker"
        assert farm.rig.store.fetched[KEY] == 1


async def test_refusals_and_the_default(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process(), farm.worker() as worker:
        with pytest.raises(UnknownName, match="mail"):
            await ask(worker, MAIL)
        answer = await worker.answer(MAIL, DEFAULT_POLICY, WWW)
        assert (answer.name, answer.credential.key) == (WWW, KEY)
        assert worker.known(MAIL) is None
        assert worker.known(WWW) is answer.credential


async def test_names_of_one_file_share_its_credential_and_its_bytes_go_once(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
):
    sent: list[Answered] = []

    def note(message: FromProvider) -> bytes:
        if isinstance(message, Answered):
            sent.append(message)
        return encode(message)

    monkeypatch.setattr("centcert.provider.service.encode", note)
    farm.rig.files.put(WILD, pem("*.contoso.example"))
    async with farm.provider_process(), farm.worker() as worker:
        assert await ask(worker, WWW) is await ask(worker, MAIL)
        assert [answered.parts is None for answered in sent] == [False, True]


async def test_a_credential_forgotten_meanwhile_is_sent_again(farm: Farm):
    """The provider refers to what the worker holds, while the worker lets it go."""
    farm.rig.files.put(WILD, pem("*.contoso.example"))
    farm.rig.files.put("other.example.pem", pem("other.example"))
    one_name = CacheLimits(max_names=1)
    async with farm.provider_process() as (_, service), farm.worker(one_name) as worker:
        names = [HostName.parse(f"t{number}.contoso.example") for number in range(30)]
        names += [HostName.parse("other.example")]
        for _ in range(5):
            credentials = await asyncio.gather(*(ask(worker, name) for name in names))
            assert [one.key for one in credentials] == [WILD] * 30 + ["other.example.pem"]
        (connection,) = service._workers
        await until(lambda: list(connection.holds) == list(worker._cache._entries))
        assert connection._credentials.total() == 1


# --- changes --------------------------------------------------------------------------


async def test_a_renewal_reaches_all_workers(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process(), farm.worker() as one, farm.worker() as other:
        before = [await ask(one, WWW), await ask(other, WWW)]
        farm.rig.files.put(KEY, pem(WWW, days=60))
        await until(lambda: one.known(WWW) is not before[0] and other.known(WWW) is not before[1])
        for worker in (one, other):
            renewed = worker.known(WWW)
            assert renewed is not None
            assert renewed.not_after > before[0].not_after


async def test_a_withdrawal_reaches_all_workers(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process(), farm.worker() as one, farm.worker() as other:
        await ask(one, WWW)
        await ask(other, WWW)
        farm.rig.files.remove(KEY)
        await until(lambda: one.known(WWW) is None and other.known(WWW) is None)


async def test_what_names_share_is_renewed_and_withdrawn_for_each(farm: Farm):
    farm.rig.files.put(WILD, pem("*.contoso.example"))
    async with farm.provider_process() as (provider, service), farm.worker() as worker:
        await until(lambda: provider._loader.index.fresh)
        old = await ask(worker, WWW)
        assert await ask(worker, MAIL) is old
        farm.rig.files.put(WILD, pem("*.contoso.example"))
        await until(lambda: old not in {worker.known(WWW), worker.known(MAIL)})
        new = worker.known(WWW)
        assert new is not None
        assert worker.known(MAIL) is new
        farm.rig.files.put(KEY, pem(WWW))
        await until(lambda: worker.known(WWW) is None)
        assert (await ask(worker, WWW)).key == KEY
        assert worker.known(MAIL) is new
        farm.rig.files.remove(WILD)
        await until(lambda: worker.known(MAIL) is None)
        (connection,) = service._workers
        assert {name for names in connection._sharing.values() for name in names} == {WWW}


async def test_a_change_on_the_heels_of_an_answer_is_not_lost(farm: Farm):
    """Both arrive in one read; the answer must not be remembered over its own change."""
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process() as (provider, service), farm.worker() as worker:
        with pytest.raises(UnknownName):
            await ask(worker, MAIL)
        (connection,) = service._workers
        first = await provider.credential(WWW)
        farm.rig.files.put(KEY, pem(WWW, days=60))
        asking = asyncio.ensure_future(ask(worker, WWW))
        await until(lambda: WWW in connection.holds)  # answered, but not read yet or just so
        renewed = await provider.reload(WWW)
        await asking
        assert renewed is not first
        await until(lambda: (k := worker.known(WWW)) and k.fingerprint == renewed.fingerprint)


async def test_what_the_provider_has_no_room_for_is_not_held_by_workers(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    farm.rig.files.put(MAIL_KEY, pem(MAIL))
    limits = CacheLimits(max_names=1)
    async with farm.provider_process(limits), farm.worker() as worker:
        await ask(worker, WWW)
        await ask(worker, MAIL)
        await until(lambda: worker.known(WWW) is None)
        assert worker.known(MAIL) is not None


async def test_what_workers_use_stays_in_the_providers_memory_and_is_refreshed(farm: Farm):
    for name in (WWW, MAIL, SHOP):
        farm.rig.files.put(f"{name}.pem", pem(name))
    limits = CacheLimits(max_names=2)
    async with farm.provider_process(limits) as (provider, _), farm.worker() as worker:
        await ask(worker, WWW)
        await ask(worker, MAIL)
        assert worker.known(WWW)
        await until(lambda: list(provider._cache._entries)[-1] == WWW)
        await ask(worker, SHOP)
        await until(lambda: worker.known(MAIL) is None)
        assert worker.known(WWW) is not None
        farm.rig.clock.advance(301)
        assert worker.known(WWW)
        await farm.rig.until(Refreshed)


async def test_reports_are_added_up_and_what_was_counted_stays(farm: Farm):
    counters = Counters(accepted=5)
    async with farm.provider_process() as (_, service), farm.worker() as other:
        async with farm.worker() as worker:
            worker.report = lambda: Report(7, 2, counters)
            await until(lambda: service.total() == Report(7, 2, counters))
        await until(lambda: service.total() == Report(0, 0, counters))
        del other


# --- the provider process goes, and comes again -----------------------------------------


async def test_without_the_provider_process_what_is_held_goes_on(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
):
    farm.rig.files.put(KEY, pem(WWW))
    farm.rig.files.put(MAIL_KEY, pem(MAIL))
    async with farm.worker() as worker:
        async with farm.provider_process() as (provider, _):
            held = await ask(worker, WWW)
            url = provider.store_url
        await until(lambda: worker._link is None)
        assert worker.known(WWW) is held
        with monkeypatch.context() as patch:
            patch.setattr("centcert.provider.remote.AWAY_S", 0.05)
            with pytest.raises(StoreUnavailable, match=url):
                await ask(worker, MAIL)
        async with farm.provider_process():
            await until(lambda: worker._link is not None)
            assert (await ask(worker, MAIL)).key == MAIL_KEY
            assert worker.known(WWW) is held


async def test_a_question_under_way_is_asked_anew(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.worker() as worker:
        async with farm.provider_process():
            farm.rig.store.hold()
            asking = asyncio.ensure_future(ask(worker, WWW))
            await farm.rig.store.until_fetched(1)
        farm.rig.store.release()
        async with farm.provider_process():
            assert (await asking).key == KEY


async def test_what_changed_meanwhile_is_told_to_workers_that_come_again(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    farm.rig.files.put(MAIL_KEY, pem(MAIL))
    farm.rig.files.put(f"{SHOP}.pem", pem(SHOP))
    async with farm.worker() as worker:
        async with farm.provider_process():
            before = await ask(worker, WWW)
            await ask(worker, MAIL)
            kept = await ask(worker, SHOP)
        farm.rig.files.put(KEY, pem(WWW, days=60))
        farm.rig.files.remove(MAIL_KEY)
        async with farm.provider_process():
            await until(lambda: worker.known(WWW) is not before and worker.known(MAIL) is None)
            renewed = worker.known(WWW)
            assert renewed is not None
            assert renewed.not_after > before.not_after
            await until(lambda: farm.rig.store.fetched[f"{SHOP}.pem"] > 1)
            assert worker.known(SHOP) is kept


async def test_what_is_held_outlives_a_provider_process_without_a_store(farm: Farm):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.worker() as worker:
        async with farm.provider_process():
            held = await ask(worker, WWW)
        farm.rig.files.put(KEY, pem(WWW, days=60))
        farm.rig.store.fail()
        async with farm.provider_process():
            await until(lambda: worker._link is not None)
            asked = farm.rig.store.fetched.total()
            assert worker.known(WWW) is held
            await farm.rig.store.until_fetched(asked + 1)
            assert worker.known(WWW) is held
            farm.rig.store.heal()
            await until(lambda: worker.known(WWW) is not held)


# --- strangers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        encode(Hello(b"no token", 0)),
        encode(Ask(1, WWW, DEFAULT_POLICY, None)),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
    ],
    ids=["token", "no-hello", "length", "no-messagepack"],
)
async def test_who_is_no_worker_is_told_nothing(farm: Farm, first: bytes):
    farm.rig.files.put(KEY, pem(WWW))
    async with farm.provider_process():
        reader, writer = await asyncio.open_unix_connection(farm.address.decode())
        writer.write(first)
        with suppress(ConnectionResetError):  # it need not have read everything
            assert await reader.read() == b""
        writer.close()


async def test_a_worker_that_asks_for_no_name_is_cut_off(farm: Farm):
    async with farm.provider_process() as (_, service):
        reader, writer = await asyncio.open_unix_connection(farm.address.decode())
        writer.write(encode(Hello(TOKEN, 0)))
        await reader.readexactly(4)
        writer.write(encode(Ask(1, "../../etc/passwd", DEFAULT_POLICY, None)))
        await until(lambda: not service._workers)
        assert not farm.rig.store.fetched
        writer.close()


# --- traces -----------------------------------------------------------------------------


async def test_what_is_done_for_a_question_is_told_to_its_worker_while_somebody_follows(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("centcert.provider.service.MAX_OVERHEARD", 2)
    names = [HostName.parse(f"{number}.contoso.example") for number in range(3)]
    heard: list[list[Elsewhere]] = [[], []]
    workers = [
        RemoteProvider(farm.address, TOKEN, audience=Audience(), limits=CacheLimits())
        for _ in heard
    ]

    def listener(to: list[Elsewhere]) -> Callable[[object], None]:
        return lambda event: to.append(event) if isinstance(event, Elsewhere) else None

    farm.rig.store.hold()
    async with AsyncExitStack() as stack:
        _, service = await stack.enter_async_context(farm.provider_process())
        for worker, to in zip(workers, heard, strict=True):
            await stack.enter_async_context(worker)
            stack.enter_context(worker._audience.following(listener(to)))
        asking = [asyncio.ensure_future(ask(workers[0], MAIL))]
        await farm.rig.store.until_fetched(1)
        assert not service.overhearing, "nobody follows"
        with (
            service.following("*.contoso.example", lambda _: None),
            service.following("*.example", lambda _: None),
        ):
            asked = [HostName.parse("www.elsewhere.test"), *names]
            asking += [asyncio.ensure_future(ask(workers[1], name)) for name in asked]
            await farm.rig.store.until_fetched(5)
            assert len(service.overhearing) == 2, "of those wanted, as many as there is room for"
            for tell in service.overhearing.concerned(Fetched("_.contoso.example.pem", 0.5, None)):
                tell("fetch", "_.contoso.example.pem: absent", 0.5)
            for tell in service.overhearing.concerned(Fetched(f"{names[1]}.pem", 0.5, 9)):
                tell("fetch", "its own", 0.5)
            told = ("fetch", "_.contoso.example.pem: absent", 0.5)
            await until(lambda: len(heard[1]) == 3)
            assert heard == [
                [],
                [
                    Elsewhere(names[0], *told),
                    Elsewhere(names[1], *told),
                    Elsewhere(names[1], "fetch", "its own", 0.5),
                ],
            ]
            farm.rig.store.release()
            await asyncio.gather(*asking, return_exceptions=True)
            assert not service.overhearing
