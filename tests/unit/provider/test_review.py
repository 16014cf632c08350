"""What was found in a file goes when it is mended, though nobody asks for its name again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from centcert.errors import BadBlob, StoreDenied
from centcert.names import HostName
from centcert.provider import CacheLimits
from centcert.provider.events import Fetched, Listed
from centcert.stores import Change, MemoryStore
from tests.unit.provider.conftest import AUTHORITY, Rig, pem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from centcert.provider import Provider

WWW = HostName.parse("www.contoso.example")
MAIL = HostName.parse("mail.contoso.example")
KEY, WILD, PFX = "www.contoso.example.pem", "_.contoso.example.pem", "www.contoso.example.pfx"
MAIL_KEY = "mail.contoso.example.pem"
DAMAGED = b"-----BEGIN nothing"


class Silent(MemoryStore):
    """A store that tells of no change: listings alone do."""

    async def watch(self) -> AsyncGenerator[Change, None]:
        await asyncio.Event().wait()
        yield Change(None)


def found(provider: Provider) -> dict[str, str]:
    return {finding.subject: finding.code for finding in provider.findings()}


async def meet(provider: Provider, name: HostName) -> None:
    with pytest.raises(BadBlob):
        await provider.credential(name)


@pytest.fixture(params=["told of changes", "with listings alone"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr("centcert.provider.loader.HALF_WRITTEN_RETRIES_S", (0.001,))
    return Rig(files=Silent() if "listings" in request.param else MemoryStore())


async def test_a_mended_file_is_cleared(either: Rig):
    either.files.put(KEY, DAMAGED)
    either.files.put(WILD, pem("stranger.example"))
    async with either.provider(refresh_s=0.05) as provider:
        await meet(provider, WWW)
        assert found(provider) == {KEY: "bad-file", WILD: "wrong-name"}
        either.files.put(KEY, pem(WWW))
        await either.until_true(lambda: found(provider) == {WILD: "wrong-name"})
        either.files.put(WILD, pem("*.contoso.example"))
        await either.until_true(lambda: not provider.findings())
        assert provider.usage[0] == 0, "to look at a file is no use of a name"


async def test_a_removed_file_is_cleared(either: Rig):
    either.files.put(KEY, DAMAGED)
    async with either.provider(refresh_s=0.05) as provider:
        await meet(provider, WWW)
        either.files.remove(KEY)
        await either.until_true(lambda: not provider.findings())


async def test_what_is_wrong_otherwise_is_told_otherwise(either: Rig):
    either.files.put(KEY, DAMAGED)
    async with either.provider(refresh_s=0.05) as provider:
        await meet(provider, WWW)
        since = provider.findings()[0].since
        either.clock.advance(5)
        either.files.put(KEY, pem("stranger.example"))
        await either.until_true(lambda: found(provider) == {KEY: "wrong-name"})
        assert "stranger.example" in provider.findings()[0].sentence
        assert provider.findings()[0].since == since + 5


async def test_another_password_mends_a_file_that_is_as_it_was(either: Rig):
    either.files.put(PFX, AUTHORITY.issue(WWW).pfx(b"secret"))
    async with either.provider(refresh_s=0.05) as provider:
        await meet(provider, WWW)
        assert found(provider) == {PFX: "bad-file"}
        either.passwords.append(b"secret")
        await either.until_true(lambda: not provider.findings())


async def test_rights_given_back_are_cleared(monkeypatch: pytest.MonkeyPatch):
    rig = Rig(files=Silent())
    rig.files.put(KEY, pem(WWW))
    fetch = rig.files.fetch

    async def deny(key: str) -> None:
        raise StoreDenied(rig.files.url, f"{key} is denied.")

    monkeypatch.setattr(rig.files, "fetch", deny)
    async with rig.provider(refresh_s=0.05) as provider:
        with pytest.raises(StoreDenied):
            await provider.credential(WWW)
        assert "file-denied" in found(provider).values()
        monkeypatch.setattr(rig.files, "fetch", fetch)
        await rig.until_true(lambda: not provider.findings())


async def test_a_certificate_that_has_left_memory_is_renewed(either: Rig):
    """Guards: what was found of its dates stayed for ever, as nothing was in use."""
    either.files.put(KEY, pem(WWW, days=5))
    either.files.put(MAIL_KEY, pem(MAIL, days=5))
    limits = CacheLimits(max_names=1)
    async with either.provider(refresh_s=0.05, limits=limits) as provider:
        await provider.credential(WWW)
        await provider.credential(MAIL)
        assert set(found(provider)) >= {MAIL_KEY}
        either.files.put(KEY, pem(WWW))
        await either.until_true(lambda: set(found(provider)) == {MAIL_KEY})
        if isinstance(either.files, Silent):
            await either.until(Listed, either.kinds().count("Listed") + 2)
        assert found(provider) == {MAIL_KEY: "expiring"}, "which is in use"


async def test_files_are_looked_at_one_at_a_time_and_those_that_are_well_not_at_all():
    rig = Rig(files=Silent())
    names = [HostName.parse(f"n{number}.example") for number in range(20)]
    for name in names:
        rig.files.put(f"{name}.pfx", pem("stranger.example"))
    rig.files.put(KEY, pem(WWW))
    async with rig.provider(refresh_s=0.2) as provider:
        await provider.credential(WWW)
        for name in names:
            await meet(provider, name)
        await rig.until(Listed)
        rig.store.hold()
        fetched = rig.store.fetched.copy()
        await rig.store.until_fetched(fetched.total() + 1)
        await asyncio.sleep(0.01)
        assert (rig.store.fetched - fetched).total() == 1
        rig.store.release()
        times = rig.kinds().count("Fetched")
        await rig.until(Fetched, times + 20)
        assert rig.store.fetched[KEY] == 1
