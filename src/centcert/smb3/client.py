"""The asyncio client: ``connect``, and a ``Connection`` for any number of tasks at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from time import perf_counter
from typing import TYPE_CHECKING, Self, TypeVar

from centcert.smb3 import operations, replies, requests
from centcert.smb3.conversation import authenticate, negotiate, open_link
from centcert.smb3.core import Core
from centcert.smb3.errors import ConnectionLost, DeadlineMissed, SmbError, StatusError
from centcert.smb3.events import (
    Closed,
    Connected,
    OperationEnded,
    ProtocolAgreed,
    SessionSetUp,
    TreeConnected,
)
from centcert.smb3.handshake import Handshake
from centcert.smb3.link import Link
from centcert.smb3.login import prove
from centcert.smb3.operations import MAX_TRANSFER_BYTES, File, Limits
from centcert.smb3.status import Status
from centcert.smb3.watch import Watch
from centcert.smb3.wire import Command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from centcert.smb3.events import Event
    from centcert.smb3.handshake import Session
    from centcert.smb3.login import Login
    from centcert.smb3.operations import Compound, Operation
    from centcert.smb3.replies import DirectoryEntry, FileInfo, TreeReply
    from centcert.smb3.requests import Access
    from centcert.smb3.sealing import Cipher
    from centcert.smb3.wire import Reply

_Result = TypeVar("_Result")


async def connect(
    host: str,
    share: str,
    login: Login,
    *,
    port: int = 445,
    server_name: str | None = None,
    timeout_s: float = 2.0,
    on_event: Callable[[Event], None] | None = None,
) -> Connection:
    """Connect to a share: TCP, NEGOTIATE, SESSION_SETUP, TREE_CONNECT.

    One attempt, to the account as well: a wrong password is sent once.

    Args:
        host: a name or an address.
        share: the share's name.
        login: the account and its secret, which is not kept.
        port: TCP; 445 is SMB's own.
        server_name: what the server is called in tickets and paths; else ``host``.
        timeout_s: for all of it, seconds.
        on_event: called with each step, at once and on the event loop; must not raise.

    Raises:
        ConnectionLost: nobody there, or the server hung up.
        DeadlineMissed: it took longer than ``timeout_s``.
        SecurityViolation: the server offers less than SMB 3.1.1 with AES-GCM, takes
            the account for a guest's, or somebody changed the set-up on its way.
        ProtocolViolation: the server's bytes are malformed.
        LoginRefused: the server refuses the account.
        LoginUnusable: no proof could be made from ``login``.
        StatusError: any other refusal: no such share, no access to it.
    """
    link = Link(asyncio.get_running_loop())
    name = server_name or host
    steps = _Steps(on_event)
    try:
        async with asyncio.timeout(timeout_s) as scope:
            await open_link(link, host, port)
            steps.tell(lambda duration_s: Connected(f"{host}:{port}", duration_s))
            session = await _set_up(link, login, name, steps)
            core = Core(session)
            link.use(core)
            tree = await _connect_tree(link, core, name, share)
            required = tree.encrypts or session.server_encrypts
            steps.tell(lambda duration_s: TreeConnected(share, required, duration_s))
    except BaseException as error:
        link.abort(ConnectionLost("The connection could not be set up."))
        if isinstance(error, TimeoutError) and scope.expired():
            raise DeadlineMissed(f"The connection was not ready within {timeout_s:g} s.") from None
        raise
    return Connection(link, session, tree, on_event)


class Connection:
    """A share, opened for one account; made by ``connect``.

    Every method may be called any number of times at once from one event loop; calls
    beyond what the server takes at once wait in order, and beyond a bound of 512 they
    fail at once with ``QueueFull``. Cancelling a call leaves the others alone.

    Each method's ``timeout_s`` is for the whole call, in seconds. A missed deadline
    aborts the connection: all calls under way fail with ``DeadlineMissed``.

    A path is relative to the share, its names joined by a backslash.

    Errors of every method: ``ConnectionLost`` (and its kinds ``DeadlineMissed``,
    ``ProtocolViolation``, ``SecurityViolation``: the connection is gone),
    ``QueueFull``, ``StatusError`` (the server's refusal; the connection goes on),
    ``InvalidPath``.

    Attributes:
        cipher: what the session is sealed with.
        encryption_required: whether the server says that it insists on sealing; if it
            does not, others may use the share without. See ``probe``.
        share_access: the most that the share lets this account do, files' own
            permissions aside.
        server_time: FILETIME: the server's clock when the connection was set up; 0 if it
            did not say.
    """

    cipher: Cipher
    encryption_required: bool
    share_access: Access
    server_time: int

    def __init__(
        self,
        link: Link,
        session: Session,
        tree: TreeReply,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        agreed = session.negotiated
        self.cipher = agreed.cipher
        self.encryption_required = session.server_encrypts or tree.encrypts
        self.share_access = tree.access
        self.server_time = agreed.server_time
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._limits = Limits(agreed.max_read, agreed.max_write, agreed.max_transact)
        self._on_event = on_event
        if on_event is not None:
            link.when_ended(lambda reason: on_event(Closed(str(reason))))

    @property
    def lost(self) -> ConnectionLost | None:
        """Why the connection is gone; ``None`` while it lives."""
        return self._link.lost

    # --- reading --------------------------------------------------------------

    async def fetch(self, path: str, *, max_bytes: int, timeout_s: float = 0.5) -> File | None:
        """Read a file whole: one frame each way for up to 64 KiB, else two.

        Args:
            path: of a file.
            max_bytes: the caller's bound; never more than 8 MiB.
            timeout_s: for the whole call.

        Returns:
            The file, or ``None`` if its folder has no file of that name. A missing
            folder, and a folder of that name, is a ``StatusError``.

        Raises:
            FileTooLarge: it has more than ``max_bytes``.
            FileChanging: somebody wrote to it meanwhile.
        """
        max_bytes = min(max_bytes, MAX_TRANSFER_BYTES)
        operation = operations.fetch(path, max_bytes, self._limits)
        if self._on_event is None:
            return await self._run(operation, timeout_s)
        return await self._told("fetch", path, operation, timeout_s)

    async def stat(self, path: str, *, timeout_s: float = 0.5) -> FileInfo | None:
        """Ask for the size, times and kind of a file or folder; ``None`` if it is absent."""
        return await self._told("stat", path, operations.stat(path), timeout_s)

    async def list_folder(self, path: str = "", *, timeout_s: float = 10.0) -> list[DirectoryEntry]:
        """List a folder: the entries of all its ``pages`` at once."""
        async with aclosing(self.pages(path, timeout_s=timeout_s)) as pages:
            return [entry async for page in pages for entry in page]

    async def pages(
        self, path: str = "", *, timeout_s: float = 10.0
    ) -> AsyncGenerator[list[DirectoryEntry], None]:
        """List a folder bit by bit: files and sub-folders, in the server's order.

        The next page is asked for when the caller has done with one. The server is busy
        with it for about 12 microseconds an entry, and the connection's other calls wait
        meanwhile: use a connection of its own.

        Args:
            path: of a folder.
            timeout_s: for each page.
        """
        page: list[DirectoryEntry] = []
        operation = operations.list_folder(path, self._limits, page.extend)
        began, outcome, count = perf_counter(), "cancelled", 0
        try:
            compound = next(operation)
            while True:
                compound = operation.send(await self._exchange(compound, timeout_s))
                if page:
                    count += len(page)
                    yield page.copy()
                    page.clear()
        except StopIteration:
            outcome = "done"
        except BaseException as error:
            if isinstance(error, SmbError):
                outcome = str(error)
            self._give_up(operation)
            raise
        finally:
            if self._on_event is not None:
                size = count if outcome == "done" else None
                duration_s = perf_counter() - began
                self._on_event(OperationEnded("list_folder", path, outcome, size, duration_s))

    async def watch(self, path: str = "", *, timeout_s: float = 0.5) -> Watch:
        """Begin to watch a folder, not what is below it.

        When this returns, the server says that it keeps record. Samba begins a moment
        later, in another process: look at the folder again after a second. It is a
        ``StatusError`` of kind ``UNSUPPORTED`` if the server keeps none.

        Args:
            path: of a folder.
            timeout_s: for the beginning; waiting for changes has no deadline.
        """
        watch = Watch(self._link, path)
        timer = self._loop.call_later(timeout_s, self._link.miss, timeout_s)
        try:
            await watch.begin()
        except BaseException:
            watch.close()
            raise
        finally:
            timer.cancel()
        return watch

    async def rights(self, path: str = "", *, timeout_s: float = 0.5) -> Access:
        """Ask what the account may do with a file or folder, the share's bounds included.

        ``Access.can_change`` of a folder and of one of its files tells whether the
        account could do harm. Nothing is changed to find out.
        """
        granted = await self._told("rights", path, operations.rights(path), timeout_s)
        return granted & self.share_access

    async def echo(self, *, timeout_s: float = 0.5) -> None:
        """Ask for a sign of life."""
        await self._told("echo", "", operations.single(requests.echo()), timeout_s)

    # --- writing --------------------------------------------------------------

    async def write_new(self, path: str, data: bytes, *, timeout_s: float = 2.0) -> None:
        """Make a file with this content, and have the server put it on its disk.

        A file of that name is a ``StatusError`` of kind ``EXISTS``. A file that could
        not be written whole may be left: ``delete`` it.

        Raises:
            FileTooLarge: more than 8 MiB.
        """
        operation = operations.write_new(path, data, self._limits)
        await self._told("write_new", path, operation, timeout_s)

    async def rename(
        self, path: str, new_path: str, *, replace: bool, timeout_s: float = 0.5
    ) -> None:
        """Give a file another name; with ``replace``, in place of the file that has it."""
        operation = operations.rename(path, new_path, replace=replace)
        await self._told("rename", path, operation, timeout_s)

    async def delete(self, path: str, *, timeout_s: float = 0.5) -> bool:
        """Delete a file; whether there was one."""
        return await self._told("delete", path, operations.delete(path), timeout_s)

    # --- the end --------------------------------------------------------------

    async def close(self, *, timeout_s: float = 0.5) -> None:
        """Take leave of the server and close. Calls under way fail with ``ConnectionLost``.

        Never fails: a server that does not answer in time is left without a word.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._link.exchange((requests.tree_disconnect(),))
                await self._link.exchange((requests.logoff(),))
                await self._link.close()
        except (SmbError, TimeoutError):
            self.abort()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Cut the connection at once."""
        self._link.abort(ConnectionLost("The connection was aborted by this side."))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "open" if self.lost is None else f"lost: {self.lost}"
        return f"<Connection {self.cipher.name}, {state}>"

    # --- how an operation is run ----------------------------------------------

    async def _run(self, operation: Operation[_Result], timeout_s: float) -> _Result:
        timer = self._loop.call_later(timeout_s, self._link.miss, timeout_s)
        try:
            compound = next(operation)
            while True:
                compound = operation.send(await self._link.exchange(compound))
        except StopIteration as stop:
            result: _Result = stop.value
            return result
        except BaseException:
            self._give_up(operation)
            raise
        finally:
            timer.cancel()

    async def _exchange(self, compound: Compound, timeout_s: float) -> list[Reply]:
        timer = self._loop.call_later(timeout_s, self._link.miss, timeout_s)
        try:
            return await self._link.exchange(compound)
        finally:
            timer.cancel()

    def _give_up(self, operation: Operation[_Result]) -> None:
        """Let an operation that holds a folder open close it; nobody waits for that."""
        try:
            compound = operation.throw(_GivenUp())
        except _GivenUp:
            return
        self._link.send_and_forget(compound)
        operation.close()

    async def _told(
        self, kind: str, path: str, operation: Operation[_Result], timeout_s: float
    ) -> _Result:
        """Run an operation and tell the listener, if there is one."""
        if self._on_event is None:
            return await self._run(operation, timeout_s)
        began = perf_counter()
        outcome, size = "cancelled", None
        try:
            result = await self._run(operation, timeout_s)
            outcome, size = _outcome_of(kind, result)
        except SmbError as error:
            outcome = str(error)
            raise
        finally:
            duration_s = perf_counter() - began
            self._on_event(OperationEnded(kind, path, outcome, size, duration_s))
        return result


class _GivenUp(Exception):
    """Thrown into an operation that nobody waits for."""


class _Steps:
    """Tells a listener how long each step of ``connect`` took."""

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event
        self._began = perf_counter()  # finer than the event loop's own clock

    def tell(self, event: Callable[[float], Event]) -> None:
        if self._on_event is None:
            return
        now = perf_counter()
        self._on_event(event(now - self._began))
        self._began = now


async def _set_up(link: Link, login: Login, server_name: str, steps: _Steps) -> Session:
    handshake = Handshake(server_name)
    agreed = await negotiate(link, handshake)
    cipher, signing = agreed.cipher.name, agreed.signing.name
    server_time = replies.since_epoch(agreed.server_time) if agreed.server_time else None
    steps.tell(lambda duration_s: ProtocolAgreed("3.1.1", cipher, signing, server_time, duration_s))
    session = handshake.session(await authenticate(link, handshake, prove(login, server_name)))
    steps.tell(SessionSetUp)
    return session


async def _connect_tree(link: Link, core: Core, server_name: str, share: str) -> TreeReply:
    (reply,) = await link.exchange((requests.tree_connect(server_name, share),))
    if reply.status:
        raise StatusError(reply.status, Command.TREE_CONNECT)
    tree = replies.tree_connect(reply)
    if not tree.is_disk:
        raise StatusError(Status.BAD_DEVICE_TYPE, Command.TREE_CONNECT)
    core.use_tree(reply.tree_id)
    return tree


def _outcome_of(kind: str, result: object) -> tuple[str, int | None]:
    if result is False or (result is None and kind in {"fetch", "stat"}):
        return "absent", None
    if isinstance(result, File):
        return "done", len(result.data)
    return "done", None
