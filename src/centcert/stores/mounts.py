"""On which kind of file system a folder lies, and whether its changes can be seen from here."""

from __future__ import annotations

from typing import Final

LOCAL: Final = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs"),
        *("nilfs2", "ubifs", "jffs2", "tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "aufs"),
        *("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus", "udf", "iso9660"),
        *("squashfs", "erofs"),
    }
)
"""File systems that nobody changes but the kernel of this machine. inotify(7) sees what goes
through this kernel, so on any other (NFS, CIFS, FUSE, those of virtual machines and clusters) it
misses what other machines do. Those that are not known are taken for such: to poll is only slow,
to believe a silent watch would be wrong."""


def mount_id(fdinfo: str) -> int | None:
    """Return the id of the mount that a descriptor leads into.

    Args:
        fdinfo: what ``/proc/self/fdinfo/N`` holds (proc_pid_fdinfo(5)).
    """
    for line in fdinfo.splitlines():
        label, _, value = line.partition(":")
        if label == "mnt_id":
            return int(value)
    return None


def file_system(mountinfo: str, number: int | None) -> str | None:
    """Return the type of a mount's file system, for example ``ext4`` or ``fuse.sshfs``.

    By the mount's id and not by the device's number: a volume of btrfs has another one than
    its mount (proc_pid_mountinfo(5)).

    Args:
        mountinfo: what ``/proc/self/mountinfo`` holds.
        number: the mount's id.

    Returns:
        ``None``: the mount is not listed, as where ``chroot`` hides it.
    """
    for line in mountinfo.splitlines():
        first, _, rest = line.partition(" ")
        if first == str(number):
            # Optional fields end with a lone hyphen; blanks in paths are written \040.
            _, _, after = rest.partition(" - ")
            return after.partition(" ")[0] or None
    return None
