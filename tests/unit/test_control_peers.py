"""The control socket and who talks to it: garbage, silence, strangers, and each request."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from centcert import control
from centcert.control import (
    MAX_LINE_BYTES,
    Finding,
    Holding,
    Look,
    NodeStatus,
    ReadSettings,
    Reload,
    ReloadAll,
    Reloaded,
    Reply,
    Request,
    SettingsRead,
    Status,
    Trace,
    ask,
    control_socket,
)
from centcert.errors import CentcertError, NodeUnreachable, SettingsError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

FINDINGS = (Finding("bad-file", "a.example.pfx", 1_000.5, "a.example.pfx: it is «bad»."),)
STATUS = NodeStatus("1.0", "memory:", 1.5, 2, 3, 4, FINDINGS)
REFUSED = b'{"type":"refusal","sentence":"The request is not one that this node understands."}\n'
NOBODY = 65_534


async def answer(request: Request) -> Reply:
    match request:
        case Status():
            return STATUS
        case ReloadAll():
            return Reloaded(7, findings=FINDINGS)
        case Reload(name="absent.example"):
            raise UnknownName(request.name)
        case Reload():
            return Reloaded(1, f"{request.name}.pfx", 2_000.0)
        case Look():
            return Holding(f"{request.name}.pfx", "ab", 2_000.0, copy=True)
        case ReadSettings():
            return SettingsRead("/etc/centcert/centcert.toml", "memory:", enabled=True)
        case Trace():
            raise CentcertError("Nobody is traced here.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def say(path: Path, *pieces: bytes) -> bytes:
    """Say something, and return everything that comes back."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    finally:
        writer.close()


# --- what is asked, and what is not understood ------------------------------------------


async def test_each_request_has_its_answer(path: Path):
    async with control_socket(path, answer):
        assert await ask(path, Status(), NodeStatus) == STATUS
        assert await ask(path, ReloadAll(), Reloaded) == Reloaded(7, None, None, FINDINGS)
        wanted = Reloaded(1, "a.example.pfx", 2_000.0)
        assert await ask(path, Reload("a.example"), Reloaded) == wanted
        read = SettingsRead("/etc/centcert/centcert.toml", "memory:", enabled=True)
        assert await ask(path, ReadSettings(), SettingsRead) == read
        with pytest.raises(CentcertError, match="holds no certificate"):
            await ask(path, Reload("absent.example"), Reloaded)


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"GET / HTTP/1.1\n"),
        *(b'{"type":"stop"}\n', b'{"type":"reload"}\n', b'{"type":"reload","name":1}\n'),
        b"[" * 10_000 + b"\n",
    ],
)
async def test_what_is_not_understood_is_refused(path: Path, line: bytes):
    async with control_socket(path, answer):
        assert await say(path, line) == REFUSED
        assert await ask(path, Status(), NodeStatus) == STATUS


async def test_a_line_that_comes_in_pieces_is_one_line(path: Path):
    async with control_socket(path, answer):
        assert b'"names":7' in await say(path, b'{"type":', b'"reload-all"', b"}\n")


async def test_a_line_without_end_is_not_read_to_its_end(path: Path):
    async with control_socket(path, answer):
        with suppress(ConnectionError):  # it closes while we are still talking
            assert await say(path, *[b"x" * 65_536] * (4 * MAX_LINE_BYTES // 65_536)) == b""
        assert await ask(path, Status(), NodeStatus) == STATUS


async def test_a_fault_of_the_node_ends_one_answer_only(path: Path):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    broken = True

    async def sometimes(request: Request) -> Reply:
        if broken:
            raise TypeError("a bug")
        return await answer(request)

    async with control_socket(path, sometimes):
        with pytest.raises(NodeUnreachable):
            await ask(path, Status(), NodeStatus)
        broken = False
        assert await ask(path, Status(), NodeStatus) == STATUS


# --- who is silent ----------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b'{"type":"sta'])
async def test_who_says_nothing_keeps_no_node_from_ending(path: Path, said: bytes):
    async with control_socket(path, answer):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(said)
        assert await ask(path, Status(), NodeStatus) == STATUS, "nor from answering others"
    assert await reader.read() == b""
    writer.close()


async def test_who_waits_for_an_answer_keeps_no_node_from_ending(path: Path):
    asked = asyncio.Event()

    async def never(request: Request) -> Reply:
        del request
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with control_socket(path, never):
        asking = asyncio.ensure_future(ask(path, Status(), NodeStatus))
        await asked.wait()
    with pytest.raises(NodeUnreachable):
        await asking


async def test_who_says_nothing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control, "ANSWER_S", 0.05)
    async with control_socket(path, answer):
        assert await say(path) == b""


async def test_a_node_that_does_not_answer_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen(0)
        with pytest.raises(NodeUnreachable, match=str(path)):
            await ask(path, Status(), NodeStatus)


async def test_a_frozen_node_is_still_another_node(path: Path):
    """Guards: with its backlog full, the next one waited for ever to be let in."""
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen(0)
        waiting = []
        with suppress(BlockingIOError):
            for _ in range(10):
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                client.connect(str(path))
        with pytest.raises(SettingsError, match=str(path)):
            async with control_socket(path, answer):
                pass
        for client in waiting:
            client.close()
    assert path.is_socket()


# --- who else is there --------------------------------------------------------------------


def ask_as_nobody(path: str, said: multiprocessing.Queue[bytes]) -> None:
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            client.sendall(b'{"type":"status"}\n')
            said.put(client.recv(1 << 16))
        except OSError as error:
            said.put(type(error).__name__.encode())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("mode", "outcomes"),
    [
        (0o600, {b"PermissionError"}),
        (0o666, {b"", b"ConnectionResetError", b"BrokenPipeError"}),
    ],
)
async def test_another_user_is_refused_by_the_mode_and_by_the_kernels_word(
    path: Path, mode: int, outcomes: set[bytes]
):
    for folder in (path.parent, *path.parents[1:4]):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o711)
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.Queue[bytes] = context.Queue()
    async with control_socket(path, answer):
        path.chmod(mode)
        process = context.Process(target=ask_as_nobody, args=(str(path), said))
        process.start()
        try:
            assert await asyncio.to_thread(said.get, timeout=30) in outcomes
        finally:
            await asyncio.to_thread(process.join)
        assert await ask(path, Status(), NodeStatus) == STATUS


async def test_who_may_not_ask_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch):
    async def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", denied)
    with pytest.raises(
        NodeUnreachable, match="Permission denied: ask as the node's user or as root"
    ):
        await ask(path, Status(), NodeStatus)


# --- where it is --------------------------------------------------------------------------


async def test_a_path_that_is_too_long_is_told(tmp_path: Path):
    path = tmp_path / ("x" * 110)
    with pytest.raises(SettingsError, match="too long"):
        async with control_socket(path, answer):
            pass


async def test_the_socket_goes_with_the_node_also_when_somebody_removed_it(path: Path):
    async with control_socket(path, answer):
        path.unlink()
    assert not path.exists()
