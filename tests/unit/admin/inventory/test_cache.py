from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.admin.inventory import cache as cache_module
from centcert.admin.inventory.cache import Cache, Conditions, cache_folder
from centcert.errors import BlobTooCostly, StoreBusy, StoreDenied, WrongPassword
from tests.unit.admin.inventory.made import readable, unreadable

if TYPE_CHECKING:
    from pathlib import Path

URL = "smb://files.example/certs"
GOOD = readable("x.example.pfx", "x.example")
BAD = unreadable("y.example.pfx")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("correct horse")
    return file


def opened(folder: Path, password_file: Path, url: str = URL) -> Cache:
    cache = Cache(folder, Conditions.of(url, [password_file]))
    cache.load()
    return cache


@pytest.fixture
def folder(tmp_path: Path, password_file: Path) -> Path:
    folder = tmp_path / "home" / "cache"
    cache = opened(folder, password_file)
    cache.replace([GOOD, BAD])
    cache.save()
    return folder


def file_of(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_was_held_is_found_again(folder: Path, password_file: Path):
    cache = opened(folder, password_file)
    assert cache.find("x.example.pfx", "1") == GOOD.reading
    assert cache.find("y.example.pfx", "1") == BAD.reading
    assert cache.find("x.example.pfx", "2") is None
    assert cache.find("z.example.pfx", "1") is None
    assert cache.find("z.example.pfx", "") is None


def test_nobody_else_reads_it_and_no_password_is_in_it(folder: Path):
    assert file_of(folder).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert b"correct horse" not in file_of(folder).read_bytes()


def test_other_conditions_hold_nothing(
    folder: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
):
    assert opened(folder, password_file, URL + "/other").find("x.example.pfx", "1") is None
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "__version__", "0.0.0")
        assert opened(folder, password_file).find("x.example.pfx", "1") is None
    assert opened(folder, password_file).find("x.example.pfx", "1") is not None
    password_file.write_text("correct house")
    os.utime(password_file, ns=(1, 1))
    assert opened(folder, password_file).find("x.example.pfx", "1") is None


def test_no_other_store_is_taken_for_this_one(
    folder: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also if two URLs had one mark: the URL stands in the file."""
    other = Cache(folder, Conditions.of(URL + "/other", [password_file]))
    monkeypatch.setattr(other, "_path", file_of(folder))
    other.load()
    assert other.find("x.example.pfx", "1") is None


def test_what_another_moment_may_change_is_not_held(folder: Path, password_file: Path):
    cache = opened(folder, password_file)
    fleeting = [
        unreadable(f"{kind.code}.pfx", kind.code)
        for kind in (WrongPassword, BlobTooCostly, StoreBusy, StoreDenied)
    ]
    cache.replace([*fleeting, BAD])
    assert cache.find("y.example.pfx", "1") is not None
    assert all(cache.find(one.file.key, "1") is None for one in fleeting)
    assert cache.find("x.example.pfx", "1") is None, "what is gone is not held either"


def test_lines_are_bounded(folder: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_module, "MAX_FILES", 1)
    cache = opened(folder, password_file)
    cache.replace([GOOD, BAD])
    assert cache.find("x.example.pfx", "1") is not None
    assert cache.find("y.example.pfx", "1") is None


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", b"\x81\xa1a\xa1b", b"{}", bytes(4_000)])
def test_a_damaged_cache_is_ignored_and_replaced(folder: Path, password_file: Path, data: bytes):
    file_of(folder).write_bytes(data)
    cache = opened(folder, password_file)
    assert cache.find("x.example.pfx", "1") is None
    cache.replace([GOOD])
    cache.save()
    assert opened(folder, password_file).find("x.example.pfx", "1") == GOOD.reading


def test_a_cut_cache_is_ignored(folder: Path, password_file: Path):
    whole = file_of(folder).read_bytes()
    for kept in range(len(whole)):
        file_of(folder).write_bytes(whole[:kept])
        assert opened(folder, password_file).find("x.example.pfx", "1") is None


def test_a_cache_that_others_may_have_written_is_not_read(
    folder: Path, password_file: Path, tmp_path: Path
):
    file = file_of(folder)
    file.chmod(0o666)
    assert opened(folder, password_file).find("x.example.pfx", "1") is None
    file.chmod(0o600)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert opened(folder, password_file).find("x.example.pfx", "1") is None
    file.unlink()
    os.mkfifo(file, 0o600)
    assert opened(folder, password_file).find("x.example.pfx", "1") is None


def test_a_cache_that_is_too_large_is_not_read(
    folder: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_module, "MAX_BYTES", file_of(folder).stat().st_size - 1)
    assert opened(folder, password_file).find("x.example.pfx", "1") is None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, password_file: Path):
    (tmp_path / "file").write_text("")
    cache = opened(tmp_path / "file" / "cache", password_file)
    cache.replace([GOOD])
    cache.save()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    assert str(cache_folder()) == "/home/somebody/.cache/centcert"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(cache_folder()) == "/caches/centcert"
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/centcert:/other")
    assert str(cache_folder()) == "/var/cache/centcert"


def test_it_is_nothing_but_what_is_listed(folder: Path):
    """Guards: key material would be a field that is not here."""
    raw = msgspec.msgpack.decode(file_of(folder).read_bytes())
    assert raw.keys() == {"conditions", "readings"}
    (version, reading) = raw["readings"]["x.example.pfx"]
    assert version == "1"
    assert reading.keys() == {"type", "facts", "weak_signatures", "has_issuer"}
    assert reading["facts"].keys() == {
        *("issued_to", "issued_by", "names", "public_key", "not_before", "not_after"),
        *("fingerprint", "chain"),
    }
