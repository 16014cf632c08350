"""What lies in a store may be a stranger's: commands decode it in the confined process only."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from centcert import credential
from centcert.admin.desk import PREVIOUS, Desk
from centcert.admin.export import take_out
from centcert.admin.intake import Given
from centcert.admin.publishing import Publication, plan_publish
from centcert.admin.withdrawing import plan_remove, plan_rollback
from centcert.errors import BlobTooCostly
from centcert.provider.decoder import Decoder
from centcert.stores import MemoryStore
from centcert.testing import Authority
from tests.publishers import MemoryPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from centcert.credential import Credential
    from centcert.stores import Blob
    from centcert.testing import Issued

WWW = "www.contoso.example"
KEY = f"{WWW}.pfx"
PASSWORD = b"correct horse"


class CountingDecoder(Decoder):
    def __init__(self, *, deadline_s: float) -> None:
        super().__init__(deadline_s=deadline_s)
        self.asked: list[str] = []

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        self.asked.append(blob.key)
        return await super().decode(blob, passwords)


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Authority().issue(WWW)


@pytest.fixture(scope="module")
def given(issued: Issued) -> Given:
    return Given("site.pem", credential.decode(issued.pem(), key="site.pem", passwords=()), False)


@pytest.fixture(scope="module")
def hostile(issued: Issued, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A PFX that takes minutes of CPU before its password is found right: 2^31 - 1 rounds."""
    pem = tmp_path_factory.mktemp("hostile") / "site.pem"
    pem.write_bytes(issued.pem())
    made = subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-in", pem, "-iter", "65537"),
            *("-passout", f"pass:{PASSWORD.decode()}"),
        ],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert made.endswith(b"\x02\x03\x01\x00\x01")  # the MAC's rounds; they are to be a byte longer
    pfx = bytearray(made[:-5] + b"\x02\x04\x7f\xff\xff\xff")
    pfx[2:4] = (int.from_bytes(pfx[2:4]) + 1).to_bytes(2)
    pfx[made.rindex(b"\x30\x31\x30\x0d") - 1] += 1  # MacData, before its DigestInfo
    return bytes(pfx)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def decoder() -> AsyncIterator[CountingDecoder]:
    async with CountingDecoder(deadline_s=10.0) as decoder:
        yield decoder


@pytest.fixture
async def hasty() -> AsyncIterator[CountingDecoder]:
    """For files that it has to give up in any case."""
    async with CountingDecoder(deadline_s=0.5) as decoder:
        yield decoder


@pytest.fixture(autouse=True)
def _nothing_is_decoded_here(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(*_: object, **__: object) -> None:
        pytest.fail("decoded in this process")

    assert given.credential.patterns == (WWW,)  # which was, before
    monkeypatch.setattr(pkcs12, "load_pkcs12", here)
    monkeypatch.setattr(credential, "decode_parts", here)


def desk_of(store: MemoryStore, decoder: Decoder) -> Desk:
    return Desk(store, MemoryPublisher(store), decoder, (PASSWORD,))


def publication(given: Given) -> Publication:
    return Publication((given,), (), force=False, now=time.time())


async def content(store: MemoryStore) -> dict[str, bytes]:
    found = [await store.fetch(file.key) for file in await store.list()]
    return {blob.key: blob.data for blob in found if blob is not None}


async def test_a_hostile_file_is_replaced_and_decoded_once(
    store: MemoryStore, hasty: CountingDecoder, given: Given, hostile: bytes
):
    """Once though the store is looked at twice: the second time others wait."""
    desk = desk_of(store, hasty)
    store.put(KEY, hostile)
    outcome = await desk.carry_out(lambda: plan_publish(desk, publication(given)))
    (file,) = outcome.files
    assert (outcome.done, file.action) == (True, "replaced")
    assert file.before is not None
    assert file.before.problem is not None
    assert hasty.asked == [KEY]
    assert (await content(store))[KEY + PREVIOUS] == hostile


async def test_a_hostile_file_is_removed_and_comes_back_only_by_force(
    store: MemoryStore, hasty: CountingDecoder, hostile: bytes
):
    desk = desk_of(store, hasty)
    store.put(KEY, hostile)
    assert (await desk.carry_out(lambda: plan_remove(desk, [WWW]))).done
    assert await content(store) == {KEY + PREVIOUS: hostile}
    outcome = await desk.carry_out(lambda: plan_rollback(desk, [WWW], force=False, now=0.0))
    (refusal,) = outcome.refusals
    assert refusal.startswith(f"The previous version of {KEY} cannot be used, as it ")
    assert (await desk.carry_out(lambda: plan_rollback(desk, [WWW], force=True, now=0.0))).done
    assert await content(store) == {KEY: hostile}


async def test_a_hostile_file_is_not_exported(
    store: MemoryStore, hasty: CountingDecoder, hostile: bytes
):
    store.put(KEY, hostile)
    with pytest.raises(BlobTooCostly):
        await take_out(store, hasty, WWW, [PASSWORD])


async def test_good_files_are_decoded_there_too(
    store: MemoryStore, decoder: CountingDecoder, given: Given, issued: Issued
):
    """Also to find out that nothing has to be written: under which passwords a file opens."""
    desk = desk_of(store, decoder)
    assert (await desk.carry_out(lambda: plan_publish(desk, publication(given)))).done
    again = await desk.carry_out(lambda: plan_publish(desk, publication(given)))
    assert [file.action for file in again.files] == ["kept"]
    taken = await take_out(store, decoder, WWW, [PASSWORD])
    assert taken.certificate == issued.certificate
    store.put(KEY, issued.pfx())
    bare = await desk.carry_out(lambda: plan_publish(desk, publication(given)))
    assert [file.action for file in bare.files] == ["rewritten"]


async def test_what_changes_between_two_looks_is_decoded_anew(
    store: MemoryStore, decoder: CountingDecoder, issued: Issued
):
    desk = desk_of(store, decoder)
    store.put(KEY, b"damaged")
    found = await desk.look(KEY)
    assert found is not None
    assert found.credential is None
    store.put(KEY, issued.pfx())
    found = await desk.look(KEY)
    assert found is not None
    assert found.credential is not None
    assert found.credential.certificate == issued.certificate
    assert decoder.asked == [KEY, KEY]
