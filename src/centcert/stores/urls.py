"""From the text that names a store to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from centcert.errors import SettingsError
from centcert.stores.folder import FolderStore

if TYPE_CHECKING:
    from centcert.stores.base import Store


def open_store(url: str) -> Store:
    """Return the store that ``url`` names. Nothing is asked of it yet.

    A path (``/srv/certificates``, relative ones too) or ``file:///srv/certificates``
    (RFC 8089) is a folder.

    Raises:
        SettingsError: no kind of store is named so.
    """
    if "://" not in url and not url.startswith("file:"):
        return FolderStore(_checked_path(url))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError("The store's URL is malformed: name a folder by its path.") from error
    if parts.scheme != "file":
        raise SettingsError(
            f"No kind of store is called {parts.scheme}://: name a folder, by its path or as"
            " file:///…."
        )
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise SettingsError(
            "A file URL names a folder of this machine and nothing else: file:///srv/certificates."
        )
    return FolderStore(_checked_path(unquote(parts.path)))


def _checked_path(path: str) -> str:
    if not path or "\0" in path:
        raise SettingsError("The store's path is empty or holds a NUL: name a folder.")
    if path.startswith("\\\\"):
        server, _, share = path.lstrip("\\").partition("\\")
        url = f"smb://{server}/{share.replace(chr(92), '/')}"
        raise SettingsError(f"{path} is Windows' spelling of a share: write {url} instead.")
    return path
