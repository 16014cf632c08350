"""What makes a file fit to hold a secret: nobody else can read it, or put another in its place."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def check_guarded(path: Path, status: os.stat_result) -> None:
    """See that a secret's file is its owner's alone, and the owner this account or root.

    Args:
        path: how the file is called.
        status: of the file itself, once it is open.

    Raises:
        SettingsError: it belongs to somebody else, or is open to others.
    """
    if status.st_uid not in {0, os.geteuid()}:  # only root can have opened it then
        raise SettingsError(
            f"{path} belongs to another user, who can read and change it: chown it to the account"
            " that Centcert runs as, or to root."
        )
    others = stat.S_IMODE(status.st_mode) & 0o077
    if status.st_gid == 0:
        # systemd gives a service its credentials by an access list, whose mask stat(2) shows
        # as a right of root's group (acl(5)).
        others &= ~stat.S_IRGRP
    if others:
        raise SettingsError(f"{path} is open to others than its owner: chmod 600 {path}")
