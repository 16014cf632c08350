"""An SMB 3.1.1 client: a core with no I/O and an asyncio shell.

It reads files from a share in one round trip, and lets an administrator replace them.
It speaks SMB 3.1.1 sealed with AES-GCM, to a server that has proven itself, and
nothing else; there is no setting for less. It knows nothing of names or credentials.
"""

from centcert.smb3.client import Connection, connect
from centcert.smb3.errors import (
    ConnectionLost,
    DeadlineMissed,
    FileChanging,
    FileTooLarge,
    InvalidPath,
    LoginRefused,
    LoginUnusable,
    ProtocolViolation,
    QueueFull,
    SecurityViolation,
    SmbError,
    StatusError,
)
from centcert.smb3.events import (
    Closed,
    Connected,
    Event,
    OperationEnded,
    ProtocolAgreed,
    SessionSetUp,
    TreeConnected,
)
from centcert.smb3.login import HashLogin, KeytabLogin, Login, PasswordLogin
from centcert.smb3.operations import File
from centcert.smb3.probe import Exposure, probe
from centcert.smb3.replies import Action, DirectoryEntry, FileChange, FileInfo
from centcert.smb3.requests import Access
from centcert.smb3.sealing import Cipher
from centcert.smb3.status import Kind, Status
from centcert.smb3.watch import Watch

__all__ = [
    "Access",
    "Action",
    "Cipher",
    "Closed",
    "Connected",
    "Connection",
    "ConnectionLost",
    "DeadlineMissed",
    "DirectoryEntry",
    "Event",
    "Exposure",
    "File",
    "FileChange",
    "FileChanging",
    "FileInfo",
    "FileTooLarge",
    "HashLogin",
    "InvalidPath",
    "KeytabLogin",
    "Kind",
    "Login",
    "LoginRefused",
    "LoginUnusable",
    "OperationEnded",
    "PasswordLogin",
    "ProtocolAgreed",
    "ProtocolViolation",
    "QueueFull",
    "SecurityViolation",
    "SessionSetUp",
    "SmbError",
    "Status",
    "StatusError",
    "TreeConnected",
    "Watch",
    "connect",
    "probe",
]
