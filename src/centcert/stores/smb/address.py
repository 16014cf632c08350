"""Where an SMB store is: one or several servers, a share, a folder. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from centcert.errors import SettingsError

SCHEME: Final = "smb://"
PORT: Final = 445
MAX_SERVERS: Final = 8
"""Each has connections of its own; more servers than this make nothing safer."""

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_PORT: Final = re.compile(r"[0-9]{1,5}")
# [MS-FSCC] 2.1.5: what no name in a path may hold.
_SEGMENT: Final = re.compile(r'[^\0-\x1f"*/:<>?|\\]{1,255}')
_RESERVED: Final = re.compile(r"[%#?\s]")
_FORM: Final = "write smb://server[:port][,server…]/share[/folder]"


@dataclass(frozen=True, slots=True)
class Address:
    """A server.

    Attributes:
        host: a name or an address, an IPv6 address without brackets.
        port: TCP.
    """

    host: str
    port: int = PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Location:
    """A folder that every one of the servers has, with the same files.

    Attributes:
        servers: at least one, the preferred one first.
        share: its name, the same on each server.
        folder: below the share, names joined by a backslash; empty for its top.
    """

    servers: tuple[Address, ...]
    share: str
    folder: str = ""

    @classmethod
    def parse(cls, url: str) -> Location:
        """Read ``smb://server[:port][,server[:port]…]/share[/folder]``.

        Port 445 if none is named. Share and folder may be percent-encoded (RFC 3986 §2.1).

        Raises:
            SettingsError: it is not of that form.
        """
        authority, _, path = url[len(SCHEME) :].partition("/")
        if "@" in authority:
            raise SettingsError(
                "The store's URL holds an account: name it by username and its secret by a file."
            )
        if "?" in path or "#" in path:
            raise SettingsError(f"{url} has a ? or #: write %3F or %23 for these characters.")
        servers = tuple(_address(text, url) for text in authority.split(","))
        if len(set(servers)) != len(servers) or len(servers) > MAX_SERVERS:
            raise SettingsError(
                f"{url} names a server twice, or more than {MAX_SERVERS}: name each once."
            )
        try:
            segments = [unquote(text, errors="strict") for text in path.split("/") if text]
        except UnicodeDecodeError:
            raise SettingsError(f"{url} is percent-encoded, but not from UTF-8: {_FORM}.") from None
        if not segments:
            raise SettingsError(f"{url} names no share: {_FORM}.")
        if any(not _SEGMENT.fullmatch(one) or one in {".", ".."} for one in segments):
            raise SettingsError(f"{url} names a share or folder that cannot be: {_FORM}.")
        return cls(servers, segments[0], "\\".join(segments[1:]))

    def path(self, key: str) -> str:
        """Return the path of a key within the share."""
        return f"{self.folder}\\{key}" if self.folder else key

    def on(self, server: Address) -> str:
        """Return the URL of the folder on one of the servers."""
        return str(Location((server,), self.share, self.folder))

    def __str__(self) -> str:
        names = (self.share, *self.folder.split("\\")) if self.folder else (self.share,)
        # Percent-encoded where it must be and nowhere else: people read this.
        path = "/".join(_RESERVED.sub(lambda found: quote(found[0]), name) for name in names)
        return f"{SCHEME}{','.join(map(str, self.servers))}/{path}"


def _address(text: str, url: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, colon, port = text, "", str(PORT)
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise SettingsError(f"{text!r} in {url} is not a server: {_FORM}.")
    return Address(host.strip("[]").lower(), int(port))
