"""A file is replaced on a real server, and several nodes that watch it read it again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from centcert.names import HostName
from centcert.provider import Provider
from centcert.provider.events import Fetched, Listed
from centcert.stores import Account
from centcert.stores.events import SmbStep
from centcert.stores.smb import Address, Location, SmbStore
from tests.interop.smb.test_store import PATIENT, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.demo.samba import PrivateSamba
    from centcert.testing import Authority

NAME = HostName("www.contoso.example")
NODES = 5
ROUNDS = 5


class Node:
    """A provider with a store of its own, which counts what it asks the server for."""

    def __init__(self, samba: PrivateSamba) -> None:
        self.reads = 0
        self.fetched = 0
        self.listed = 0
        location = Location((Address(samba.host, samba.port),), samba.share, "")
        account = Account(samba.username, samba.password.encode)
        self.store = SmbStore(location, account, timing=PATIENT, listener=self._listen)
        self.provider = Provider(self.store, listener=self._listen)

    def _listen(self, event: object) -> None:
        match event:
            case SmbStep(step=step):
                self.reads += getattr(step, "operation", None) == "fetch"
            case Fetched():
                self.fetched += 1
            case Listed():
                self.listed += 1

    def serves(self, certificate: bytes) -> bool:
        held = self.provider.held(NAME)
        return held is not None and held.to_parts().certificate == certificate


async def comes_to(condition: Callable[[], object], within_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await until(condition)
            return True
    return False


@pytest.fixture
def _clock_of_an_old_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server's clock says now is not known: it was told when it was connected to."""
    monkeypatch.setattr("centcert.stores.smb.server.DRIFT", 1.0)


@pytest.mark.usefixtures("_clock_of_an_old_connection")
async def test_who_was_told_of_a_change_reads_the_file_once(
    samba: PrivateSamba, authority: Authority
):
    file = samba.folder / f"{NAME}.pem"
    file.write_bytes(authority.issue(NAME).pem())
    async with AsyncExitStack() as stack:
        nodes = [Node(samba) for _ in range(NODES)]
        for node in nodes:
            await stack.enter_async_context(node.store)
            await stack.enter_async_context(node.provider)
            await node.provider.credential(NAME)
        # After a second a watch has everything looked at once more, whatever has changed.
        await until(lambda: all(node.listed >= 2 for node in nodes))
        for _ in range(ROUNDS):  # a rename can show no file at all for an instant
            for node in nodes:
                node.reads = node.fetched = 0
            issued = authority.issue(NAME)
            (samba.folder / "new").write_bytes(issued.pem())
            (samba.folder / "new").rename(file)
            der = issued.certificate.public_bytes(Encoding.DER)
            await until(lambda: all(node.serves(der) for node in nodes))  # noqa: B023
            # Told of later than it was read, it may have been fetched again: that is one more read.
            if await comes_to(lambda: all(node.reads == node.fetched for node in nodes), 2):
                return
    pytest.fail(f"read {[(node.reads, node.fetched) for node in nodes]} times, and fetched")
