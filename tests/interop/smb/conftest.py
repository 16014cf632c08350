"""Real Samba servers, and ways to reach them."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from centcert import smb3
from centcert.demo.samba import PrivateSamba
from centcert.testing import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from centcert.smb3 import Connection, Event


PATIENCE_S = 20.0


class Start(Protocol):
    """Starts one more Samba for this test."""

    def __call__(
        self,
        global_options: Mapping[str, str] | None = None,
        share_options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> PrivateSamba: ...


class Dial(Protocol):
    """Connects to a Samba; the connection is cut when the test ends."""

    async def __call__(
        self,
        samba: PrivateSamba,
        *,
        share: str = PrivateSamba.share,
        login: smb3.Login | None = None,
        port: int | None = None,
        timeout_s: float = 10.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Connection: ...


def login_of(samba: PrivateSamba) -> smb3.PasswordLogin:
    return smb3.PasswordLogin(samba.username, samba.password)


def open_files(samba: PrivateSamba) -> int:
    """How many files and folders smbd has open below the share."""
    count = 0
    for pid in samba.connections():
        with suppress(OSError):  # it has just ended
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    count += descriptor.readlink().is_relative_to(samba.folder)
    return count


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA whose root is in ``ca.pem`` for clients."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    return authority


@pytest.fixture
def start_samba() -> Iterator[Start]:
    with ExitStack() as stack:

        def start(
            global_options: Mapping[str, str] | None = None,
            share_options: Mapping[str, str] | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> PrivateSamba:
            # Not pytest's tmp_path: its parents shut the account out, and its name is
            # too long for smbd.
            root = Path(tempfile.mkdtemp(prefix="smb"))
            stack.callback(shutil.rmtree, root, ignore_errors=True)
            samba = PrivateSamba(
                root,
                global_options=global_options,
                share_options=share_options,
                environment=environment,
            )
            return stack.enter_context(samba)

        yield start


@pytest.fixture(scope="module")
def standing_samba() -> Iterator[PrivateSamba]:
    root = Path(tempfile.mkdtemp(prefix="smb"))
    try:
        with PrivateSamba(root) as samba:
            yield samba
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def samba(standing_samba: PrivateSamba) -> PrivateSamba:
    """A Samba as Centcert wants it, shared by a module's tests; its folder is empty.

    Nobody is connected any more, so that a test may count what is.
    """
    end = time.monotonic() + PATIENCE_S
    while standing_samba.connections():
        assert time.monotonic() < end, "a test has left a connection behind"
        time.sleep(0.005)
    for entry in standing_samba.folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return standing_samba


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    connections: list[Connection] = []

    async def dial(
        samba: PrivateSamba,
        *,
        share: str = PrivateSamba.share,
        login: smb3.Login | None = None,
        port: int | None = None,
        timeout_s: float = 10.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Connection:
        connection = await smb3.connect(
            samba.host,
            share,
            login or login_of(samba),
            port=port or samba.port,
            timeout_s=timeout_s,
            on_event=on_event,
        )
        connections.append(connection)
        return connection

    yield dial
    for connection in connections:
        await connection.close()


@pytest.fixture
async def reader(samba: PrivateSamba, dial: Dial) -> Connection:
    """A connection that may read."""
    return await dial(samba)


@pytest.fixture
async def publisher(samba: PrivateSamba, dial: Dial) -> Connection:
    """A connection that may write."""
    return await dial(samba, share=samba.publish_share)
