"""Every error that leaves this package, each with what its callers need to decide.

The package knows nothing of names or credentials of TLS, so it has a small tree of
its own. ``str()`` is one sentence for a person and never holds a secret. Whatever a
server sends, only these errors come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.smb3.status import Kind, kind_of, phrase_for

if TYPE_CHECKING:
    from centcert.smb3.wire import Command


class SmbError(Exception):
    """The root of this package's errors."""


class InvalidPath(SmbError, ValueError):
    """The path cannot stand for a file of the share; nothing was sent."""


class ConnectionLost(SmbError):
    """There is no connection (any more): refused, reset, closed. A new one may do."""


class DeadlineMissed(ConnectionLost):
    """The server did not answer in time. The connection was aborted with all its waiters."""


class QueueFull(SmbError):
    """Too many operations wait already; this one was refused at once. Nothing was sent."""


class ProtocolViolation(ConnectionLost):
    """The server sent what [MS-SMB2] does not allow. The connection was aborted."""


class SecurityViolation(ProtocolViolation):
    """Less protection than SMB 3.1.1 with AES-GCM and a verified account, or tampering.

    Raised by ``connect``: the server (or somebody before it) offers too little, and
    another try will not help. Raised later: a frame was not sealed for this session.
    """


class FileTooLarge(SmbError):
    """The file is larger than the caller's bound; nothing of it is handed out.

    Attributes:
        size: the file's size, bytes.
        max_bytes: the caller's bound.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(f"The file has {size} bytes, more than the {max_bytes} allowed.")
        self.size = size
        self.max_bytes = max_bytes


class FileChanging(SmbError):
    """The file changed while it was read, so the bytes may be a mixture. Try again shortly."""


class LoginUnusable(SmbError):
    """No token could be made from the login: bad keytab, no ticket, missing library.

    Nothing that the server has refused: see ``LoginRefused``.
    """


class StatusError(SmbError):
    """The server answered a command with an error. The connection goes on.

    Attributes:
        status: the NTSTATUS, [MS-ERREF] 2.3.1.
        kind: what the status means to a caller.
        command: the command that it answers.
    """

    def __init__(self, status: int, command: Command) -> None:
        super().__init__(f"The server answered {command.name} with {phrase_for(status)}.")
        self.status = status
        self.command = command

    @property
    def kind(self) -> Kind:
        """The family of the status."""
        return kind_of(self.status)


class LoginRefused(StatusError):
    """The server refuses the account. Trying again soon may lock it."""
