"""Which listener a passed socket is for."""

from __future__ import annotations

import socket

import pytest

from centcert.errors import SettingsError
from centcert.frontend import TcpAddress
from centcert.frontend.activation import assign


def listening(host: str, port: int = 0, *, dual: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=dual)


async def test_each_listener_gets_its_own():
    with listening("127.0.0.1") as one, listening("::1") as other:
        first = TcpAddress("127.0.0.1", one.getsockname()[1])
        second = TcpAddress("::1", other.getsockname()[1])
        third = TcpAddress("", 0)
        assert await assign([other, one], [first, second, third]) == {first: [one], second: [other]}


async def test_every_address_is_one_socket_or_two():
    with listening("::", dual=True) as both:
        everywhere = TcpAddress("", both.getsockname()[1])
        assert await assign([both], [everywhere]) == {everywhere: [both]}
    with listening("0.0.0.0") as ip4, listening("::", ip4.getsockname()[1]) as ip6:  # noqa: S104
        everywhere = TcpAddress("", ip4.getsockname()[1])
        assert set((await assign([ip4, ip6], [everywhere]))[everywhere]) == {ip4, ip6}


@pytest.mark.parametrize("address", ["0.0.0.0", "::1"])  # noqa: S104
async def test_another_address_with_its_port_is_not_it(address: str):
    with listening("127.0.0.1") as one:
        port = one.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"the socket 127\.0\.0\.1:{port}, which no"):
            await assign([one], [TcpAddress(address, port)])


async def test_nothing_passed_is_nothing_assigned():
    assert await assign([], [TcpAddress("no.such.host.example", 443)]) == {}
