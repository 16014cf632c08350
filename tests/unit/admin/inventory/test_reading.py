from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from centcert.admin.inventory import reading
from centcert.admin.inventory.cache import Cache, Conditions
from centcert.admin.inventory.reading import (
    FETCHES,
    Readable,
    Stock,
    Unreadable,
    examine,
    read_stock,
)
from centcert.credential import MAX_BLOB_BYTES, Credential, decode
from centcert.errors import (
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from centcert.stores import MemoryStore
from centcert.testing import Authority, Issued

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.stores import Blob

PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class Reads(MemoryStore):
    """A store that counts what is asked of it at once, and fails for certain keys."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.failures: dict[str, StoreError] = {}
        self.at_once = self.most_at_once = 0

    async def fetch(self, key: str) -> Blob | None:
        self.fetched.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if key in self.failures:
                raise self.failures[key]
            return await super().fetch(key)
        finally:
            self.at_once -= 1


class Shelf:
    """A store with its cache."""

    def __init__(self, folder: Path) -> None:
        self.store = Reads()
        self.folder = folder
        self.progress: list[tuple[int, int]] = []

    async def read(self) -> dict[str, Readable | Unreadable]:
        cache = Cache(self.folder, Conditions.of(self.store.url, []))
        cache.load()
        self.stock: Stock = await read_stock(
            self.store, [PASSWORD], cache, lambda done, of: self.progress.append((done, of))
        )
        cache.save()
        return {one.file.key: one.reading for one in self.stock.files}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_files_become_what_they_say(shelf: Shelf, authority: Authority):
    shelf.store.put("rsa.example.pfx", authority.issue("x", key_type="rsa-2048").pfx(PASSWORD))
    shelf.store.put("b.example.pem", authority.issue("B.example", "*.b.example").pem())
    shelf.store.put("closed.example.pfx", authority.issue("x").pfx(b"other"))
    shelf.store.put("readme.txt", b"")
    found = await shelf.read()
    b, rsa, closed = found["b.example.pem"], found["rsa.example.pfx"], found["closed.example.pfx"]
    assert isinstance(b, Readable)
    assert isinstance(rsa, Readable)
    assert (b.facts.names, b.facts.public_key) == (("b.example", "*.b.example"), "P-256")
    assert (b.has_issuer, b.weak_signatures, rsa.facts.public_key) == (True, (), "RSA 2048")
    assert isinstance(closed, Unreadable)
    assert closed.code == "wrong-password"
    assert (len(found), shelf.stock.others) == (3, 1)
    assert shelf.progress == [(0, 3), (1, 3), (2, 3), (3, 3)]


async def test_what_has_not_changed_is_not_fetched_again(shelf: Shelf, authority: Authority):
    for number in range(3):
        shelf.store.put(f"{number}.example.pfx", authority.issue("x").pfx())
    shelf.store.put("bad.example.pfx", b"bad")
    shelf.store.put("closed.example.pfx", authority.issue("x").pfx(b"other"))
    first = await shelf.read()
    shelf.store.fetched.clear()
    shelf.store.put("1.example.pfx", authority.issue("renewed.example").pfx())
    second = await shelf.read()
    assert set(shelf.store.fetched) == {"1.example.pfx", "closed.example.pfx"}
    assert {key for key in first if first[key] != second[key]} == {"1.example.pfx"}
    assert first.keys() == second.keys()


async def test_without_anything_new_no_process_is_started(
    shelf: Shelf, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    shelf.store.put("x.example.pfx", authority.issue("x").pfx())
    first = await shelf.read()
    monkeypatch.delattr(reading, "Decoder")
    assert await shelf.read() == first


async def test_reads_at_once_are_bounded(shelf: Shelf):
    for number in range(FETCHES * 3):
        shelf.store.put(f"{number}.example.pfx", b"bad")
    await shelf.read()
    assert shelf.store.most_at_once == FETCHES


@pytest.mark.parametrize("kind", [StoreDenied, StoreBusy])
async def test_a_file_that_is_not_given_is_one_line(
    shelf: Shelf, authority: Authority, kind: type[StoreError]
):
    shelf.store.put("x.example.pfx", authority.issue("x").pfx())
    shelf.store.put("y.example.pfx", authority.issue("y").pfx())
    shelf.store.failures["x.example.pfx"] = kind(shelf.store.url, "No.")
    found = await shelf.read()
    assert found["x.example.pfx"] == Unreadable(kind.code, "No.")
    assert isinstance(found["y.example.pfx"], Readable)


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreAuthenticationFailed])
async def test_a_store_that_gives_no_answer_ends_it(shelf: Shelf, kind: type[StoreError]):
    for number in range(FETCHES * 3):
        shelf.store.put(f"{number}.example.pfx", b"bad")
    for number in range(10):
        shelf.store.failures[f"{number}.example.pfx"] = kind(shelf.store.url, "No.")
    with pytest.raises(kind):
        await shelf.read()
    assert len(shelf.store.fetched) < FETCHES * 3


async def test_a_file_that_is_gone_by_then_is_left_out(shelf: Shelf, authority: Authority):
    shelf.store.put("x.example.pfx", authority.issue("x").pfx())
    shelf.store.put("y.example.pfx", b"bad")
    fetch = shelf.store.fetch

    async def one_goes(key: str) -> Blob | None:
        return None if key == "y.example.pfx" else await fetch(key)

    shelf.store.fetch = one_goes  # type: ignore[method-assign]
    assert set(await shelf.read()) == {"x.example.pfx"}


async def test_a_file_that_is_replaced_after_the_listing_is_known_as_what_was_read(
    shelf: Shelf, authority: Authority
):
    old, new = (authority.issue(name).pfx() for name in ("old.example", "new.example"))
    shelf.store.put("x.example.pfx", old)
    fetch = shelf.store.fetch

    async def replaced(key: str) -> Blob | None:
        shelf.store.put("x.example.pfx", new)
        return await fetch(key)

    shelf.store.fetch = replaced  # type: ignore[method-assign]
    first = await shelf.read()
    shelf.store.fetch = fetch  # type: ignore[method-assign]
    shelf.store.fetched.clear()
    assert await shelf.read() == first
    assert shelf.store.fetched == []


async def test_a_file_that_is_too_large_is_one_line(shelf: Shelf):
    shelf.store.put("x.example.pfx", bytes(MAX_BLOB_BYTES + 1))
    (found,) = (await shelf.read()).values()
    assert isinstance(found, Unreadable)
    assert found.code == "blob-too-large"


# --- what is read of a credential -----------------------------------------------------


def credential_in(data: bytes) -> Credential:
    return decode(data, key="x.example.pfx", passwords=[])


def test_a_missing_issuer_is_seen(authority: Authority):
    issued = authority.issue("x.example")
    assert examine(credential_in(issued.pfx())).has_issuer
    alone = Issued(issued.certificate, (), issued.private_key)
    assert not examine(credential_in(alone.pfx())).has_issuer


@pytest.mark.parametrize(("digest", "weak"), [("sha1", ("old.example",)), ("sha256", ())])
def test_a_weak_signature_is_seen(digest: str, weak: tuple[str, ...], tmp_path: Path):
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -noenc -keyout key.pem -out leaf.pem -{digest}"
        " -subj /CN=old.example".split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    pem = (tmp_path / "key.pem").read_bytes() + (tmp_path / "leaf.pem").read_bytes()
    found = examine(credential_in(pem))
    assert (found.weak_signatures, found.has_issuer) == (weak, True)
