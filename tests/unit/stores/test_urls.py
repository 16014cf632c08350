"""Which store a text names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from centcert.errors import SettingsError
from centcert.stores import FolderStore, open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/certificates", "/srv/certificates"),
        ("/srv/a%20b", "/srv/a%20b"),
        ("file:///srv/certificates", "/srv/certificates"),
        ("file://localhost/srv/a%20b", "/srv/a b"),
        ("file:/srv/certificates", "/srv/certificates"),
        ("/srv/../srv/./certificates/", "/srv/certificates"),
    ],
)
def test_folders(url: str, path: str):
    store = open_store(url)
    assert isinstance(store, FolderStore)
    assert store.url == path


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("store").url == str(tmp_path / "store")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "name a folder"),
        ("/srv/\0", "name a folder"),
        ("file://", "name a folder"),
        ("ftp://server/path", "No kind of store is called ftp://"),
        ("file://server/share", "a folder of this machine"),
        ("file:///srv?x=1", "a folder of this machine"),
        ("http://[", "malformed"),
        (r"\\server\share\folder", "write smb://server/share/folder instead"),
    ],
)
def test_what_names_no_store(url: str, advice: str):
    with pytest.raises(SettingsError, match=advice):
        open_store(url)


def test_no_password_is_shown():
    with pytest.raises(SettingsError) as caught:
        open_store("ftp://user:secret@server/path")
    assert "secret" not in str(caught.value)
