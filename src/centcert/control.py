"""How commands reach a running node: a Unix socket, one JSON line each way; a trace has many.

Only the node's own user and root may connect: the socket's mode is 0600, its folder, if it
has to be made, 0700, and the kernel is asked who is at the other end, by the node and by
who asks it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from centcert.background import Background
from centcert.counters import Counters
from centcert.errors import CentcertError, NodeUnreachable, SettingsError
from centcert.provider.expiry import Expiry
from centcert.provider.health import StoreHealth
from centcert.tracing import Traced, Tracing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

MAX_LINE_BYTES: Final = 1024 * 1024
ANSWER_S: Final = 30.0
"""How long request and answer may take, at either end: a reload may wait for a slow store."""

_PEER: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Look ``name`` up anew, now."""

    name: str


class ReloadAll(msgspec.Struct, frozen=True, tag="reload-all"):
    """Begin to look up every remembered name anew."""


class Status(msgspec.Struct, frozen=True, tag="status"):
    """Tell how the node does."""


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Tell what is held for ``name``; nothing is looked up for it."""

    name: str


class ReadSettings(msgspec.Struct, frozen=True, tag="read-settings"):
    """Read the settings again, as SIGHUP has it done."""


class Trace(msgspec.Struct, frozen=True, tag="trace"):
    """Tell of handshakes until the asker leaves; answered by ``Tracing``, then ``Traced``.

    ``pattern``: of this name, or of those that this wildcard covers; ``None``: of all.
    """

    pattern: str | None = None


Request: TypeAlias = Reload | ReloadAll | Status | Look | ReadSettings | Trace


class Finding(msgspec.Struct, frozen=True):
    """As ``centcert.provider.findings.Finding``."""

    code: str
    subject: str
    since: float
    sentence: str


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """What came of ``Reload`` or ``ReloadAll``.

    Attributes:
        names: how many names are looked up anew.
        key: the file that answers the one name; ``None`` if all were meant.
        not_after: until when its certificate is good, in seconds since the epoch.
        findings: what is wrong with its files or the store.
    """

    names: int
    key: str | None = None
    not_after: float | None = None
    findings: tuple[Finding, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True, tag="status"):
    """How a node does. Times in seconds, memory in bytes.

    Attributes:
        connections: clients that are connected.
        names: that are remembered with a credential.
        used_bytes: what that takes.
        max_bytes: what it may take.
        waiting: handshakes that wait for the store.
        counters: what has happened since the node began.
        health: how the store does.
        expiry: of the certificates in use.
    """

    version: str
    store: str
    up_s: float
    connections: int
    names: int
    used_bytes: int
    findings: tuple[Finding, ...]
    max_bytes: int = 0
    waiting: int = 0
    counters: Counters = msgspec.field(default_factory=Counters)
    health: StoreHealth = msgspec.field(default_factory=StoreHealth)
    expiry: Expiry = Expiry()


class Holding(msgspec.Struct, frozen=True, tag="holding"):
    """What a node holds for a name.

    Attributes:
        key: the file whose credential is in memory, and is what a client gets now; ``None``:
            none is, the next client's handshake is a look-up.
        fingerprint: SHA-256 of its certificate, in hex.
        not_after: until when that is good, in seconds since the epoch.
        copy: whether there is a last-good copy.
    """

    key: str | None = None
    fingerprint: str | None = None
    not_after: float | None = None
    copy: bool = False


class SettingsRead(msgspec.Struct, frozen=True, tag="settings-read"):
    """What a node goes on with after ``ReadSettings``.

    Attributes:
        file: the settings file, absolute; ``None``: it has none, only options.
        store: the store's URL.
        enabled: whether the store is asked for anything.
    """

    file: str | None
    store: str
    enabled: bool


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The request could not be carried out; ``sentence`` says why."""

    sentence: str


Reply: TypeAlias = Reloaded | NodeStatus | Holding | SettingsRead | Refusal

Stream: TypeAlias = "AsyncGenerator[Tracing | Traced, None]"
"""What ``Trace`` is answered with, first ``Tracing``."""

R = TypeVar("R", Reloaded, NodeStatus, Holding, SettingsRead)


@asynccontextmanager
async def control_socket(
    path: Path, answer: Callable[[Request], Awaitable[Reply | Stream]]
) -> AsyncIterator[None]:
    """Answer requests at ``path`` while the block runs.

    Raises:
        SettingsError: the socket cannot be opened, or another node listens there.
    """
    with control_listening(path) as listening:
        async with control_answering(listening, answer):
            yield


@contextmanager
def control_listening(path: Path) -> Iterator[socket.socket]:
    """Listen at ``path`` while the block runs; who connects waits until somebody answers.

    Raises:
        SettingsError: the socket cannot be opened, or another node listens there.
    """
    make_room(path, "--control")
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            listening.bind(str(path))
            os.chmod(path, 0o600)  # noqa: PTH101  before it listens: nobody can have connected
            ours = _identity(path)
            listening.listen()
        except OSError as error:
            raise SettingsError(f"{path} cannot be opened: {error.strerror or error}.") from error
        try:
            yield listening
        finally:
            with suppress(OSError):
                if _identity(path) == ours:  # not another node's, if ours was taken away
                    os.unlink(path)  # noqa: PTH108  in memory: no disk is waited for


@asynccontextmanager
async def control_answering(
    listening: socket.socket, answer: Callable[[Request], Awaitable[Reply | Stream]]
) -> AsyncIterator[None]:
    """Answer who connects to ``listening``, which stays the caller's, while the block runs."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                if not _is_allowed(writer.get_extra_info("socket")):
                    return
                reply = await _reply(await reader.readline(), answer)
                if isinstance(reply, msgspec.Struct):
                    await _send(writer, reply)
                    return
            await _send_all(reader, writer, reply)
        except (OSError, TimeoutError, ValueError):  # it left, says nothing, or without end
            pass
        finally:
            writer.close()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        talks.add(task)
        task.add_done_callback(talks.discard)

    server = await asyncio.start_unix_server(serve, sock=listening.dup(), limit=MAX_LINE_BYTES)
    async with server:
        try:
            yield
        finally:  # nobody who is silent, or waits for an answer, keeps the node from ending
            server.close()
            for task in tuple(talks):
                task.cancel()


async def ask(path: Path, request: Request, kind: type[R]) -> R:
    """Send ``request`` to the node at ``path`` and return its answer.

    Raises:
        NodeUnreachable: no node answers there.
        CentcertError: the node could not carry it out.
    """
    async with _understood(path), _connection(path) as (reader, writer):
        writer.write(msgspec.json.encode(request) + b"\n")
        reply = msgspec.json.decode(await reader.readline(), type=Reply)
    if isinstance(reply, Refusal):
        raise CentcertError(reply.sentence)
    if not isinstance(reply, kind):
        raise NodeUnreachable(str(path))
    return reply


@asynccontextmanager
async def _understood(path: Path) -> AsyncIterator[None]:
    """Let whatever goes wrong in the block, or takes too long, be one error."""
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except PermissionError as error:
        sentence = f"{path}: Permission denied: ask as the node's user or as root."
        raise NodeUnreachable(str(path), sentence) from error
    except (OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
        raise NodeUnreachable(str(path)) from error


@asynccontextmanager
async def _connection(
    path: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with _understood(path):
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
    try:
        if not _is_ours(writer.get_extra_info("socket")):
            raise NodeUnreachable(str(path))
        yield reader, writer
    finally:
        writer.close()


@asynccontextmanager
async def tracing(path: Path, request: Trace) -> AsyncIterator[AsyncIterator[Traced]]:
    """Follow the node at ``path`` while the block runs.

    The iterator ends when the node does.

    Raises:
        NodeUnreachable: no node answers there.
        CentcertError: the node could not carry it out.
    """
    async with _connection(path) as (reader, writer):
        async with _understood(path):
            writer.write(msgspec.json.encode(request) + b"\n")
            reply = msgspec.json.decode(await reader.readline(), type=Refusal | Tracing)
        if isinstance(reply, Refusal):
            raise CentcertError(reply.sentence)
        yield _traced(reader)


async def _traced(reader: asyncio.StreamReader) -> AsyncIterator[Traced]:
    decoder = msgspec.json.Decoder(Traced)
    with suppress(OSError):  # it was killed, perhaps within a line
        while (line := await reader.readline()).endswith(b"\n"):
            yield decoder.decode(line)


async def _send(writer: asyncio.StreamWriter, message: Reply | Tracing | Traced) -> None:
    writer.write(msgspec.json.encode(message) + b"\n")
    await writer.drain()


async def _send_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream
) -> None:
    """Send what comes until the asker leaves. It has nothing more to say: only its end comes."""

    async def send() -> None:
        with suppress(OSError):
            async with aclosing(stream):
                async for message in stream:
                    await _send(writer, message)

    async with Background() as tasks:
        tasks.create_task(send())
        await reader.read(1)


async def _reply(
    line: bytes, answer: Callable[[Request], Awaitable[Reply | Stream]]
) -> Reply | Stream:
    try:
        return await answer(msgspec.json.decode(line, type=Request))
    except msgspec.MsgspecError:
        return Refusal("The request is not one that this node understands.")
    except CentcertError as error:
        return Refusal(str(error))


def _is_allowed(peer: socket.socket) -> bool:
    return _user_of(peer) in {0, os.geteuid()}


def _is_ours(node: socket.socket) -> bool:
    """Say whether the node is one to believe: root also asks those of other users."""
    return os.geteuid() == 0 or _is_allowed(node)


def _user_of(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(credentials)
    return int(uid)


def _identity(path: Path) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def make_room(path: Path, option: str) -> None:
    """Make a socket's folder if need be, and remove a socket that a dead node has left.

    Raises:
        SettingsError: something else is there; ``option`` names another place.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.lstat().st_uid not in {0, os.geteuid()}:  # a link's own, not its target's
            raise SettingsError(f"{path.parent} belongs to another user: name another socket.")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)  # a frozen node lets nobody in
            probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        if path.exists() and not path.is_socket():
            raise SettingsError(f"{path} is no socket: name another with {option}.") from None
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {error.strerror or error}.") from error
    else:
        raise SettingsError(f"{path}: another node listens there: name another with {option}.")
