"""The sockets that workers accept from."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from centcert.errors import SettingsError
from centcert.frontend import TcpAddress
from centcert.workers.sockets import ListeningSockets

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = TcpAddress("127.0.0.1", 0)


@pytest.fixture
def sockets() -> Iterator[ListeningSockets]:
    sockets = ListeningSockets({})
    yield sockets
    sockets.close()


def filenos(sockets: ListeningSockets, workers: int) -> list[set[int]]:
    """What each of so many workers accepts from."""
    return [
        {one.fileno() for of in sockets.share(worker, workers).values() for one in of}
        for worker in range(workers)
    ]


def test_each_worker_has_one_of_its_own_on_one_port(sockets: ListeningSockets):
    sockets.open([ANY], 3)
    assert len(sockets.addresses) == 1
    assert [len(own) for own in filenos(sockets, 3)] == [1, 1, 1]
    assert len(set.union(*filenos(sockets, 3))) == 3
    assert len({one.getsockname() for one in sockets.all()}) == 1


def test_with_fewer_workers_none_is_left_without_anybody(sockets: ListeningSockets):
    sockets.open([ANY], 3)
    before = {one.fileno() for one in sockets.all()}
    sockets.open([ANY], 2)
    assert {one.fileno() for one in sockets.all()} == before
    assert sorted(len(own) for own in filenos(sockets, 2)) == [1, 2]
    assert set.union(*filenos(sockets, 2)) == before


def test_with_more_workers_there_are_more_of_them(sockets: ListeningSockets):
    sockets.open([ANY], 1)
    port = sockets.addresses
    sockets.open([ANY], 3)
    assert sockets.addresses == port
    assert [len(own) for own in filenos(sockets, 3)] == [1, 1, 1]


def test_an_address_that_is_taken_changes_nothing(sockets: ListeningSockets):
    sockets.open([ANY], 2)
    before = sockets.all()
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        address = TcpAddress(*taken.getsockname())
        other = TcpAddress("::1", 0)
        with pytest.raises(SettingsError, match=f"Cannot listen on {address}: Address already in"):
            sockets.open([ANY, other, address], 2)
    assert sockets.all() == before


def test_what_is_not_wanted_any_more_is_closed(sockets: ListeningSockets):
    other = TcpAddress("::1", 0)
    sockets.open([ANY, other], 2)
    gone = sockets.share(0, 1)[other]
    sockets.close_but([ANY])
    assert all(one.fileno() == -1 for one in gone)
    assert list(sockets.share(0, 2)) == [ANY]


def test_passed_sockets_are_all_workers_and_stay():
    with socket.create_server(("127.0.0.1", 0)) as passed:
        address = TcpAddress(*passed.getsockname())
        sockets = ListeningSockets({address: [passed]})
        sockets.open([address, ANY], 2)
        assert sockets.share(0, 2)[address] == sockets.share(1, 2)[address] == [passed]
        assert passed.getsockname() in sockets.addresses
        sockets.close_but([])
        assert passed.fileno() > 0
        sockets.close()
        assert passed.fileno() == -1
