"""Last-good copies: what is kept, sealed, bounded, lost and told."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from centcert.credential import Credential, Parts, decode
from centcert.errors import SettingsError
from centcert.names import HostName
from centcert.provider import lastgood, sheets
from centcert.provider.copies import MAX_NAMES_A_SHEET, Copies, Pack, Sheet
from centcert.provider.lastgood import Fault, LastGood
from centcert.provider.sheets import Sheets
from centcert.testing import Authority, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cryptography.x509 import Certificate

    from centcert.testing import KeyType

AUTHORITY = Authority()
KEY = bytes(range(32))
URL = "smb://files/certificates"
A, B, C, D = (HostName.parse(f"{label}.example") for label in "abcd")


def credential(*names: str, key: str | None = None, key_type: KeyType = "ec-p256") -> Credential:
    blob = AUTHORITY.issue(*names, key_type=key_type).pem()
    return decode(blob, key=key or f"{names[0]}.pem", passwords=())


ONE, OTHER, WILDCARD = credential("a.example"), credential("a.example"), credential("*.example")


class Rig:
    """A folder, a clock, and what was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.faults: list[Fault] = []

    def open(
        self, *keys: bytes, url: str = URL, max_bytes: int = 1024**3, max_names: int = 1000
    ) -> LastGood:
        return LastGood(
            self.folder,
            keys or (KEY,),
            store_url=url,
            listener=self.faults.append,
            clock=self.clock,
            max_bytes=max_bytes,
            max_names=max_names,
        )

    def codes(self) -> list[str]:
        return [fault.code if fault.sentence else f"-{fault.code}" for fault in self.faults]

    def packs(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if "-" not in path.name)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "copies")


async def served(copies: LastGood, name: HostName) -> bytes | None:
    copy = await copies.recall(name)
    return None if copy is None else copy.credential.fingerprint


async def keep_together(copies: LastGood, *names: HostName) -> None:
    """Let each name have a certificate of its own, all in one pack."""
    for name in names:
        copies.keep(name, "v1", credential_of(name))
    await copies.flush()


def refuse_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let starts open every pack, as after a crash."""

    async def write_no_index(_self: Sheets) -> None:
        pass

    monkeypatch.setattr(Sheets, "write_index", write_no_index)


@pytest.fixture(params=["with an index", "without"])
def _index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        refuse_index(monkeypatch)


# --- keeping and recalling ----------------------------------------------------------


@pytest.mark.usefixtures("_index")
@pytest.mark.parametrize("key_type", ["ec-p256", "ec-p384", "rsa-2048", "ed25519"])
async def test_what_was_served_outlives_a_restart(rig: Rig, key_type: KeyType):
    kept = credential("a.example", key="a.example.pfx", key_type=key_type)
    async with rig.open() as copies:
        assert not copies.has(A)
        assert await copies.recall(A) is None
        copies.keep(A, "v1", kept)
        assert copies.has(A)
        await copies.flush()
    async with rig.open() as copies:
        assert copies.has(A)
        assert not copies.has(B)
        copy = await copies.recall(A)
        assert copy is not None
        assert copy.version == "v1"
        assert copy.credential.to_parts() == kept.to_parts()
        assert copy.credential.not_after == kept.not_after
        assert await copies.recall(B) is None
    assert rig.faults == []


async def test_closing_writes_what_is_pending(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
    async with rig.open() as copies:
        assert await served(copies, A) == ONE.fingerprint


async def test_what_is_pending_is_recalled_from_memory(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        copy = await copies.recall(A)
        assert copy is not None
        assert copy.credential is ONE
        copies.forget(A)
        assert not copies.has(A)
        assert await copies.recall(A) is None


async def test_it_is_written_without_being_asked_to(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        async with asyncio.timeout(20):
            while not rig.packs():
                await asyncio.sleep(0.001)


@pytest.mark.usefixtures("_index")
async def test_a_new_version_replaces_the_old(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        copies.keep(A, "v2", OTHER)
        await copies.flush()
        assert await served(copies, A) == OTHER.fingerprint
        assert len(rig.packs()) == 1
    async with rig.open() as copies:
        assert await served(copies, A) == OTHER.fingerprint


async def test_what_is_kept_already_is_not_written_again(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        (before,) = [path.stat() for path in rig.packs()]
        copies.keep(A, "v1", ONE)
        await copies.flush()
        (after,) = [path.stat() for path in rig.packs()]
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.usefixtures("_index")
async def test_a_withdrawn_name_is_forgotten_for_good(rig: Rig):
    async with rig.open() as copies:
        for name in (A, B):
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        copies.forget(A)
        await copies.flush()
        assert not copies.has(A)
    async with rig.open() as copies:
        assert not copies.has(A)
        assert await served(copies, B) == WILDCARD.fingerprint
        copies.forget(B)
        await copies.flush()
        assert rig.packs() == []
    async with rig.open() as copies:
        assert not copies.has(B)


@pytest.mark.usefixtures("_index")
async def test_the_names_of_a_wildcard_share_few_sheets(rig: Rig):
    names = [HostName.parse(f"host-{number}.example") for number in range(1000)]
    async with rig.open() as copies:
        for name in names[:600]:
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        for name in names[600:]:
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        assert len(copies._sheets.catalogue.place) == -(-1000 // MAX_NAMES_A_SHEET)
    async with rig.open() as copies:
        assert all(copies.has(name) for name in names)
        assert await served(copies, names[0]) == await served(copies, names[-1])
        for name in names:
            copies.keep(name, "v2", OTHER_WILDCARD)
        await copies.flush()
        assert len(copies._sheets.catalogue.place) == -(-1000 // MAX_NAMES_A_SHEET)
        assert await served(copies, names[500]) == OTHER_WILDCARD.fingerprint
    assert rig.faults == []


OTHER_WILDCARD = credential("*.example")


async def test_a_name_moves_between_its_own_file_and_the_wildcards(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
        copies.keep(A, "v1", ONE)
        await copies.flush()
    async with rig.open() as copies:
        assert await served(copies, A) == ONE.fingerprint
        assert await served(copies, B) == WILDCARD.fingerprint


async def test_only_a_certificate_for_the_name_is_recalled(rig: Rig):
    async with rig.open() as copies:
        copies.keep(B, "v1", ONE)
        assert await copies.recall(B) is None
        await copies.flush()
        assert await copies.recall(B) is None


async def test_an_expired_copy_is_ignored_and_told_once(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        rig.clock.advance(ONE.not_after - rig.clock.wall())
        assert await served(copies, A) == ONE.fingerprint, "it is valid to its last second"
        rig.clock.advance(1)
        assert await copies.recall(A) is None
        assert await copies.recall(A) is None
        assert rig.codes() == ["copy-expired"]
        assert rig.faults[0].subject == "a.example.pem"
        rig.clock.advance(-1)  # a clock that was wrong must not have cost the copy
        assert await served(copies, A) == ONE.fingerprint


class SlowRead:
    """Lets each read of a sheet wait, before or after it, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
        self.go_on = threading.Event()
        self._begun = threading.Event()
        self._after = after
        self._read = Copies.read

        def read(copies: Copies, file_name: str, sheet_id: str) -> Sheet:
            return self.read(copies, file_name, sheet_id)

        monkeypatch.setattr(Copies, "read", read)

    def read(self, copies: Copies, file_name: str, sheet_id: str) -> Sheet:
        sheet = self._read(copies, file_name, sheet_id) if self._after else None
        self._begun.set()
        self.go_on.wait()
        return sheet or self._read(copies, file_name, sheet_id)

    async def until_begun(self) -> None:
        async with asyncio.timeout(20):
            while not self._begun.is_set():
                await asyncio.sleep(0.001)


async def test_a_name_withdrawn_while_it_is_read_is_not_served(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        slow = SlowRead(monkeypatch, after=True)
        recall = asyncio.ensure_future(copies.recall(A))
        await slow.until_begun()
        copies.forget(A)
        slow.go_on.set()
        assert await recall is None


async def test_a_name_that_moves_while_it_is_read_is_served(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        slow = SlowRead(monkeypatch, after=False)
        recall = asyncio.ensure_future(copies.recall(A))
        await slow.until_begun()
        copies.keep(A, "v2", OTHER)
        await copies.flush()
        slow.go_on.set()
        copy = await recall
        assert copy is not None
        assert copy.credential.fingerprint == OTHER.fingerprint
        assert rig.faults == []


async def test_a_name_that_another_process_has_withdrawn_is_not_served(rig: Rig):
    async with rig.open() as first:
        for name in (A, B, C):
            first.keep(name, "v1", ONE if name == C else WILDCARD)
        await first.flush()
        async with rig.open() as second:
            for name in (A, C):
                first.forget(name)
            await first.flush()
            assert await second.recall(A) is None, "its sheet is there and lists it no more"
            assert await second.recall(C) is None, "its sheet is gone from the pack"
            assert await served(second, B) == WILDCARD.fingerprint
    assert rig.faults == []


async def test_an_older_pack_put_back_does_not_bring_a_withdrawn_name_back(rig: Rig):
    async with rig.open() as copies:
        for name in (A, B):
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        (pack,) = rig.packs()
        old = pack.read_bytes()
        copies.forget(A)
        await copies.flush()
        pack.write_bytes(old)
        assert not copies.has(A)
        assert await served(copies, B) == WILDCARD.fingerprint


async def test_a_sheet_that_does_not_load_costs_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    from_parts = Credential.from_parts

    def refuse_one(parts: Parts, *, load_issuer: Callable[[bytes], Certificate]) -> Credential:
        if parts.certificate == ONE.leaf:
            raise ValueError
        return from_parts(parts, load_issuer=load_issuer)

    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Credential, "from_parts", refuse_one)
            assert await copies.recall(A) is None
        assert not copies.has(A)
        assert rig.codes() == ["copy-damaged"]
        await copies.flush()
        assert await served(copies, B) == WILDCARD.fingerprint
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B)] == [False, True]


async def test_a_sheet_that_grows_has_no_other_written_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    names = [HostName.parse(f"host-{number}.example") for number in range(3)]
    write, written = Copies.write, list[int]()

    def count(copies: Copies, file_name: str, sheets: Mapping[str, Sheet]) -> Pack:
        written.append(len(sheets))
        return write(copies, file_name, sheets)

    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)
        copies.keep(B, "v1", ONE)
        await copies.flush()
        monkeypatch.setattr(Copies, "write", count)
        for number, name in enumerate(names):
            copies.keep(name, "v1", WILDCARD)
            copies.keep(HostName.parse(f"other-{number}.example"), f"w{number}", OTHER)
            await copies.flush()
        assert written == [1, 1, 1, 1, 1, 1, 1], "and B's once, when the wildcard's left its pack"
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B, *names)] == [True] * 5


async def test_a_disk_that_hangs_keeps_no_handshake_waiting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    go_on = threading.Event()
    monkeypatch.setattr(lastgood, "RECALL_S", 0.01)
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        monkeypatch.setattr(Copies, "read", lambda *_: go_on.wait())
        assert await copies.recall(A) is None
        assert rig.codes() == ["copies-unread"]
        go_on.set()
        monkeypatch.undo()
        async with asyncio.timeout(20):
            while await copies.recall(A) is None:
                await asyncio.sleep(0.001)
        assert rig.codes() == ["copies-unread", "-copies-unread"]


# --- what is on the disk ------------------------------------------------------------


async def test_no_key_no_name_and_no_url_is_on_the_disk_in_clear(rig: Rig):
    kept = [credential(f"{kind}.example", key_type=kind) for kind in ("ec-p256", "rsa-2048")]
    async with rig.open() as copies:
        for one in kept:
            copies.keep(HostName.parse(one.patterns[0]), "v1", one)
        await copies.flush()
    data = b"".join(path.read_bytes() for path in rig.folder.iterdir())
    assert len(rig.packs()) == 1
    assert len(data) > 3000
    for one in kept:
        for wanted in (*forms(one), one.patterns[0].encode(), b"files/certificates", KEY):
            assert wanted not in data
        assert one.patterns[0] not in str(list(rig.folder.iterdir()))
    assert "PRIVATE" not in repr(copies) + repr(copies.__dict__)


def forms(one: Credential) -> list[bytes]:
    key = one.private_key
    der = [
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return [*der, key.private_numbers().private_value.to_bytes(32)]
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    return [*der, numbers.p.to_bytes(128), numbers.q.to_bytes(128), numbers.d.to_bytes(256)[8:]]


async def test_folder_and_files_are_the_accounts_alone(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
    assert rig.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in rig.folder.iterdir()} == {0o600}


async def test_a_folder_open_to_others_is_refused(rig: Rig):
    rig.folder.mkdir()
    rig.folder.chmod(0o750)
    with pytest.raises(SettingsError, match="chmod 700"):
        await rig.open().__aenter__()


async def test_the_same_credential_is_never_sealed_alike(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    refuse_index(monkeypatch)
    seen = set()
    for _ in range(3):
        async with rig.open() as copies:
            copies.keep(A, "v1", ONE)
            await copies.flush()
            (pack,) = rig.packs()
            seen.add(pack.read_bytes()[-64:])
            copies.forget(A)
    assert len(seen) == 3


# --- damage and strangers -----------------------------------------------------------


async def test_a_copy_of_another_store_is_ignored_and_stays(rig: Rig):
    async with rig.open(url="smb://files/old") as copies:
        copies.keep(A, "v1", ONE)
        copies.keep(B, "v1", WILDCARD)
    async with rig.open() as copies:
        assert not copies.has(A)
        assert await copies.recall(A) is None
        assert rig.codes() == ["copies-foreign"]
        assert "(files: 1)" in str(rig.faults[0].sentence)
    async with rig.open(url="smb://files/old") as copies:
        assert await served(copies, A) == ONE.fingerprint


async def test_the_old_key_opens_and_the_new_one_seals(rig: Rig):
    new = secrets.token_bytes(32)
    async with rig.open(KEY) as copies:
        copies.keep(A, "v1", ONE)
        copies.keep(B, "v1", WILDCARD)
        copies.keep(C, "v1", WILDCARD)
    async with rig.open(new, KEY) as copies:
        assert await served(copies, A) == ONE.fingerprint
        copies.keep(A, "v1", ONE)
        copies.forget(C)
        await copies.flush()
        assert await served(copies, A) == ONE.fingerprint
    assert rig.faults == []
    async with rig.open(new) as copies:
        assert await served(copies, A) == ONE.fingerprint
        assert await served(copies, B) == WILDCARD.fingerprint, "its sheet was written anew"
        assert not copies.has(C)
    rig.faults.clear()
    async with rig.open(KEY) as copies:
        assert not copies.has(A)
        assert rig.codes() == ["copies-foreign"]


async def test_what_an_old_key_opens_again_is_older_than_what_was_kept_meanwhile(rig: Rig):
    new = secrets.token_bytes(32)
    async with rig.open(KEY) as copies:
        for version in ("v0", "v1"):
            copies.keep(A, version, ONE)
            await copies.flush()
    rig.clock.advance(1)
    async with rig.open(new) as copies:
        copies.keep(A, "v2", OTHER)
    async with rig.open(new, KEY) as copies:
        assert await served(copies, A) == OTHER.fingerprint


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "link", "folder", "fifo"])
async def test_damage_at_a_start_is_told_and_removed(
    rig: Rig, damage: str, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        (pack,) = rig.packs()
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
    harm(pack, damage)
    async with rig.open() as copies:
        assert not copies.has(A)
        assert await served(copies, B) == WILDCARD.fingerprint
        assert rig.codes()[0] == "copy-damaged"
        assert rig.faults[0].subject == str(pack)
        if damage != "folder":
            assert len(rig.packs()) == 1
            copies.keep(A, "v1", ONE)
            await copies.flush()
            assert await served(copies, A) == ONE.fingerprint


def harm(path: Path, damage: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "empty":
        path.touch()
    elif damage == "folder":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    else:
        kept = path.parent.with_name("elsewhere")
        kept.write_bytes(data)
        path.symlink_to(kept)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
async def test_damage_while_running_is_told_once_and_kept_anew(rig: Rig, damage: str):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        (pack,) = rig.packs()
        if damage == "gone":
            pack.unlink()
        else:
            harm(pack, damage)
        assert await copies.recall(A) is None
        assert await copies.recall(A) is None
        assert not copies.has(A)
        assert rig.codes() == ["copy-damaged"]
        await copies.flush()
        assert rig.packs() == []
        copies.keep(A, "v1", ONE)
        await copies.flush()
        assert await served(copies, A) == ONE.fingerprint


async def test_a_damaged_index_costs_nothing_but_time(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
    harm(rig.folder / "index-0", "flip")
    async with rig.open() as copies:
        assert await served(copies, A) == ONE.fingerprint
        assert rig.codes() == ["copy-damaged"]


async def test_an_old_index_is_believed_in_nothing_that_changed(rig: Rig):
    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)
        copies.keep(B, "v1", WILDCARD)
    old = (rig.folder / "index-0").read_bytes()
    async with rig.open() as copies:
        copies.forget(A)
        copies.keep(C, "v1", WILDCARD)
    (rig.folder / "index-0").write_bytes(old)
    async with rig.open() as copies:
        assert not copies.has(A)
        assert copies.has(B)
        assert copies.has(C)


async def test_the_index_spares_opening_the_packs(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    names = [HostName.parse(f"host-{number}.example") for number in range(50)]
    monkeypatch.setattr(sheets, "PIECE_NAMES", 10)
    async with rig.open() as copies:
        for begin in range(0, 50, 10):
            for name in names[begin : begin + 10]:
                copies.keep(name, "v1", credential_of(name))
            await copies.flush()
    read: list[str] = []
    original = Copies._read

    def count(copies: Copies, file_name: str) -> object:
        read.append(file_name)
        return original(copies, file_name)

    monkeypatch.setattr(Copies, "_read", count)
    async with rig.open() as copies:
        assert all(copies.has(name) for name in names)
        assert sorted(read) == [f"index-{number}" for number in range(6)], "the last is empty"
        for name in names[5:]:
            copies.forget(name)
    assert sorted(p.name for p in rig.folder.iterdir() if "-" in p.name) == ["index-0"]


def credential_of(name: HostName) -> Credential:
    return Credential.from_parts(
        type(ONE.to_parts())(f"{name}.pem", *list(parts_without_key(WILDCARD)))
    )


def parts_without_key(one: Credential) -> tuple[Any, ...]:
    parts = one.to_parts()
    return parts.certificate, parts.issuers, parts.patterns, parts.private_key


async def test_of_two_sheets_with_one_name_the_later_is_right(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        (pack,) = rig.packs()
        old = pack.read_bytes()
        copies.keep(A, "v2", OTHER)
    pack.write_bytes(old)  # a crash before it was removed
    async with rig.open() as copies:
        assert await served(copies, A) == OTHER.fingerprint
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
        assert not pack.exists()


# --- bounds and times ---------------------------------------------------------------


@pytest.mark.usefixtures("_index")
async def test_names_unused_for_longest_make_room(rig: Rig):
    names = [HostName.parse(f"host-{number}.example") for number in range(20)]
    async with rig.open(max_names=10) as copies:
        for name in names:
            rig.clock.advance(1)
            copies.keep(name, "v1", credential_of(name))
            await copies.flush()
            copies.used(names[0])
        kept = {name for name in names if copies.has(name)}
        assert kept == {names[0], *names[11:]}
        assert len(rig.packs()) == 10
    async with rig.open() as copies:
        assert {name for name in names if copies.has(name)} == kept


async def test_the_disk_is_bounded(rig: Rig):
    names = [HostName.parse(f"host-{number}.example") for number in range(20)]
    async with rig.open(max_bytes=10 * 4096) as copies:
        for name in names:
            copies.keep(name, "v1", credential_of(name))
            await copies.flush()
        assert [copies.has(name) for name in names] == [False] * 10 + [True] * 10
        assert len(rig.packs()) == 10


@pytest.mark.usefixtures("_index")
async def test_a_pack_gives_room_without_being_given_up(rig: Rig):
    names = [HostName.parse(f"host-{number}.example") for number in range(16)]
    async with rig.open(max_bytes=3 * 4096) as copies:
        for name in names:
            copies.keep(name, "v1", credential_of(name))
        await copies.flush()
        kept = [copies.has(name) for name in names]
        assert kept == sorted(kept), "those used last"
        assert 0 < sum(kept) < len(names)
        (pack,) = rig.packs()
        assert 4096 < pack.stat().st_size <= 3 * 4096
    async with rig.open() as copies:
        assert [copies.has(name) for name in names] == kept
        assert await served(copies, names[-1]) is not None


async def test_a_pack_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    names = [HostName.parse(f"host-{number}.example") for number in range(20)]
    for limit, value in (("PACK_SHEETS", 5), ("PACK_BYTES", 9 * ONE.size // 2)):
        with monkeypatch.context() as patch:
            patch.setattr(sheets, limit, value)
            async with rig.open() as copies:
                for name in names:
                    copies.keep(name, limit, credential_of(name))
                await copies.flush()
                assert len(rig.packs()) == 4


async def test_strangers_go_before_any_name(rig: Rig):
    async with rig.open(url="smb://files/old") as copies:
        for name in (A, B):
            copies.keep(name, "v1", credential_of(name))
            await copies.flush()
        assert len(rig.packs()) == 2
    async with rig.open(max_bytes=4096) as copies:
        copies.keep(C, "v1", WILDCARD)
        await copies.flush()
        assert copies.has(C)
        assert len(rig.packs()) == 1


async def test_as_much_room_as_is_wanted_is_made_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    names = [HostName.parse(f"host-{number:02}.example") for number in range(40)]
    write, written = Copies.write, list[str]()

    def count(copies: Copies, file_name: str, sheets: Mapping[str, Sheet]) -> Pack:
        written.append(file_name)
        return write(copies, file_name, sheets)

    async with rig.open() as copies:
        for name in names:
            copies.keep(name, "v1", credential_of(name))
        await copies.flush()
        assert len(rig.packs()) == 3
    async with rig.open(max_names=10) as copies:
        monkeypatch.setattr(Copies, "write", count)
        copies.keep(A, "v1", ONE)
        await copies.flush()
        assert {name for name in (*names, A) if copies.has(name)} == {A, *names[31:]}
    assert len(rig.packs()) == 3
    assert len(written) == 2, "the new one and that of which some stay"


async def test_the_names_of_the_last_hours_are_listed_newest_first(rig: Rig):
    began = rig.clock.wall()
    async with rig.open() as copies:
        for name in (A, B, C):
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        for name in (B, A, C, B):
            rig.clock.advance(100)
            copies.used(name)
        copies.used(HostName.parse("stranger.example"))
    async with rig.open() as copies:
        assert copies.recently_used(0) == [B, C, A]
        assert copies.recently_used(began + 250) == [B, C]
        assert all(isinstance(name, HostName) for name in copies.recently_used(0))


async def test_what_waits_for_the_disk_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lastgood, "MAX_PENDING", 2)
    async with rig.open() as copies:
        for name in (A, B, C):
            copies.keep(name, "v1", WILDCARD)
        assert [copies.has(name) for name in (A, B, C)] == [False, True, True]
        await copies.flush()
        assert rig.codes() == ["copies-dropped", "-copies-dropped"]


def never(*_: object) -> object:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_withdrawal_is_never_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Guards: behind a disk that failed, later copies pushed it out and the name came back."""
    monkeypatch.setattr(lastgood, "MAX_PENDING", 2)
    names = [HostName.parse(f"host-{number}.example") for number in range(5)]
    async with rig.open() as copies:
        for name in (A, B):
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "write", never)
            for name in (A, B):
                copies.forget(name)
            copies.keep(B, "v2", OTHER_WILDCARD)  # and its name is kept anew, and dropped
            for name in names:
                copies.keep(name, "v1", WILDCARD)
            await copies.flush()
            assert [copies.has(name) for name in (A, B)] == [False, False]
            assert [copies.has(name) for name in names] == [False] * 3 + [True] * 2
        await copies.flush()
        assert "-copies-dropped" in rig.codes()
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B)] == [False, False]


async def test_a_full_disk_does_not_keep_what_was_withdrawn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Guards: what shares its pack could not be written anew, and a crash brought it back."""
    async with rig.open() as copies:
        await keep_together(copies, A, B)
        copies.forget(A)
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 1)
            await copies.flush()
        assert rig.packs() == []
        assert await served(copies, B) == WILDCARD.fingerprint
        await copies.flush()
        assert rig.codes() == ["copies-unwritten", "-copies-unwritten"]
        async with Rig(rig.folder).open() as other:  # as after a crash
            assert not other.has(A)
            assert await served(other, B) == WILDCARD.fingerprint


async def test_what_does_not_load_as_its_pack_must_go_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    def refuse(parts: Parts) -> Credential:
        raise ValueError(parts.key)

    async with rig.open() as copies:
        await keep_together(copies, A, B)
        copies.forget(A)
        with monkeypatch.context() as patch:
            patch.setattr(Credential, "from_parts", refuse)
            fail_at(patch, "write", 1)
            await copies.flush()
        assert not copies.has(B)
        assert "copy-damaged" in rig.codes()


async def test_a_full_disk_keeps_what_a_newer_copy_is_to_replace(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        await keep_together(copies, A, B)
        copies.keep(A, "v2", ONE)
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 2)  # of the pack that A has left
            await copies.flush()
        async with Rig(rig.folder).open() as other:
            assert await served(other, A) == ONE.fingerprint
            assert await served(other, B) == WILDCARD.fingerprint


async def test_a_withdrawal_does_not_wait_for_what_else_cannot_be_written(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        await keep_together(copies, A, B)
        await keep_together(copies, C, D)
        copies.keep(A, "v2", ONE)
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 2)  # of the pack that A has left
            await copies.flush()
            copies.forget(C)
            await copies.flush()
        async with Rig(rig.folder).open() as other:  # as after a crash
            assert [other.has(name) for name in (A, B, C)] == [True, True, False]
        assert await served(copies, D) == WILDCARD.fingerprint


@pytest.mark.parametrize("left", ["for a newer one", "to make room"])
async def test_a_name_is_withdrawn_from_the_pack_that_it_could_not_leave(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, left: str
):
    async with rig.open(max_names=2) as copies:
        await keep_together(copies, A, B)
        copies.keep(A if left == "for a newer one" else C, "v2", ONE)
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 2)  # of the pack that A is to leave
            await copies.flush()
            copies.forget(A)
            await copies.flush()
        async with Rig(rig.folder).open() as other:  # as after a crash
            assert not other.has(A)
        assert await served(copies, B) == WILDCARD.fingerprint


async def test_a_name_that_has_to_wait_in_memory_while_it_is_read_is_served(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        await keep_together(copies, A, B)
        slow = SlowRead(monkeypatch, after=False)
        recall = asyncio.ensure_future(copies.recall(B))
        await slow.until_begun()
        copies.forget(A)
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 1)
            await copies.flush()
        slow.go_on.set()
        copy = await recall
        assert copy is not None
        assert copy.credential.fingerprint == WILDCARD.fingerprint


async def test_what_was_never_on_the_disk_leaves_no_withdrawal_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """A dead disk must not let strangers' names under a wildcard pile up."""
    async with rig.open() as copies:
        monkeypatch.setattr(Copies, "write", never)
        for number in range(100):
            name = HostName.parse(f"host-{number}.example")
            copies.keep(name, "v1", WILDCARD)
            copies.forget(name)
        assert not copies._pending.withdrawn


async def test_too_many_names_are_no_reason_to_remove_strangers(rig: Rig):
    """Guards: all copies of the other store went, and the names were still too many."""
    async with rig.open(url="smb://files/old") as copies:
        copies.keep(A, "v1", ONE)
    async with rig.open(max_names=1) as copies:
        for name in (B, C):
            copies.keep(name, "v1", WILDCARD)
            await copies.flush()
        assert [copies.has(name) for name in (B, C)] == [False, True]
    async with rig.open(url="smb://files/old") as copies:
        assert await served(copies, A) == ONE.fingerprint


async def test_strangers_that_made_room_are_told_of_no_more(rig: Rig):
    async with rig.open(url="smb://files/old") as copies:
        copies.keep(A, "v1", ONE)
    async with rig.open(max_bytes=4096) as copies:
        copies.keep(C, "v1", WILDCARD)
        await copies.flush()
    assert rig.codes() == ["copies-foreign", "-copies-foreign"]


# --- a disk that fails --------------------------------------------------------------

CALLS = ("open", "write", "fsync", "fstat", "rename", "unlink")


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("call", CALLS)
async def test_a_failure_at_any_call_leaves_the_old_or_the_new(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str, number: int
):
    refuse_index(monkeypatch)
    monkeypatch.setattr(sheets, "ELSEWHERE_S", 0)
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        await copies.flush()
        copies.keep(B, "v1", WILDCARD)
        copies.keep(C, "v1", WILDCARD)
        await copies.flush()
        copies.keep(A, "v2", OTHER)
        copies.forget(B)
        with monkeypatch.context() as patch:
            failed = fail_at(patch, call, number)
            await copies.flush()
        assert not list(rig.folder.glob("*.unfinished")), "it takes the room that is missing"
        told = ["copies-unwritten"] if failed else []
        assert rig.codes() == told
        assert await served(copies, A) == OTHER.fingerprint
        assert not copies.has(B)
        assert await served(copies, C) == WILDCARD.fingerprint
        seen_by_another = Rig(rig.folder)
        async with seen_by_another.open() as other:  # as after a crash at this point
            assert await served(other, A) in {ONE.fingerprint, OTHER.fingerprint}
            assert await served(other, B) in {WILDCARD.fingerprint, None}
            # C may have to wait in memory for B to be gone.
            wanted = {WILDCARD.fingerprint, *([None] if failed and not other.has(B) else [])}
            assert await served(other, C) in wanted
        assert seen_by_another.codes() == ["copies-elsewhere"]
        await copies.flush()
        assert rig.codes() == told + [f"-{code}" for code in told]
        assert len(rig.packs()) <= 2
    async with rig.open() as copies:
        assert await served(copies, A) == OTHER.fingerprint
        assert not copies.has(B)
        assert await served(copies, C) == WILDCARD.fingerprint


def fail_at(patch: pytest.MonkeyPatch, call: str, number: int) -> list[int]:
    """Let the ``number``th ``call`` of a writing thread fail, and all after it."""
    count, failed = 0, list[int]()
    original: Callable[..., object] = getattr(os, call)

    def fail(*args: object, **options: object) -> object:
        nonlocal count
        if threading.current_thread().name != "centcert copies writer":
            return original(*args, **options)
        count += 1
        if count >= number:
            failed.append(count)
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **options)

    patch.setattr(os, call, fail)
    return failed


async def test_copies_written_at_once_wait_for_the_disk_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    done, fsync = list[str](), os.fsync

    def note_sync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    async with rig.open() as copies:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", note_sync)
            copies.keep(A, "v1", ONE)
            copies.keep(B, "v1", WILDCARD)
            await copies.flush()
    assert done == ["file", "folder"]


async def test_a_sheet_that_a_name_has_just_left_does_not_list_it_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        copies.keep(B, "v2", OTHER)
        await copies.flush()
        copies.keep(A, "v2", OTHER)
        copies.keep(C, "v1", ONE)

        async def end(_sheets: Sheets, _pending: object) -> None:
            """As if the process ended before it has cleaned up."""

        with monkeypatch.context() as patch:
            patch.setattr(Sheets, "_clean", end)
            await copies.flush()
            async with Rig(rig.folder).open() as other:
                assert await served(other, A) == OTHER.fingerprint


async def test_a_storm_is_written_before_it_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lastgood, "GATHER_S", (3600.0, 0.01))
    async with rig.open() as copies, asyncio.timeout(20):
        version = 0
        while not rig.packs():
            copies.keep(A, f"v{(version := version + 1)}", ONE)
            await asyncio.sleep(0.001)


async def test_what_still_gathers_is_written_at_the_end(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lastgood, "GATHER_S", (3600.0, 3600.0))
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
    async with rig.open() as copies:
        assert await served(copies, A) == ONE.fingerprint


async def test_a_failure_after_the_rename_does_not_bring_a_withdrawn_name_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    async with rig.open() as copies:
        copies.keep(A, "v1", ONE)
        with monkeypatch.context() as patch:
            fail_at(patch, "fsync", 2)  # the folder's
            await copies.flush()
        assert len(rig.packs()) == 1, "the test must hit the moment after the rename"
        copies.forget(A)
    async with rig.open() as copies:
        assert not copies.has(A)


async def test_a_full_disk_is_tried_again_by_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lastgood, "RETRY_S", 0.01)
    async with rig.open() as copies:
        with monkeypatch.context() as patch:
            fail_at(patch, "write", 1)
            copies.keep(A, "v1", ONE)
            async with asyncio.timeout(20):
                while not rig.faults:
                    await asyncio.sleep(0.001)
            assert rig.codes() == ["copies-unwritten"]
            assert "No space left" in str(rig.faults[0].sentence)
            assert await served(copies, A) == ONE.fingerprint
        async with asyncio.timeout(20):
            while not rig.packs():
                await asyncio.sleep(0.001)
        await copies.flush()
        assert rig.codes() == ["copies-unwritten", "-copies-unwritten"]


async def test_a_worn_out_pack_does_not_keep_the_others_from_being_written(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    def fail(_copies: Copies, _file_name: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with rig.open() as copies:
        for name in (A, B):
            copies.keep(name, "v1", WILDCARD)
        await copies.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "read_whole", fail)
            copies.forget(A)
            await copies.flush()
        assert not copies.has(B)
        copies.keep(C, "v1", WILDCARD)
        await copies.flush()
        assert len(rig.packs()) == 1
        assert rig.codes() == ["copy-damaged"]


async def test_a_folder_that_cannot_be_made_is_told_and_tried_again(rig: Rig):
    rig.folder.parent.joinpath("copies").write_text("a file")
    async with rig.open() as copies:
        assert rig.codes() == ["copies-unwritten"]
        copies.keep(A, "v1", ONE)
        assert await served(copies, A) == ONE.fingerprint
        rig.folder.unlink()
        rig.folder.mkdir(mode=0o755)
        await copies.flush()  # refused, but no longer a reason not to start
        assert list(rig.folder.iterdir()) == []
        rig.folder.chmod(0o700)
        await copies.flush()
        assert rig.codes() == ["copies-unwritten", "-copies-unwritten"]
        assert len(rig.packs()) == 1


async def test_a_failed_write_does_not_undo_what_came_after_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with rig.open() as copies:

        def forget_and_fail(_copies: Copies, _name: str, _sheets: Mapping[str, Sheet]) -> Pack:
            loop.call_soon_threadsafe(copies.forget, A)
            raise OSError(errno.ENOSPC, "No space left on device")

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "write", forget_and_fail)
            copies.keep(A, "v1", ONE)
            await copies.flush()
        assert not copies.has(A)
        await copies.flush()
        assert not copies.has(A)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
async def test_what_cannot_be_seen_is_not_overwritten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
):
    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)

    def fail(_copies: Copies, *, clean: bool) -> None:
        raise OSError(number, f"No listing, {clean=}")

    copies = rig.open()
    with monkeypatch.context() as patch:
        patch.setattr(Copies, "load", fail)
        await copies.__aenter__()
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
        assert rig.codes() == ["copies-unwritten"]
    await copies.flush()
    assert [copies.has(name) for name in (A, B)] == [True, True]
    await copies.__aexit__(None, None, None)
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B)] == [True, True]
        assert rig.codes() == ["copies-unwritten", "-copies-unwritten"]


async def test_too_many_open_files_at_a_start_cost_no_copy(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)

    def fail(_copies: Copies, _file_name: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    copies = rig.open()
    with monkeypatch.context() as patch:
        patch.setattr(Copies, "_read", fail)
        await copies.__aenter__()
        copies.keep(B, "v1", WILDCARD)
        await copies.flush()
    await copies.__aexit__(None, None, None)
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B)] == [True, True]


async def test_a_name_lost_while_its_sheet_is_written_does_not_come_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    refuse_index(monkeypatch)
    write = Copies.write
    async with rig.open() as copies:
        copies.keep(A, "v1", WILDCARD)
        await copies.flush()
        (pack,) = rig.packs()

        def write_and_lose(it: Copies, name: str, sheets: Mapping[str, Sheet]) -> Pack:
            if not rig.faults:
                loop.call_soon_threadsafe(copies._sheets.lose, pack.name)
            return write(it, name, sheets)

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "write", write_and_lose)
            copies.keep(B, "v1", WILDCARD)
            await copies.flush()
        lost = not copies.has(A)
    async with rig.open() as copies:
        assert lost
        assert not copies.has(A)
        assert copies.has(B)


async def test_a_pack_lost_while_others_are_cleaned_is_told_of_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    names = [HostName.parse(f"host-{number}.example") for number in range(4)]
    write = Copies.write
    async with rig.open() as copies:
        for pair in (names[:2], names[2:]):
            for name in pair:
                copies.keep(name, "v1", credential_of(name))
            await copies.flush()
        catalogue = copies._sheets.catalogue
        lost = catalogue.place[catalogue.home[names[3]]]

        def write_and_lose(it: Copies, file_name: str, sheets: Mapping[str, Sheet]) -> Pack:
            if file_name != lost:
                (rig.folder / lost).unlink()
                loop.call_soon_threadsafe(copies._sheets.lose, lost)
            return write(it, file_name, sheets)

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "write", write_and_lose)
            for name in (names[0], names[2]):
                copies.forget(name)
            await copies.flush()
        assert [copies.has(name) for name in names] == [False, True, False, False]
        assert rig.codes() == ["copy-damaged"]


# --- several processes --------------------------------------------------------------


async def test_one_process_writes_and_another_takes_over(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sheets, "ELSEWHERE_S", 0)
    first, second = rig.open(), rig.open()
    await first.__aenter__()
    first.keep(A, "v1", ONE)
    await first.flush()
    async with second:
        assert rig.codes() == ["copies-elsewhere"]
        assert await served(second, A) == ONE.fingerprint
        second.keep(B, "v1", WILDCARD)
        await second.flush()
        assert len(rig.packs()) == 1
        first.keep(C, "v1", WILDCARD)
        await first.__aexit__(None, None, None)
        await second.flush()
        assert rig.codes() == ["copies-elsewhere", "-copies-elsewhere"]
        assert [second.has(name) for name in (A, B, C)] == [True, True, True]
    async with rig.open() as copies:
        assert [copies.has(name) for name in (A, B, C)] == [True, True, True]


async def test_a_node_that_changes_its_store_is_no_other_process(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Guards: for ten seconds after it, a finding told of another process."""
    monkeypatch.setattr(lastgood, "RETRY_S", 0.01)
    first = rig.open()
    await first.__aenter__()
    first.keep(A, "v1", ONE)
    async with rig.open() as second:
        second.keep(B, "v1", WILDCARD)
        await second.flush()
        await first.__aexit__(None, None, None)
        async with asyncio.timeout(20):
            while not second._sheets.writing or second._behind:
                await asyncio.sleep(0.001)
        assert len(rig.packs()) == 2, "it takes over without being asked to"
        assert [second.has(name) for name in (A, B)] == [True, True]
    assert rig.faults == []


async def test_another_process_is_told_of_when_it_does_not_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lastgood, "RETRY_S", 0.01)
    monkeypatch.setattr(sheets, "ELSEWHERE_S", 0.03)
    async with rig.open(), rig.open():
        async with asyncio.timeout(20):
            while not rig.faults:
                await asyncio.sleep(0.001)
    assert rig.codes() == ["copies-elsewhere"], "told though nothing is to be written"


KEEPER = """
    import asyncio, sys
    from pathlib import Path
    from centcert.credential import decode
    from centcert.names import HostName
    from centcert.provider.lastgood import LastGood
    from centcert.testing import Authority

    async def main():
        authority = Authority()
        made = [decode(authority.issue("*.example").pem(), key="_.example.pem", passwords=())
                for _ in range(4)]
        folder = Path(sys.argv[1])
        faults = []
        async with LastGood(folder, [bytes(range(32))], store_url="x", listener=faults.append) as c:
            print("ready", faults, flush=True)
            for turn in range(10**9):
                for number in range(30):
                    name = HostName.parse(f"host-{number}.example")
                    if (turn + number) % 7 == 0:
                        c.forget(name)
                    else:
                        c.keep(name, f"v{(turn + number) % 4}", made[(turn + number) % 4])
                    if number % 5 == 0:
                        await c.flush()
                if turn % 3 == 0:
                    await c._write_index()

    asyncio.run(main())
"""


async def test_a_killed_process_leaves_whole_files(rig: Rig):
    rig.folder.mkdir(mode=0o700)
    names = [HostName.parse(f"host-{number}.example") for number in range(30)]
    for turn in range(8):
        command = [sys.executable, "-c", textwrap.dedent(KEEPER), str(rig.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "ready []\n"
            async with asyncio.timeout(20):
                while len(list(rig.folder.iterdir())) < 3:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.013 * turn)  # so that each is killed elsewhere
            keeper.send_signal(signal.SIGKILL)
        async with rig.open(url="x") as copies:
            for name in names:
                assert (await copies.recall(name) is not None) is copies.has(name)
        assert rig.faults == []
        assert not [path for path in rig.folder.iterdir() if path.suffix == ".unfinished"]
