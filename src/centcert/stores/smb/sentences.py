"""From the SMB client's errors to the store's: one sentence each, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from centcert import smb3
from centcert.errors import (
    FileBusy,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
)
from centcert.smb3 import Kind

if TYPE_CHECKING:
    from centcert.stores.smb.address import Address, Location

_STOPPED_ON_SYMLINK: Final = 0x8000002D
"""[MS-ERREF] 2.3.1: the server leaves it to the client to follow a symbolic link."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an error happened: what its sentence names."""

    location: Location
    server: Address
    username: str

    @property
    def url(self) -> str:
        """The folder on this server."""
        return self.location.on(self.server)

    def translate(self, error: smb3.SmbError, path: str = "") -> StoreError:
        """Return the store's error for one of the client's.

        Args:
            error: anything but ``FileTooLarge`` and ``InvalidPath``, which are of a blob.
            path: of the file or folder that was asked for, within the share.
        """
        kind: type[StoreError] = StoreUnavailable
        server, account = self.server, self.username
        match error:
            case smb3.LoginRefused():
                kind = StoreAuthenticationFailed
                sentence = (
                    f"{server} refuses the account {account}: {error} Check its name, its password"
                    " file or keytab, and whether it is locked or expired."
                )
            case smb3.LoginUnusable():
                kind = StoreAuthenticationFailed
                sentence = (
                    f"The account {account} cannot be used for {server}: {error} Check its password"
                    " file or keytab."
                )
            case smb3.SecurityViolation():
                kind = StoreInsecure
                sentence = (
                    f"{server} was not trusted with the account {account} and the share"
                    f" {self.location.share}: {error} Have it require SMB 3.1.1 with AES-GCM, and"
                    " look for a device in between that changes SMB."
                )
            case smb3.StatusError():
                kind, sentence = self._refusal(error, path)
            case smb3.QueueFull():
                kind = StoreBusy
                sentence = f"{self.url} is asked more than it can answer: {error}"
            case smb3.FileChanging():
                kind = FileBusy
                sentence = f"{path} on {self.url} is being written: it is read once that is done."
            case _:
                sentence = (
                    f"{self.url} gave no answer to the account {account}: {error} Check that the"
                    " server runs and can be reached."
                )
        return kind(str(self.location), sentence)

    def _refusal(self, error: smb3.StatusError, path: str) -> tuple[type[StoreError], str]:
        share, server, account = self.location.share, self.server, self.username
        what = f"{path} in the share {share} on {server}" if path else f"{share} on {server}"
        if error.status == _STOPPED_ON_SYMLINK:
            return StoreDenied, f"{what} is a symbolic link, which is not followed: copy the file."
        kind: type[StoreError] = StoreUnavailable
        match error.kind:
            case Kind.DENIED:
                kind = StoreDenied
                sentence = (
                    f"The account {account} may not read {what}: grant it the right to read, of the"
                    " share and of the files."
                )
            case Kind.BUSY:
                kind = FileBusy
                sentence = f"{what} is held by another program: {error}"
            case Kind.SHARE_MISSING:
                sentence = f"{server} has no share of files called {share}: check the store's URL."
            case Kind.FOLDER_MISSING | Kind.NOT_A_FILE | Kind.ABSENT:
                folder = self.location.folder or "the share's top folder"
                sentence = (
                    f"The share {share} on {server} shows the account {account} no folder {folder}:"
                    " make it, or check the store's URL."
                )
            case _:
                sentence = f"{what} cannot be read by the account {account}: {error}"
        return kind, sentence
