"""A trace over the control socket: many lines, for as long as both ends stay."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from centcert.control import Reply, Request, Stream, Trace, control_socket, tracing
from centcert.errors import CentcertError, NodeUnreachable
from centcert.tracing import LeftOut, Tracing

if TYPE_CHECKING:
    from pathlib import Path


class Teller:
    """Tells what is put into ``queue``, and notes how many follow."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[LeftOut] = asyncio.Queue()
        self.followers = 0
        self.left = asyncio.Event()

    async def answer(self, request: Request) -> Reply | Stream:
        assert isinstance(request, Trace)
        if request.pattern == "refused.example":
            raise CentcertError("Not that one.")
        return self._tell()

    async def _tell(self) -> Stream:
        self.followers += 1
        try:
            yield Tracing()
            while True:
                yield await self.queue.get()
        finally:
            self.followers -= 1
            self.left.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_lines_come_until_the_asker_leaves(path: Path):
    teller = Teller()
    async with control_socket(path, teller.answer), asyncio.timeout(20):
        async with tracing(path, Trace()) as messages:
            assert teller.followers == 1
            for count in (1, 2):
                teller.queue.put_nowait(LeftOut(count))
                assert await anext(messages) == LeftOut(count)
        await teller.left.wait()
        assert teller.followers == 0


async def test_an_asker_is_let_go_though_there_is_nothing_to_tell(path: Path):
    teller = Teller()
    async with control_socket(path, teller.answer), asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"type":"trace"}\n')
        assert await reader.readline() == b'{"type":"tracing"}\n'
        writer.close()
        await teller.left.wait()


async def test_a_refusal_is_told(path: Path):
    teller = Teller()
    async with control_socket(path, teller.answer):
        with pytest.raises(CentcertError, match="Not that one"):
            async with tracing(path, Trace("refused.example")):
                pass


async def test_without_a_node_there_is_nothing_to_follow(path: Path):
    with pytest.raises(NodeUnreachable):
        async with tracing(path, Trace()):
            pass


async def test_a_trace_ends_with_the_node_though_nobody_reads_it(path: Path):
    teller = Teller()
    async with asyncio.timeout(20):
        async with control_socket(path, teller.answer):
            deaf = socket.socket(socket.AF_UNIX)
            deaf.connect(str(path))
            deaf.sendall(b'{"type":"trace"}\n')
            for count in range(20_000):
                teller.queue.put_nowait(LeftOut(count))
            while not teller.followers:
                await asyncio.sleep(0.01)
        await teller.left.wait()
        deaf.close()


async def test_a_line_cut_short_is_the_end(path: Path):
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"type":"tracing"}\n{"type":"left-out","count":1}\n{"type":"left-')
        writer.close()

    async with await asyncio.start_unix_server(cut, path), tracing(path, Trace()) as messages:
        assert [message async for message in messages] == [LeftOut(1)]
