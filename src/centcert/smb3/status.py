"""NTSTATUS values ([MS-ERREF] 2.3.1) and what they mean to a reader of files."""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final


class Status(IntEnum):
    """The statuses that this client has met or steers by."""

    SUCCESS = 0x00000000
    PENDING = 0x00000103
    NOTIFY_CLEANUP = 0x0000010B
    NOTIFY_ENUM_DIR = 0x0000010C
    BUFFER_OVERFLOW = 0x80000005
    NO_MORE_FILES = 0x80000006
    NOT_IMPLEMENTED = 0xC0000002
    INVALID_PARAMETER = 0xC000000D
    NO_SUCH_FILE = 0xC000000F
    INVALID_DEVICE_REQUEST = 0xC0000010
    END_OF_FILE = 0xC0000011
    MORE_PROCESSING_REQUIRED = 0xC0000016
    ACCESS_DENIED = 0xC0000022
    OBJECT_NAME_INVALID = 0xC0000033
    OBJECT_NAME_NOT_FOUND = 0xC0000034
    OBJECT_NAME_COLLISION = 0xC0000035
    OBJECT_PATH_NOT_FOUND = 0xC000003A
    OBJECT_PATH_SYNTAX_BAD = 0xC000003B
    SHARING_VIOLATION = 0xC0000043
    FILE_LOCK_CONFLICT = 0xC0000054
    DELETE_PENDING = 0xC0000056
    NO_SUCH_USER = 0xC0000064
    WRONG_PASSWORD = 0xC000006A
    LOGON_FAILURE = 0xC000006D
    ACCOUNT_RESTRICTION = 0xC000006E
    INVALID_LOGON_HOURS = 0xC000006F
    INVALID_WORKSTATION = 0xC0000070
    PASSWORD_EXPIRED = 0xC0000071
    ACCOUNT_DISABLED = 0xC0000072
    DISK_FULL = 0xC000007F
    INSUFFICIENT_RESOURCES = 0xC000009A
    MEDIA_WRITE_PROTECTED = 0xC00000A2
    FILE_IS_A_DIRECTORY = 0xC00000BA
    NOT_SUPPORTED = 0xC00000BB
    NETWORK_NAME_DELETED = 0xC00000C9
    BAD_DEVICE_TYPE = 0xC00000CB
    BAD_NETWORK_NAME = 0xC00000CC
    REQUEST_NOT_ACCEPTED = 0xC00000D0
    DIRECTORY_NOT_EMPTY = 0xC0000101
    NOT_A_DIRECTORY = 0xC0000103
    TOO_MANY_OPENED_FILES = 0xC000011F
    CANCELLED = 0xC0000120
    CANNOT_DELETE = 0xC0000121
    FILE_CLOSED = 0xC0000128
    LOGON_TYPE_NOT_GRANTED = 0xC000015B
    ACCOUNT_EXPIRED = 0xC0000193
    USER_SESSION_DELETED = 0xC0000203
    CONNECTION_DISCONNECTED = 0xC000020C
    PASSWORD_MUST_CHANGE = 0xC0000224
    ACCOUNT_LOCKED_OUT = 0xC0000234
    NETWORK_SESSION_EXPIRED = 0xC000035C


class Kind(Enum):
    """What a status means to a caller. Only what callers decide by is told apart."""

    ABSENT = auto()
    """No file of that name in a folder that is there."""
    FOLDER_MISSING = auto()
    """The way to the file is missing: a set-up fault, not an absent file."""
    SHARE_MISSING = auto()
    """The server has no such share of files."""
    NOT_A_FILE = auto()
    """A directory where a file was asked for, or the other way round."""
    DENIED = auto()
    """The account may not do this."""
    LOGIN = auto()
    """The account itself is refused: wrong password, locked, expired."""
    BUSY = auto()
    """A writer holds the file, or the server has no room now; try again shortly."""
    SESSION_GONE = auto()
    """The session or the tree has ended; connect anew."""
    NAME_REFUSED = auto()
    """The server cannot have a file of that name."""
    EXISTS = auto()
    """The name is taken already."""
    UNSUPPORTED = auto()
    """The server does not do this at all."""
    OTHER = auto()
    """Anything else; see the number."""


_FAMILIES: Final = {
    Kind.ABSENT: (Status.OBJECT_NAME_NOT_FOUND, Status.NO_SUCH_FILE),
    Kind.FOLDER_MISSING: (Status.OBJECT_PATH_NOT_FOUND,),
    Kind.SHARE_MISSING: (Status.BAD_NETWORK_NAME, Status.BAD_DEVICE_TYPE),
    Kind.NOT_A_FILE: (Status.FILE_IS_A_DIRECTORY, Status.NOT_A_DIRECTORY),
    Kind.DENIED: (Status.ACCESS_DENIED, Status.MEDIA_WRITE_PROTECTED, Status.CANNOT_DELETE),
    Kind.LOGIN: (
        Status.NO_SUCH_USER,
        Status.WRONG_PASSWORD,
        Status.LOGON_FAILURE,
        Status.ACCOUNT_RESTRICTION,
        Status.INVALID_LOGON_HOURS,
        Status.INVALID_WORKSTATION,
        Status.PASSWORD_EXPIRED,
        Status.ACCOUNT_DISABLED,
        Status.LOGON_TYPE_NOT_GRANTED,
        Status.ACCOUNT_EXPIRED,
        Status.PASSWORD_MUST_CHANGE,
        Status.ACCOUNT_LOCKED_OUT,
    ),
    Kind.BUSY: (
        Status.SHARING_VIOLATION,
        Status.FILE_LOCK_CONFLICT,
        Status.DELETE_PENDING,
        Status.INSUFFICIENT_RESOURCES,
        Status.REQUEST_NOT_ACCEPTED,
        Status.TOO_MANY_OPENED_FILES,
    ),
    Kind.SESSION_GONE: (
        Status.USER_SESSION_DELETED,
        Status.NETWORK_NAME_DELETED,
        Status.CONNECTION_DISCONNECTED,
        Status.NETWORK_SESSION_EXPIRED,
        Status.FILE_CLOSED,
    ),
    Kind.NAME_REFUSED: (
        Status.OBJECT_NAME_INVALID,
        Status.OBJECT_PATH_SYNTAX_BAD,
        Status.INVALID_PARAMETER,
    ),
    Kind.EXISTS: (Status.OBJECT_NAME_COLLISION,),
    Kind.UNSUPPORTED: (
        Status.NOT_IMPLEMENTED,
        Status.NOT_SUPPORTED,
        Status.INVALID_DEVICE_REQUEST,
    ),
}
_KINDS: Final = {int(s): kind for kind, statuses in _FAMILIES.items() for s in statuses}
_NAMES: Final = {int(status): status.name for status in Status}


def kind_of(status: int) -> Kind:
    """Sort a status, any 32-bit number, into its family."""
    return _KINDS.get(status, Kind.OTHER)


def phrase_for(status: int) -> str:
    """Name a status for a person: ``STATUS_ACCESS_DENIED (0xC0000022)``, else the number."""
    name = _NAMES.get(status)
    return f"0x{status:08X}" if name is None else f"STATUS_{name} (0x{status:08X})"
