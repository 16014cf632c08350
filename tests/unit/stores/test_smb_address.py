from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from centcert.errors import SettingsError
from centcert.stores import Account, open_store
from centcert.stores.smb import Address, Location

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("smb://files/certs", Location((Address("files"),), "certs")),
        ("smb://files:4450/certs/", Location((Address("files", 4450),), "certs")),
        ("smb://FILES.Contoso.com/Certs", Location((Address("files.contoso.com"),), "Certs")),
        ("smb://a,b:4450/certs", Location((Address("a"), Address("b", 4450)), "certs")),
        ("smb://10.0.0.1/s/web/prod", Location((Address("10.0.0.1"),), "s", "web\\prod")),
        ("smb://[fe80::1]/s", Location((Address("fe80::1"),), "s")),
        ("smb://[::1]:4450,b/s", Location((Address("::1", 4450), Address("b")), "s")),
        ("smb://a/web%20farm%23/%C3%BC", Location((Address("a"),), "web farm#", "ü")),
        ("smb://a/certs$", Location((Address("a"),), "certs$")),
    ],
)
def test_urls(url: str, location: Location):
    assert Location.parse(url) == location
    assert Location.parse(str(location)) == location, "what is shown can be written"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("smb://", "is not a server"),
        ("smb:///certs", "is not a server"),
        ("smb://files", "names no share"),
        ("smb://files/", "names no share"),
        ("smb://a,/certs", "is not a server"),
        ("smb://a b/certs", "is not a server"),
        ("smb://a:0/certs", "is not a server"),
        ("smb://a:65536/certs", "is not a server"),
        ("smb://a:x/certs", "is not a server"),
        ("smb://fe80::1/certs", "is not a server"),
        ("smb://a,a/certs", "twice"),
        ("smb://a,A:445/certs", "twice"),
        ("smb://" + ",".join(map(str, range(9))) + "/certs", "more than 8"),
        ("smb://reader:hunter2@a/certs", "holds an account"),
        ("smb://a/certs?x", "%3F"),
        ("smb://a/certs#x", "%23"),
        ("smb://a/certs/..", "cannot be"),
        ("smb://a/certs/%2e%2e/x", "cannot be"),
        ("smb://a/ce%5Crts", "cannot be"),
        ("smb://a/ce%2Frts", "cannot be"),
        ("smb://a/c%00", "cannot be"),
        ("smb://a/c%FF", "UTF-8"),
    ],
)
def test_what_is_no_share_is_refused(url: str, why: str):
    with pytest.raises(SettingsError, match=why) as caught:
        Location.parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_key_is_below_the_folder():
    assert Location.parse("smb://a/s").path("x.pfx") == "x.pfx"
    assert Location.parse("smb://a/s/f/g").path("x.pfx") == "f\\g\\x.pfx"


def test_a_share_needs_an_account_and_a_folder_has_none():
    with pytest.raises(SettingsError, match="needs an account"):
        open_store("smb://files/certs")
    with pytest.raises(SettingsError, match="leave username"):
        open_store("/srv/certs", account=Account("reader", b"".strip))


async def test_opening_asks_nothing():
    store = open_store("smb://192.0.2.1/certs", account=Account("reader", b"".strip))
    assert store.url == "smb://192.0.2.1/certs"
    await store.close()


def test_an_account_has_one_secret(tmp_path: Path):
    with pytest.raises(ValueError, match="either"):
        Account("reader")
    with pytest.raises(ValueError, match="either"):
        Account("reader", b"".strip, tmp_path)


def test_an_account_shows_no_secret():
    assert "strip" not in repr(Account("reader", b"secret".strip))
