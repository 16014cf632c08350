"""From the text that names a store to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from centcert.errors import SettingsError
from centcert.stores.folder import FolderStore
from centcert.stores.folder_publisher import FolderPublisher

if TYPE_CHECKING:
    from centcert.stores.account import Account
    from centcert.stores.base import Store
    from centcert.stores.events import Listener
    from centcert.stores.publishing import Publisher


def open_store(
    url: str, *, account: Account | None = None, listener: Listener | None = None
) -> Store:
    """Return the store that ``url`` names. Nothing is asked of it yet.

    A path (``/srv/certificates``, relative ones too) or ``file:///srv/certificates``
    (RFC 8089) is a folder. ``smb://server[:port][,server…]/share[/folder]`` is a share.

    Args:
        url: where the store is.
        account: who reads it; a share needs one, a folder is read as this process.
        listener: is told what the store finds out about itself, and its steps.

    Raises:
        SettingsError: no kind of store is named so, or an account is missing or useless.
    """
    if url.startswith("smb://"):
        return _share(url, account, listener)
    return FolderStore(_folder(url, account))


def open_publisher(url: str, *, account: Account | None = None) -> Publisher:
    """Return the publisher for the store that ``url`` names. Nothing is asked of it yet.

    Args:
        url: as for ``open_store``, but of a share one server only.
        account: who writes into it; a share needs one, a folder is written as this process.

    Raises:
        SettingsError: as ``open_store``; also several servers.
    """
    if url.startswith("smb://"):
        from centcert.stores.smb import Location, SmbPublisher  # noqa: PLC0415  as in _share

        return SmbPublisher(Location.parse(url), _needed(url, account))
    return FolderPublisher(_folder(url, account))


def _folder(url: str, account: Account | None) -> str:
    if account is not None:
        raise SettingsError(
            f"{url} is read as the account that Centcert runs as: leave username, password file and"
            " keytab out, or name a share by smb://server/share."
        )
    if "://" not in url and not url.startswith("file:"):
        return _checked_path(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError("The store's URL is malformed: name a folder by its path.") from error
    if parts.scheme != "file":
        raise SettingsError(
            f"No kind of store is called {parts.scheme}://: name a folder, by its path or as"
            " file:///…, or a share as smb://server/share."
        )
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise SettingsError(
            "A file URL names a folder of this machine and nothing else: file:///srv/certificates."
        )
    return _checked_path(unquote(parts.path))


def _share(url: str, account: Account | None, listener: Listener | None) -> Store:
    # Imported when it is needed: it takes a tenth of a second, which a folder need not wait.
    from centcert.stores.smb import Location, SmbStore  # noqa: PLC0415

    return SmbStore(Location.parse(url), _needed(url, account), listener=listener)


def _needed(url: str, account: Account | None) -> Account:
    if account is None:
        raise SettingsError(
            f"{url} needs an account: name it by username, and its secret by password file or"
            " keytab."
        )
    return account


def _checked_path(path: str) -> str:
    if not path or "\0" in path:
        raise SettingsError("The store's path is empty or holds a NUL: name a folder.")
    if path.startswith("\\\\"):
        server, _, share = path.lstrip("\\").partition("\\")
        url = f"smb://{server}/{share.replace(chr(92), '/')}"
        raise SettingsError(f"{path} is Windows' spelling of a share: write {url} instead.")
    return path
