"""The account in ``[store]``: a share has one, a folder has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert.admin.settings_file import read_settings
from centcert.errors import SettingsError

if TYPE_CHECKING:
    from centcert.admin.settings import StoreSettings

LISTEN = {"address": [":443"], "to": "127.0.0.1:8080"}
SHARE = "smb://files/certs"


def store(**settings: str) -> StoreSettings:
    return read_settings(None, {"store": settings, "listen": LISTEN}).store


def test_the_password_is_read_when_it_is_asked_for(tmp_path: Path):
    file = tmp_path / "password"
    account = store(url=SHARE, username="reader", password_file=str(file)).account()
    assert account is not None
    assert account.password is not None
    for password in (b"one", b"another"):
        file.touch(mode=0o600)
        file.write_bytes(password + b"\n")
        assert account.password() == password
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        account.password()


def test_a_keytab_is_the_other_secret():
    account = store(url=SHARE, username="reader@REALM", keytab="/etc/reader.keytab").account()
    assert account is not None
    assert (account.password, account.keytab) == (None, Path("/etc/reader.keytab"))


def test_a_folder_has_no_account():
    assert store(url="/srv/certs").account() is None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"url": SHARE}, "username, and either"),
        ({"url": SHARE, "username": "reader"}, "username, and either"),
        ({"url": SHARE, "password_file": "/p"}, "username, and either"),
        ({"url": SHARE, "username": "", "password_file": "/p"}, "username, and either"),
        (
            {"url": SHARE, "username": "reader", "password_file": "/p", "keytab": "/k"},
            "username, and either",
        ),
        ({"url": "/srv/certs", "username": "reader"}, "are for a share"),
        ({"url": "/srv/certs", "password_file": "/p"}, "are for a share"),
        ({"url": "/srv/certs", "keytab": "/k"}, "are for a share"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, str], why: str):
    with pytest.raises(SettingsError, match=why):
        store(**settings)
