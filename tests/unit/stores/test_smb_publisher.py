"""What Samba does not do and Windows does; the rest is in tests/contract/test_publisher.py."""

from __future__ import annotations

from typing import cast

import pytest

from centcert.errors import StoreDenied, StoreUnavailable
from centcert.smb3 import Connection, Status, StatusError
from centcert.smb3.wire import Command
from centcert.stores import Account
from centcert.stores.smb import Location, SmbPublisher
from centcert.stores.smb import publisher as module


class Refusing:
    """A connection whose server refuses to rename, so many times."""

    lost = None

    def __init__(self, status: Status, times: int) -> None:
        self.asked = 0
        self._refusals = iter([status] * times)

    async def rename(self, *_: str, replace: bool, timeout_s: float) -> None:
        assert replace
        assert timeout_s > 0
        self.asked += 1
        status = next(self._refusals, None)
        if status is not None:
            raise StatusError(status, Command.SET_INFO)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAUSES_S", (0.001,) * 5)


def publisher(connection: Refusing) -> SmbPublisher:
    made = SmbPublisher(Location.parse("smb://files/certs"), Account("ann", lambda: b""))
    made._connection = cast("Connection", connection)
    return made


@pytest.mark.parametrize("status", [Status.ACCESS_DENIED, Status.SHARING_VIOLATION])
async def test_a_file_that_is_being_read_is_replaced_a_moment_later(status: Status):
    connection = Refusing(status, 4)
    await publisher(connection).move("new", "www.pfx")
    assert connection.asked == 5


async def test_a_move_is_given_up():
    connection = Refusing(Status.ACCESS_DENIED, 99)
    with pytest.raises(StoreDenied, match=r"The account ann may not write www\.pfx into the share"):
        await publisher(connection).move("new", "www.pfx")
    assert connection.asked == 6


async def test_nothing_else_is_tried_again():
    connection = Refusing(Status.OBJECT_NAME_NOT_FOUND, 99)
    with pytest.raises(StoreUnavailable):
        await publisher(connection).move("new", "www.pfx")
    assert connection.asked == 1
