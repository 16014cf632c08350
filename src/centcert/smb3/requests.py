"""The bodies of requests, one function a command. Pure; headers are the core's matter."""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from centcert.smb3.credits import charge_for
from centcert.smb3.errors import InvalidPath
from centcert.smb3.wire import HEADER_BYTES, Command, Request

SAME_FILE: Final = b"\xff" * 16
"""In a compound: the file that the CREATE before it opens ([MS-SMB2] 3.2.4.1.4)."""

_NO_FILE_NAME: Final = b"\0\0"  # the buffer may not be empty, even if the name is

# [MS-SMB2] 2.2.5: StructureSize, Flags, SecurityMode, Capabilities, Channel,
# SecurityBufferOffset, SecurityBufferLength, PreviousSessionId.
_SESSION_SETUP: Final = Struct("<HBBIIHHQ")
_SIGNING_REQUIRED: Final = 0x02
# [MS-SMB2] 2.2.9: StructureSize, Flags, PathOffset, PathLength.
_TREE_CONNECT: Final = Struct("<HHHH")
# [MS-SMB2] 2.2.13: StructureSize, SecurityFlags, RequestedOplockLevel,
# ImpersonationLevel, SmbCreateFlags, Reserved, DesiredAccess, FileAttributes,
# ShareAccess, CreateDisposition, CreateOptions, NameOffset, NameLength,
# CreateContextsOffset, CreateContextsLength.
_CREATE: Final = Struct("<HBBIQQIIIIIHHII")
# [MS-SMB2] 2.2.15: StructureSize, Flags, Reserved, FileId.
_CLOSE: Final = Struct("<HHI16s")
# [MS-SMB2] 2.2.17: StructureSize, Reserved1, Reserved2, FileId.
_FLUSH: Final = Struct("<HHI16s")
# [MS-SMB2] 2.2.19: StructureSize, Padding, Flags, Length, Offset, FileId, MinimumCount,
# Channel, RemainingBytes, ReadChannelInfoOffset, ReadChannelInfoLength, one byte.
_READ: Final = Struct("<HBBIQ16sIIIHHB")
_READ_DATA_OFFSET: Final = HEADER_BYTES + 16
# [MS-SMB2] 2.2.21: StructureSize, DataOffset, Length, Offset, FileId, Channel,
# RemainingBytes, WriteChannelInfoOffset, WriteChannelInfoLength, Flags.
_WRITE: Final = Struct("<HHIQ16sIIHHI")
# [MS-SMB2] 2.2.33: StructureSize, FileInformationClass, Flags, FileIndex, FileId,
# FileNameOffset, FileNameLength, OutputBufferLength.
_QUERY_DIRECTORY: Final = Struct("<HBBI16sHHI")
# [MS-SMB2] 2.2.35: StructureSize, Flags, OutputBufferLength, FileId, CompletionFilter,
# Reserved.
_CHANGE_NOTIFY: Final = Struct("<HHI16sII")
# [MS-SMB2] 2.2.39: StructureSize, InfoType, FileInfoClass, BufferLength, BufferOffset,
# Reserved, AdditionalInformation, FileId.
_SET_INFO: Final = Struct("<HBBIHHI16s")
# [MS-FSCC] 2.4.42.2: ReplaceIfExists, Reserved, RootDirectory, FileNameLength.
_RENAME: Final = Struct("<B7sQI")
_EMPTY: Final = Struct("<HH")  # TREE_DISCONNECT, LOGOFF, ECHO (2.2.11, 2.2.7, 2.2.28)

_IMPERSONATION: Final = 2
_INFO_FILE: Final = 1
_RENAME_INFORMATION: Final = 10
_DISPOSITION_INFORMATION: Final = 13
_DIRECTORY_INFORMATION: Final = 1
_SHARE_READ_WRITE_DELETE: Final = 7
_NOTIFY_NAMES_AND_CONTENT: Final = 0x01 | 0x04 | 0x08 | 0x10 | 0x40
"""FILE_NAME, ATTRIBUTES, SIZE, LAST_WRITE, CREATION: what makes another content of a file.

ATTRIBUTES is for Samba: only with it does it report that a program on the server itself
wrote to a file (it maps inotify's IN_MODIFY to nothing else).
"""

# [MS-SMB2] 2.2.13.2 with no data (2.2.13.2.5): Next, NameOffset, NameLength, Reserved,
# DataOffset, DataLength, the name and padding.
_QUERY_MAXIMAL_ACCESS: Final = Struct("<IHHHHI4s4x").pack(0, 16, 4, 0, 0, 0, b"MxAc")

# What [MS-FSCC] 2.1.5 forbids in a name, and what would leave the share.
_PATH: Final = re.compile(r'[^\0-\x1f"*/:<>?|\\]{1,255}(?:\\[^\0-\x1f"*/:<>?|\\]{1,255})*')
_DOTS: Final = frozenset((".", ".."))
_MAX_PATH_BYTES: Final = 2048
"""[MS-SMB2] allows 64 KiB; Samba and Windows stop far earlier."""


class Access(IntFlag):
    """What may be done with a file or folder ([MS-SMB2] 2.2.13.1)."""

    READ_DATA = 0x00000001
    WRITE_DATA = 0x00000002
    APPEND_DATA = 0x00000004
    READ_EA = 0x00000008
    WRITE_EA = 0x00000010
    EXECUTE = 0x00000020
    DELETE_CHILD = 0x00000040
    READ_ATTRIBUTES = 0x00000080
    WRITE_ATTRIBUTES = 0x00000100
    DELETE = 0x00010000
    READ_CONTROL = 0x00020000
    WRITE_DAC = 0x00040000
    WRITE_OWNER = 0x00080000
    SYNCHRONIZE = 0x00100000

    @property
    def can_change(self) -> bool:
        """Whether it lets one write, add, rename or delete files, or give oneself the right."""
        return bool(self & CHANGING)


CHANGING: Final = (
    Access.WRITE_DATA  # of a folder: add a file
    | Access.APPEND_DATA  # of a folder: add a sub-folder
    | Access.DELETE_CHILD
    | Access.DELETE
    | Access.WRITE_DAC
    | Access.WRITE_OWNER
)
"""What lets an account change a store."""


class Disposition(IntEnum):
    """What CREATE does with a file that is there or is not ([MS-SMB2] 2.2.13)."""

    OPEN = 1
    CREATE = 2


class Option(IntFlag):
    """What CREATE insists on ([MS-SMB2] 2.2.13)."""

    NONE = 0
    DIRECTORY_FILE = 0x01
    NON_DIRECTORY_FILE = 0x40


def session_setup(token: bytes) -> Request:
    """SESSION_SETUP ([MS-SMB2] 2.2.5) with a token of the account's proof."""
    fixed = _SESSION_SETUP.pack(25, 0, _SIGNING_REQUIRED, 0, 0, HEADER_BYTES + 24, len(token), 0)
    return Request(Command.SESSION_SETUP, fixed + token)


def tree_connect(server_name: str, share: str) -> Request:
    r"""TREE_CONNECT ([MS-SMB2] 2.2.9) to ``\\server\share``.

    Raises:
        InvalidPath: ``share`` is not the name of a share.
    """
    if _PATH.fullmatch(share) is None or "\\" in share:
        raise InvalidPath(f"{share!a} is not the name of a share.")
    path = rf"\\{server_name}\{share}".encode("utf-16-le", "replace")
    return Request(
        Command.TREE_CONNECT, _TREE_CONNECT.pack(9, 0, HEADER_BYTES + 8, len(path)) + path
    )


def create(
    path: str,
    access: Access | int,
    *,
    disposition: Disposition = Disposition.OPEN,
    options: Option = Option.NONE,
    query_access: bool = False,
) -> Request:
    """CREATE ([MS-SMB2] 2.2.13), no oplock, others may read, write and delete meanwhile.

    Args:
        path: relative to the share; empty for its top folder.
        access: the rights that the handle shall have.
        disposition: open what is there, or make what is not.
        options: file or folder.
        query_access: ask as well what the account may do with it (2.2.13.2.5).

    Raises:
        InvalidPath: see ``encode_path``.
    """
    name = encode_path(path) if path else b""
    buffer = name or _NO_FILE_NAME
    contexts_offset = contexts_length = 0
    if query_access:
        buffer += bytes(-len(buffer) % 8)
        contexts_offset = HEADER_BYTES + _CREATE.size + len(buffer)
        contexts_length = len(_QUERY_MAXIMAL_ACCESS)
        buffer += _QUERY_MAXIMAL_ACCESS
    fixed = _CREATE.pack(
        57,
        0,
        0,
        _IMPERSONATION,
        0,
        0,
        access,
        0,
        _SHARE_READ_WRITE_DELETE,
        disposition,
        options,
        HEADER_BYTES + _CREATE.size,
        len(name),
        contexts_offset,
        contexts_length,
    )
    return Request(Command.CREATE, fixed + buffer)


def read(length: int, *, offset: int = 0) -> Request:
    """READ ([MS-SMB2] 2.2.19) from the file opened in the same compound."""
    body = _READ.pack(49, _READ_DATA_OFFSET, 0, length, offset, SAME_FILE, 0, 0, 0, 0, 0, 0)
    return Request(Command.READ, body, charge_for(length))


def write(data: bytes, *, offset: int = 0) -> Request:
    """WRITE ([MS-SMB2] 2.2.21) to the file opened in the same compound."""
    fixed = _WRITE.pack(49, HEADER_BYTES + _WRITE.size, len(data), offset, SAME_FILE, 0, 0, 0, 0, 0)
    return Request(Command.WRITE, fixed + data, charge_for(len(data)))


def flush() -> Request:
    """FLUSH ([MS-SMB2] 2.2.17) of the file opened in the same compound."""
    return Request(Command.FLUSH, _FLUSH.pack(24, 0, 0, SAME_FILE))


def close(file_id: bytes = SAME_FILE, *, query_info: bool = False) -> Request:
    """CLOSE ([MS-SMB2] 2.2.15).

    Args:
        file_id: what to close.
        query_info: ask as well how the file is now (SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB).
    """
    return Request(Command.CLOSE, _CLOSE.pack(24, query_info, 0, file_id))


def query_directory(max_bytes: int, file_id: bytes = SAME_FILE) -> Request:
    """QUERY_DIRECTORY ([MS-SMB2] 2.2.33), FileDirectoryInformation: the next entries."""
    pattern = "*".encode("utf-16-le")
    fixed = _QUERY_DIRECTORY.pack(
        33,
        _DIRECTORY_INFORMATION,
        0,
        0,
        file_id,
        HEADER_BYTES + _QUERY_DIRECTORY.size,
        len(pattern),
        max_bytes,
    )
    return Request(Command.QUERY_DIRECTORY, fixed + pattern, charge_for(max_bytes))


def change_notify(file_id: bytes, max_bytes: int) -> Request:
    """CHANGE_NOTIFY ([MS-SMB2] 2.2.35): names and content in this folder, not below it."""
    body = _CHANGE_NOTIFY.pack(32, 0, max_bytes, file_id, _NOTIFY_NAMES_AND_CONTENT, 0)
    return Request(Command.CHANGE_NOTIFY, body, charge_for(max_bytes))


def rename(new_path: str, *, replace: bool) -> Request:
    """SET_INFO with FileRenameInformation ([MS-FSCC] 2.4.42.2), in a compound.

    Raises:
        InvalidPath: see ``encode_path``.
    """
    name = encode_path(new_path)
    return _set_info(_RENAME_INFORMATION, _RENAME.pack(replace, bytes(7), 0, len(name)) + name)


def delete() -> Request:
    """SET_INFO with FileDispositionInformation ([MS-FSCC] 2.4.11), in a compound.

    The file goes when its last handle is closed.
    """
    return _set_info(_DISPOSITION_INFORMATION, b"\x01")


def echo() -> Request:
    """ECHO ([MS-SMB2] 2.2.28)."""
    return Request(Command.ECHO, _EMPTY.pack(4, 0))


def tree_disconnect() -> Request:
    """TREE_DISCONNECT ([MS-SMB2] 2.2.11)."""
    return Request(Command.TREE_DISCONNECT, _EMPTY.pack(4, 0))


def logoff() -> Request:
    """LOGOFF ([MS-SMB2] 2.2.7)."""
    return Request(Command.LOGOFF, _EMPTY.pack(4, 0))


def cancel_body() -> bytes:
    """CANCEL's body ([MS-SMB2] 2.2.30)."""
    return _EMPTY.pack(4, 0)


def encode_path(path: str) -> bytes:
    r"""Encode a path within the share: names joined by ``\``, as UTF-16 ([MS-SMB2] 2.2.13).

    Raises:
        InvalidPath: empty, absolute, climbing, over-long, or with a character that no
            name may have ([MS-FSCC] 2.1.5); a pattern or a stream among them.
    """
    if _PATH.fullmatch(path) is None or ("." in path and _DOTS & set(path.split("\\"))):
        raise InvalidPath(f"{_shown(path)} is not a path within a share.")
    try:
        encoded = path.encode("utf-16-le")
    except UnicodeEncodeError:
        raise InvalidPath(f"{_shown(path)} is not a path within a share.") from None
    if len(encoded) > _MAX_PATH_BYTES:
        raise InvalidPath(f"{_shown(path)} is too long for a path within a share.")
    return encoded


def _set_info(information: int, data: bytes) -> Request:
    fixed = _SET_INFO.pack(
        33, _INFO_FILE, information, len(data), HEADER_BYTES + _SET_INFO.size, 0, 0, SAME_FILE
    )
    return Request(Command.SET_INFO, fixed + data)


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:80] + "…")  # noqa: PLR2004
