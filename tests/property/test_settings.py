"""Whatever an administrator writes: a value, or one declared error that is one line."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from centcert.admin.settings import (
    LimitSettings,
    ListenSettings,
    SiteSettings,
    StoreSettings,
)
from centcert.admin.settings_file import read_settings, site_option
from centcert.admin.units import BYTES, MAX_SECONDS, SECONDS, Duration, Size
from centcert.errors import SettingsError
from centcert.frontend import Backend, TcpAddress
from centcert.frontend.proxy_protocol import header

if TYPE_CHECKING:
    from centcert.tls.session import Session

ADDRESSES = st.text("0123456789abc.:[]%-_ \0ü", max_size=30) | st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values),
    max_leaves=6,
)
IPS = st.ip_addresses() | st.ip_addresses(v=4).map(lambda ip: IPv6Address(f"::ffff:{ip}"))
PORTS = st.integers(0, 65_535)


def table(kind: type) -> st.SearchStrategy[dict[str, object]]:
    """Any values for some of the settings that a table has, and for some that it has not."""
    names = st.sampled_from(kind.__struct_fields__)  # type: ignore[attr-defined]
    return st.dictionaries(names | st.text(max_size=5), VALUES | ADDRESSES, max_size=4)


@given(ADDRESSES)
@example("[::1%a.b]:1")
@example("a" * 64 + ":1")
def test_an_address_is_refused_or_shown_as_it_was_written(text: str):
    with suppress(SettingsError):
        address = TcpAddress.parse(text)
        assert TcpAddress.parse(str(address)) == address
        address.host.encode("idna")  # what Python's resolver does first


@given(ADDRESSES | ADDRESSES.map("unix:{}".format))
def test_a_backend_is_refused_or_shown_as_it_was_written(text: str):
    with suppress(SettingsError):
        backend = Backend.parse(text)
        assert Backend.parse(str(backend)) == backend


@given(ADDRESSES | st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,400})? ?(ms|s|min|h|d|KiB|MiB|GiB|m)"))
def test_a_quantity_is_refused_or_finite(text: str):
    with suppress(SettingsError):
        assert 0 <= Duration.parse(text) <= MAX_SECONDS
    with suppress(SettingsError):
        assert 0 <= Size.parse(text) < 1 << 51


@given(st.integers(0, 86_400_000), st.sampled_from(list(SECONDS)))
def test_a_duration_that_is_shown_is_read_as_the_same(number: int, unit: str):
    with suppress(SettingsError):
        duration = Duration.parse(f"{number} {unit}")
        assert Duration.parse(str(duration)) == pytest.approx(duration, rel=1e-5)


@given(st.integers(0, 5_000), st.sampled_from(list(BYTES)))
def test_a_size_that_is_shown_is_read_as_the_same(number: int, unit: str):
    with suppress(SettingsError):
        size = Size.parse(f"{number} {unit}")
        assert Size.parse(str(size)) == size


@given(
    store=table(StoreSettings) | VALUES,
    listen=st.lists(table(ListenSettings) | VALUES, max_size=2) | VALUES,
    site=table(SiteSettings),
    limits=table(LimitSettings) | VALUES,
)
def test_settings_are_read_or_refused_in_one_line(
    store: object, listen: object, site: object, limits: object
):
    listener = {"address": ":1", "to": "a:1", "sites": [site]}
    for raw in (
        {"store": store, "listen": listen, "limits": limits},
        {"store": {"url": "/srv"}, "listen": [listener], "limits": limits},
    ):
        refusal = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("centcert.admin.settings_file.read_toml", lambda _, raw=raw: raw)
            try:
                read_settings(Path("file"), {})
            except SettingsError as error:
                refusal = str(error)
        assert refusal is None or (refusal.startswith("file: ") and refusal.endswith((".", ")")))


@given(st.text(max_size=30) | ADDRESSES.map("a=b:1,{}".format))
def test_a_site_as_an_option_is_read_or_refused(text: str):
    with suppress(SettingsError):
        site = site_option(text)
        assert text.startswith(f"{site['name']}={site['to']}")


@given(IPS, PORTS, IPS, PORTS)
def test_a_proxy_header_gives_both_addresses_back(
    client: IPv4Address | IPv6Address,
    client_port: int,
    server: IPv4Address | IPv6Address,
    server_port: int,
):
    tls = cast("Session", SimpleNamespace(version="TLSv1.3", cipher="C", group=None, alpn=None))
    made = header((str(client), client_port), (str(server), server_port), "a", "k", tls)
    assert int.from_bytes(made[14:16], "big") == len(made) - 16
    size = {0x11: 4, 0x21: 16}[made[13]]
    for at, ip in ((16, client), (16 + size, server)):
        told = ip_address(made[at : at + size])
        assert mapped(told) == mapped(ip)
    ports = 16 + 2 * size
    assert made[ports : ports + 4] == client_port.to_bytes(2, "big") + server_port.to_bytes(
        2, "big"
    )


def mapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
