"""smbprotocol, written by others, sees the same files, attributes and errors."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
import smbclient  # type: ignore[import-untyped]
from smbprotocol.exceptions import SMBOSError  # type: ignore[import-untyped]

from centcert import smb3
from centcert.smb3 import Kind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from centcert.demo.samba import PrivateSamba
    from centcert.smb3 import Connection

PATIENCE_S = 20.0
TICKS_PER_SECOND = 10_000_000
EPOCH_TICKS = 116_444_736_000_000_000


class Other:
    """The same share through smbprotocol."""

    def __init__(self, samba: PrivateSamba) -> None:
        self.root = rf"\\{samba.host}\{samba.share}"
        self.options = {"port": samba.port, "connection_cache": {}}
        smbclient.register_session(
            samba.host,
            username=samba.username,
            password=samba.password,
            encrypt=True,
            auth_protocol="ntlm",
            **self.options,
        )

    def read(self, path: str) -> bytes:
        with smbclient.open_file(rf"{self.root}\{path}", mode="rb", **self.options) as file:
            data: bytes = file.read()
            return data

    def stat(self, path: str) -> os.stat_result:
        return smbclient.stat(rf"{self.root}\{path}", **self.options)  # type: ignore[no-any-return]

    def names(self) -> set[str]:
        return set(smbclient.listdir(self.root, **self.options))


@pytest.fixture
def other(samba: PrivateSamba) -> Iterator[Other]:
    other = Other(samba)
    yield other
    smbclient.reset_connection_cache(connection_cache=other.options["connection_cache"])


@pytest.mark.parametrize("size", [0, 1, 4_000, 65_537, 200_000])
async def test_the_same_bytes(samba: PrivateSamba, reader: Connection, other: Other, size: int):
    (samba.folder / "www.pfx").write_bytes(secrets.token_bytes(size))

    file = await reader.fetch("www.pfx", max_bytes=size, timeout_s=PATIENCE_S)

    assert file is not None
    assert file.data == other.read("www.pfx")


async def test_the_same_attributes(samba: PrivateSamba, reader: Connection, other: Other):
    (samba.folder / "www.pfx").write_bytes(b"content")
    (samba.folder / "folder").mkdir()
    for path in ("www.pfx", "folder"):
        mine = await reader.stat(path, timeout_s=PATIENCE_S)
        theirs = other.stat(path)

        assert mine is not None
        assert mine.size == theirs.st_size
        assert mine.attributes == theirs.st_file_attributes  # type: ignore[attr-defined]
        assert mine.written - EPOCH_TICKS == theirs.st_mtime_ns // 100
        assert mine.changed - EPOCH_TICKS == theirs.st_chgtime_ns // 100  # type: ignore[attr-defined]
        assert mine.created - EPOCH_TICKS == theirs.st_ctime_ns // 100


async def test_the_same_names(samba: PrivateSamba, reader: Connection, other: Other):
    for name in ("www.pfx", "bücher.pfx", "日本.pfx", "_.example.com.pfx", "🔐.pfx"):
        (samba.folder / name).touch()

    entries = await reader.list_folder(timeout_s=PATIENCE_S)

    assert {entry.name for entry in entries} == other.names()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("denied.pfx", Kind.DENIED),
        ("absent\\www.pfx", Kind.FOLDER_MISSING),
        ("folder", Kind.NOT_A_FILE),
    ],
)
async def test_the_same_errors(
    samba: PrivateSamba, reader: Connection, other: Other, path: str, kind: Kind
):
    (samba.folder / "denied.pfx").touch(mode=0)
    (samba.folder / "folder").mkdir()

    with pytest.raises(smb3.StatusError) as mine:
        await reader.fetch(path, max_bytes=100, timeout_s=PATIENCE_S)
    with pytest.raises(SMBOSError) as theirs:
        other.read(path)

    assert mine.value.kind is kind
    assert mine.value.status == theirs.value.ntstatus


async def test_the_same_absence(reader: Connection, other: Other):
    assert await reader.fetch("absent", max_bytes=100, timeout_s=PATIENCE_S) is None
    with pytest.raises(SMBOSError) as theirs:
        other.read("absent")
    assert theirs.value.ntstatus == smb3.Status.OBJECT_NAME_NOT_FOUND


async def test_what_is_published_here_is_read_there(publisher: Connection, other: Other):
    data = secrets.token_bytes(300_000)
    await publisher.write_new("tmp", data, timeout_s=PATIENCE_S)
    await publisher.rename("tmp", "www.pfx", replace=False, timeout_s=PATIENCE_S)

    assert other.read("www.pfx") == data
