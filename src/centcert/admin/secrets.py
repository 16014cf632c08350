"""Secrets live in files of their own, never in settings, arguments or the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from centcert.admin.whole_file import write_whole
from centcert.errors import SettingsError
from centcert.secret_files import check_guarded

MAX_SECRET_BYTES: Final = 4096

SYSTEMD_CREDENTIAL: Final = "credential:"
CREDENTIAL_STORE: Final = "/etc/credstore"
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


def secret_file(text: str) -> Path:
    """Return the file that a setting names: a path, or ``credential:NAME``.

    That is a credential of systemd (systemd.exec(5), ``LoadCredential=``): a service has
    it in ``$CREDENTIALS_DIRECTORY``; a command that is none looks where systemd does, in
    ``/etc/credstore``.

    Raises:
        SettingsError: no credential can be called so.
    """
    if not text.startswith(SYSTEMD_CREDENTIAL):
        return Path(text)
    name = text.removeprefix(SYSTEMD_CREDENTIAL)
    if not _CREDENTIAL_NAME.fullmatch(name):
        raise SettingsError(f"{text!r} names no credential of systemd: write credential:NAME.")
    return Path(os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIAL_STORE, name)


def read_secret(path: Path) -> bytes:
    """Read the secret in a file: its bytes without one line end.

    Raises:
        SettingsError: the file cannot be read, is too long, belongs to another user, or is
            open to others than its owner.
    """
    try:
        with path.open("rb") as file:
            check_guarded(path, os.fstat(file.fileno()))
            secret = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    if len(secret) > MAX_SECRET_BYTES:
        raise SettingsError(f"{path} is longer than {MAX_SECRET_BYTES} bytes: not a password file.")
    return secret.removesuffix(b"\n").removesuffix(b"\r")


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret so that ``read_secret`` returns it: a file of mode 0600, in one go.

    A folder that has to be made for it is open to its owner alone.

    Raises:
        SettingsError: it is empty, longer than ``MAX_SECRET_BYTES``, has a line end in it,
            or cannot be written.
    """
    check_secret(secret)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{path.parent} cannot be made: {error.strerror}.") from error
    write_whole(path, secret + b"\n", mode=0o600)


def check_secret(secret: bytes) -> None:
    """See that a typed secret can be kept in a file.

    Raises:
        SettingsError: it is empty, longer than ``MAX_SECRET_BYTES``, or has a line end in it.
    """
    if not secret:
        raise SettingsError("The password is empty: nothing was changed.")
    if len(secret) >= MAX_SECRET_BYTES or b"\n" in secret or b"\r" in secret:
        raise SettingsError(
            f"A password is one line of less than {MAX_SECRET_BYTES} bytes: nothing was changed."
        )
