"""The sealing key's file, and what a seal opens."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from centcert.errors import SettingsError
from centcert.provider.seal import Damaged, Foreign, Seals, sealing_key

if TYPE_CHECKING:
    from pathlib import Path

KEY, NEW = bytes(32), bytes([1]) * 32


def test_a_key_is_made_at_first_use_and_stays(tmp_path: Path):
    path = tmp_path / "sealing.key"
    key = sealing_key(path)
    assert len(key) == 32
    assert path.read_bytes() == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    assert sealing_key(path) == key
    assert sealing_key(tmp_path / "another.key") != key
    assert len(list(tmp_path.iterdir())) == 2


def test_of_many_that_make_it_at_once_all_have_the_same(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            path = tmp_path / f"{turn}.key"
            assert len(set(pool.map(sealing_key, [path] * 8))) == 1


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o610])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "sealing.key"
    path.write_bytes(secrets.token_bytes(32))
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        sealing_key(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to others")
def test_whose_the_key_is_matters_as_for_any_secret(tmp_path: Path):
    """A systemd credential belongs to root and shows its access list as a group's right."""
    path = tmp_path / "sealing.key"
    path.write_bytes(NEW)
    path.chmod(0o440)
    os.chown(path, 0, 0)
    assert sealing_key(path) == NEW
    os.chown(path, -1, 12_345)
    with pytest.raises(SettingsError, match="open to others"):
        sealing_key(path)
    path.chmod(0o400)
    os.chown(path, 12_345, 0)
    with pytest.raises(SettingsError, match="belongs to another user"):
        sealing_key(path)


@pytest.mark.parametrize("size", [0, 31, 33, 1000])
def test_a_key_of_another_size_is_refused_and_not_shown(tmp_path: Path, size: int):
    path = tmp_path / "sealing.key"
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="32 bytes") as caught:
        sealing_key(path)
    assert "kkk" not in str(caught.value)
    assert path.stat().st_size == size


def test_a_key_that_cannot_be_made_is_told(tmp_path: Path):
    with pytest.raises(SettingsError, match="No such file"):
        sealing_key(tmp_path / "none" / "sealing.key")


def test_a_key_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(SettingsError, match="No space left"):
            sealing_key(tmp_path / "sealing.key")
    assert list(tmp_path.iterdir()) == []


def test_a_seal_opens_for_its_key_store_and_file_name_only():
    sealed = Seals([KEY], "store").seal("name", b"secret")
    assert Seals([KEY], "store").open("name", sealed) == b"secret"
    assert Seals([NEW, KEY], "store").open("name", sealed) == b"secret"
    for others in (Seals([NEW], "store"), Seals([KEY], "another")):
        with pytest.raises(Foreign):
            others.open("name", sealed)
    with pytest.raises(Damaged):
        Seals([KEY], "store").open("another", sealed)


def test_the_first_key_seals():
    sealed = Seals([NEW, KEY], "store").seal("name", b"secret")
    assert Seals([NEW], "store").open("name", sealed) == b"secret"


def test_file_names_tell_keys_versions_stores_and_sealing_keys_apart():
    groups = {
        Seals([sealing], store).group(key, version)
        for sealing in (KEY, NEW)
        for store in ("s", "t")
        for key, version in (("a", "bc"), ("ab", "c"), ("a", "b"), ("1 a", "b"), ("", "ab"))
    }
    assert len(groups) == 20


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_keys_have_one_size(keys: list[bytes]):
    with pytest.raises(ValueError, match="32 bytes"):
        Seals(keys, "store")
