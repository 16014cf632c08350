"""Write a file so that whoever looks finds the old one or the new one, whole."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from centcert.errors import SettingsError


def write_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Put ``data`` into a file by another one beside it and a rename; missing folders are made.

    A symbolic link is followed and stays one. The owner of a file that is replaced stays.
    When this returns, the data is on the disk.

    Args:
        path: the file.
        data: all of its new content.
        mode: its rights; ``None``: as they are, of a new file 0644.

    Raises:
        SettingsError: it cannot be written; what was there is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data, mode)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror}: nothing was changed."
        ) from error


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    old = target.stat() if target.exists() else None
    if mode is None:
        mode = 0o644 if old is None else stat.S_IMODE(old.st_mode)
    handle, new = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with suppress(PermissionError):
                    os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(new, target)  # noqa: PTH105  both are text here
    except BaseException:
        os.unlink(new)  # noqa: PTH108
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # else a power cut may take the rename back
    finally:
        os.close(folder)
