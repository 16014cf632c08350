from __future__ import annotations

import pytest

from centcert.frontend import Backend, Listener, Site, TcpAddress
from centcert.names import HostName


def site(host: str) -> Site:
    return Site(Backend(TcpAddress(host, 80)))


OWN, EXACT, WILD = site("own"), site("exact"), site("wild")
LISTENER = Listener(
    TcpAddress("", 443), OWN, {"www.contoso.example": EXACT, "*.contoso.example": WILD}
)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("www.contoso.example", EXACT),
        ("shop.contoso.example", WILD),
        ("contoso.example", OWN),
        ("a.shop.contoso.example", OWN),
        ("www.fabrikam.example", OWN),
        ("example", OWN),
        ("none", OWN),
    ],
)
def test_the_site_is_the_names_own_then_its_wildcards_then_the_listeners(name: str, chosen: Site):
    assert LISTENER.site_of(HostName.parse(name)) is chosen
