"""Which file systems tell of every change: by what the kernel says of mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from centcert.errors import StoreUnwatchable
from centcert.stores import FolderStore, posix
from centcert.stores.mounts import LOCAL, file_system, mount_id

MOUNTINFO = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 0:40 / /srv/certs rw,relatime shared:8 master:3 propagate_from:1 - nfs4 nas:/certs rw,hard
42 27 0:41 / /srv/a\040-\040b rw - cifs //nas/share rw,vers=3.1.1
43 27 0:42 /sub /srv/bound rw - fuse.sshfs user@nas: rw,user_id=0
44 27 0:43 / /srv/block rw - fuseblk /dev/vdb1 rw
45 27 0:44 / /vm rw - virtiofs tag rw
4 27 0:45 / /host rw - 9p host rw
46 27 0:46 /@data /srv/data rw - btrfs /dev/vdc rw,subvolid=257
"""


@pytest.mark.parametrize(
    ("number", "kind", "local"),
    [
        (27, "ext4", True),
        (41, "nfs4", False),
        (42, "cifs", False),
        (43, "fuse.sshfs", False),
        (44, "fuseblk", True),
        (45, "virtiofs", False),
        (4, "9p", False),
        (46, "btrfs", True),
        (99, None, False),
        (None, None, False),
    ],
)
def test_the_type_is_that_of_the_mount(number: int | None, kind: str | None, local: bool):  # noqa: FBT001
    assert file_system(MOUNTINFO, number) == kind
    assert (kind in LOCAL) is local


def test_a_descriptor_knows_its_mount():
    assert mount_id("pos:\t0\nflags:\t012200000\nmnt_id:\t41\nino:\t2\n") == 41
    assert mount_id("pos:\t0\n") is None
    assert mount_id("") is None


@pytest.mark.parametrize(("path", "kind"), [("/proc", "proc"), ("/sys", "sysfs")])
def test_the_kernel_is_read_as_it_writes(path: str, kind: str):
    folder = os.open(path, os.O_PATH)
    try:
        fdinfo = Path(f"/proc/self/fdinfo/{folder}").read_text()
        assert file_system(Path("/proc/self/mountinfo").read_text(), mount_id(fdinfo)) == kind
    finally:
        os.close(folder)


async def test_a_folder_that_others_may_change_is_not_watched(tmp_path: Path):
    """Guards: an NFS folder claimed to be watched, so that a new file there looked absent."""
    async with FolderStore("/sys/kernel") as store:
        with pytest.raises(StoreUnwatchable) as refused:
            await anext(store.watch())
        assert str(refused.value) == (
            "/sys/kernel is on a sysfs file system, which does not tell what other machines change:"
            " their changes are seen within refresh; lower it, or name a share itself, as"
            " smb://server/share."
        )
        assert await store.list()
    async with FolderStore(tmp_path) as store:
        await anext(store.watch())


async def test_a_mount_that_is_not_listed_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(posix, "file_system", lambda *_: None)
    async with FolderStore(tmp_path) as store:
        with pytest.raises(StoreUnwatchable, match="a file system of an unknown kind"):
            await anext(store.watch())
