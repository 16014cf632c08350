"""Secrets live in files of their own, never in settings, arguments or the environment."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SECRET_BYTES: Final = 4096


def read_secret(path: Path) -> bytes:
    """Read the secret in a file: its bytes without one line end.

    Raises:
        SettingsError: the file cannot be read, is too long, or is open to others than
            its owner.
    """
    try:
        with path.open("rb") as file:
            if _open_to_others(os.fstat(file.fileno())):
                raise SettingsError(f"{path} is open to others than its owner: chmod 600 {path}")
            secret = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    if len(secret) > MAX_SECRET_BYTES:
        raise SettingsError(f"{path} is longer than {MAX_SECRET_BYTES} bytes: not a password file.")
    return secret.removesuffix(b"\n").removesuffix(b"\r")


def _open_to_others(status: os.stat_result) -> bool:
    others = stat.S_IMODE(status.st_mode) & 0o077
    if status.st_gid == 0:
        # systemd gives a service its credentials by an access list, whose mask stat(2) shows
        # as a right of root's group (acl(5)).
        others &= ~stat.S_IRGRP
    return bool(others)
