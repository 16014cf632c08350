"""A server that dies, leaves, comes back or falls silent."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import uvloop

from centcert import smb3
from tests.interop.smb.conftest import login_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from centcert.demo.samba import PrivateSamba
    from centcert.smb3 import Connection
    from tests.interop.smb.conftest import Dial, Start

PATIENCE_S = 20.0


async def fetch(connection: Connection, timeout_s: float = PATIENCE_S) -> bytes | None:
    file = await connection.fetch("www.pfx", max_bytes=100, timeout_s=timeout_s)
    return None if file is None else file.data


@pytest.fixture
def samba(samba: PrivateSamba) -> Iterator[PrivateSamba]:
    (samba.folder / "www.pfx").write_bytes(b"content")
    yield samba
    samba.thaw()
    if not samba.running:
        samba.start()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_killed_connection_fails_its_calls_and_a_new_one_works(
    samba: PrivateSamba, dial: Dial, reader: Connection
):
    assert await fetch(reader) == b"content"
    samba.kill_connections()
    await until(lambda: reader.lost is not None)

    with pytest.raises(smb3.ConnectionLost):
        await fetch(reader)
    assert samba.running
    assert await fetch(await dial(samba)) == b"content"


async def test_waiters_of_a_killed_connection_are_all_let_down(
    samba: PrivateSamba, reader: Connection
):
    samba.freeze()
    waiters = [asyncio.create_task(fetch(reader)) for _ in range(200)]
    watcher = asyncio.create_task(reader.watch(timeout_s=PATIENCE_S))
    await asyncio.sleep(0)
    samba.kill_connections()
    samba.thaw()

    answers = await asyncio.gather(*waiters, watcher, return_exceptions=True)

    assert {type(answer) for answer in answers} == {smb3.ConnectionLost}


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_that_stops_and_starts_is_served_from_again(
    samba: PrivateSamba, dial: Dial, reader: Connection, sign: signal.Signals
):
    samba.stop(sign)
    await until(lambda: reader.lost is not None)
    with pytest.raises(smb3.ConnectionLost, match=f"Cannot connect to 127.0.0.1:{samba.port}"):
        await dial(samba)
    samba.start()

    assert await fetch(await dial(samba)) == b"content"


async def test_a_frozen_server_meets_the_deadline_of_a_fetch(
    samba: PrivateSamba, dial: Dial, reader: Connection
):
    samba.freeze()
    began = asyncio.get_running_loop().time()

    with pytest.raises(smb3.DeadlineMissed, match=r"0\.3 s"):
        await fetch(reader, timeout_s=0.3)

    assert asyncio.get_running_loop().time() - began >= 0.29
    assert isinstance(reader.lost, smb3.DeadlineMissed)
    samba.thaw()
    with pytest.raises(smb3.ConnectionLost):
        await fetch(reader)
    assert await fetch(await dial(samba)) == b"content"


async def test_a_missed_deadline_frees_every_other_waiter(samba: PrivateSamba, reader: Connection):
    samba.freeze()

    answers = await asyncio.gather(
        fetch(reader, timeout_s=0.2),
        *(fetch(reader) for _ in range(100)),
        reader.list_folder(timeout_s=PATIENCE_S),
        return_exceptions=True,
    )

    assert {type(answer) for answer in answers} == {smb3.DeadlineMissed}


async def test_a_frozen_server_meets_the_deadline_of_connecting(samba: PrivateSamba, dial: Dial):
    samba.freeze()

    with pytest.raises(smb3.DeadlineMissed, match=r"0\.3 s"):
        await dial(samba, timeout_s=0.3)


async def test_closing_does_not_wait_for_a_frozen_server(samba: PrivateSamba, reader: Connection):
    samba.freeze()

    await reader.close(timeout_s=0.2)

    assert reader.lost is not None


async def test_closing_takes_leave_and_ends_calls_under_way(
    samba: PrivateSamba, reader: Connection
):
    watch = await reader.watch(timeout_s=PATIENCE_S)
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)

    await reader.close(timeout_s=PATIENCE_S)

    with pytest.raises((smb3.ConnectionLost, smb3.StatusError)):
        await waiting
    with pytest.raises(smb3.ConnectionLost, match="closed by this side"):
        await fetch(reader)
    await until(lambda: not samba.connections())
    await reader.close()  # once more does no harm


async def test_a_cancelled_connect_leaves_no_connection(samba: PrivateSamba, dial: Dial):
    for rounds in range(12):
        connecting = asyncio.create_task(dial(samba))
        for _ in range(rounds):
            await asyncio.sleep(0.001)
        connecting.cancel()
        try:
            connection = await connecting
        except asyncio.CancelledError:
            continue
        await connection.close()

    await until(lambda: not samba.connections())


async def test_a_name_that_does_not_resolve_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:  # whatever name servers this machine has
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(smb3.ConnectionLost, match=r"Cannot connect to absent\.invalid"):
        await smb3.connect(
            "absent.invalid", "certs", smb3.PasswordLogin("user", "password"), timeout_s=PATIENCE_S
        )


async def test_somebody_who_is_no_smb_server_is_refused():
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(smb3.ProtocolViolation):
            await smb3.connect(
                "127.0.0.1", "certs", smb3.PasswordLogin("user", "password"), port=port
            )


def run_with_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def run() -> None:
            await main()

        runner.run(run())


def test_all_of_it_works_on_uvloop(start_samba: Start):
    samba = start_samba()
    (samba.folder / "www.pfx").write_bytes(b"content")
    (samba.folder / "large").write_bytes(bytes(200_000))

    async def main() -> None:
        connection = await smb3.connect(
            samba.host, samba.share, login_of(samba), port=samba.port, timeout_s=PATIENCE_S
        )
        async with connection, await connection.watch(timeout_s=PATIENCE_S) as watch:
            contents = await asyncio.gather(*(fetch(connection) for _ in range(200)))
            assert set(contents) == {b"content"}
            large = await connection.fetch("large", max_bytes=200_000, timeout_s=PATIENCE_S)
            assert large is not None
            assert large.data == bytes(200_000)
            assert len(await connection.list_folder(timeout_s=PATIENCE_S)) == 2
            step = asyncio.ensure_future(anext(watch))
            while not step.done():  # Samba begins to look after it says so
                (samba.folder / "new").touch()
                await asyncio.wait((step,), timeout=0.1)
            changes = step.result()
            assert changes is not None
            assert "new" in {change.name for change in changes}
            samba.freeze()
            with pytest.raises(smb3.DeadlineMissed):
                await fetch(connection, timeout_s=0.1)

    run_with_uvloop(main)
