"""How a last-good copy is sealed: AES-256-GCM under keys that one secret gives.

A sealed file opens only with the key, for the store and under the file name it was sealed
for. What this cannot prevent: whoever may write to the folder can put an older copy of a
file back in its place, as with any disk.
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from centcert.errors import SettingsError
from centcert.secret_files import check_guarded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_BYTES: Final = 32
"""AES-256 and HMAC-SHA256 both take a key of this size."""

_FORMAT: Final = b"centcert last good 1\n"
_MARK_BYTES: Final = 8
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(_FORMAT) + _MARK_BYTES
_OVERHEAD: Final = _HEADER_BYTES + _SALT_BYTES + _NONCE_BYTES + _TAG_BYTES


class Foreign(Exception):
    """The file was sealed with another key, for another store, or by another Centcert."""


class Damaged(Exception):
    """The file is not what was sealed under this file name."""


class Seals:
    """Seals with the first of some keys, for one store, and opens with any of them.

    Args:
        keys: ``KEY_BYTES`` each, the newest first; at least one.
        store_url: what else every file is bound to.
    """

    def __init__(self, keys: Sequence[bytes], store_url: str) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"Sealing takes one key or more, of {KEY_BYTES} bytes each.")
        seals = [_Seal(key, store_url) for key in keys]
        self._first = seals[0]
        self._by_mark = {seal.mark: seal for seal in reversed(seals)}

    def group(self, key: str, version: str) -> str:
        """Return what the ids of the sheets of one version of one store's key begin with, in hex.

        It tells nobody without the sealing key which it is, and differs between sealing
        keys: what an old one sealed is not taken for what the new one would.
        """
        return self._first.group(key, version)

    def seal(self, file_name: str, data: bytes) -> bytes:
        """Return ``data`` as only ``open`` with the same ``file_name`` can read it."""
        return self._first.seal(file_name, data)

    def open(self, file_name: str, sealed: bytes) -> bytes:
        """Return what was sealed under ``file_name``.

        Raises:
            Foreign: none of the keys is the one for this file.
            Damaged: the file is cut, changed, or another one renamed.
        """
        if len(sealed) < _OVERHEAD or not sealed.startswith(_FORMAT):
            raise Damaged
        seal = self._by_mark.get(sealed[len(_FORMAT) : _HEADER_BYTES])
        if seal is None:
            raise Foreign
        return seal.open(file_name, sealed)


class _Seal:
    """One sealing key for one store.

    Each file has a key of its own, from a random salt of 128 bits: it is used once, so that
    the bound of random nonces (2^32 files a key, NIST SP 800-38D §8.3) has no meaning here.
    """

    def __init__(self, key: bytes, store_url: str) -> None:
        derive = HKDF(SHA256(), 2 * KEY_BYTES + _MARK_BYTES, None, _FORMAT + store_url.encode())
        derived = derive.derive(key)
        self._sealing = derived[:KEY_BYTES]
        self._naming = derived[KEY_BYTES : 2 * KEY_BYTES]
        self._bound = _FORMAT + store_url.encode() + b"\0"
        self.mark = derived[2 * KEY_BYTES :]

    def group(self, key: str, version: str) -> str:
        text = f"{len(key)} {key}{version}".encode(errors="surrogatepass")
        return hmac.digest(self._naming, text, "sha256")[:14].hex()

    def seal(self, file_name: str, data: bytes) -> bytes:
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        header = _FORMAT + self.mark + salt + nonce
        return header + self._cipher(salt).encrypt(nonce, data, self._bound + file_name.encode())

    def open(self, file_name: str, sealed: bytes) -> bytes:
        salt_end = _HEADER_BYTES + _SALT_BYTES
        nonce_end = salt_end + _NONCE_BYTES
        cipher = self._cipher(sealed[_HEADER_BYTES:salt_end])
        try:
            return cipher.decrypt(
                sealed[salt_end:nonce_end], sealed[nonce_end:], self._bound + file_name.encode()
            )
        except InvalidTag:
            raise Damaged from None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._sealing, salt, "sha256"))


def sealing_key(path: Path) -> bytes:
    """Read the sealing key in a file; make the file, with a fresh key, if there is none.

    ``KEY_BYTES`` raw bytes, mode 0600. Of several processes that make it at once, all
    return the same.

    Raises:
        SettingsError: it cannot be read or made, has another size, belongs to another user,
            or is open to others.
    """
    try:
        try:
            return _read_key(path)
        except FileNotFoundError:
            _make_key(path)
            return _read_key(path)
    except OSError as error:
        raise SettingsError(
            f"{path}, the key of the last-good copies, cannot be read or made: {error.strerror}."
        ) from error


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        check_guarded(path, os.fstat(file.fileno()))
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{path} is not a sealing key of {KEY_BYTES} bytes: put the right one there, or remove"
            " it to have a new one made, which makes the last-good copies of the old one useless."
        )
    return key


def _make_key(path: Path) -> None:
    """Make the file whole or not at all: a crash must not leave an empty one."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(file, secrets.token_bytes(KEY_BYTES))
            os.fsync(file)
        finally:
            os.close(file)
        try:
            os.link(unfinished, path)  # like O_EXCL: an earlier one stays
        except FileExistsError:
            return
    finally:
        unfinished.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
