"""The bodies of replies: each length and offset is checked against the frame. Pure.

A reader here is given a reply of its own command with a successful status; it raises
``ProtocolViolation`` for whatever does not fit, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from centcert.smb3.errors import ProtocolViolation
from centcert.smb3.requests import CHANGING, Access
from centcert.smb3.status import Status
from centcert.smb3.wire import HEADER_BYTES

if TYPE_CHECKING:
    from centcert.smb3.wire import Reply

# [MS-SMB2] 2.2.6: StructureSize, SessionFlags, SecurityBufferOffset, SecurityBufferLength.
_SESSION_SETUP: Final = Struct("<HHHH")
# [MS-SMB2] 2.2.10: StructureSize, ShareType, Reserved, ShareFlags, Capabilities,
# MaximalAccess.
_TREE_CONNECT: Final = Struct("<HBBIII")
# [MS-SMB2] 2.2.14: StructureSize, OplockLevel, Flags, CreateAction, CreationTime,
# LastAccessTime, LastWriteTime, ChangeTime, AllocationSize, EndofFile, FileAttributes,
# Reserved2, FileId, CreateContextsOffset, CreateContextsLength.
_CREATE: Final = Struct("<HBBIQQQQQQII16sII")
# [MS-SMB2] 2.2.13.2: Next, NameOffset, NameLength, Reserved, DataOffset, DataLength.
_CREATE_CONTEXT: Final = Struct("<IHHHHI")
# [MS-SMB2] 2.2.14.2.5: QueryStatus, MaximalAccess.
_MAXIMAL_ACCESS: Final = Struct("<II")
# [MS-SMB2] 2.2.16: StructureSize, Flags, Reserved, CreationTime, LastAccessTime,
# LastWriteTime, ChangeTime, AllocationSize, EndofFile, FileAttributes.
_CLOSE: Final = Struct("<HHIQQQQQQI")
_POSTQUERY_ATTRIB: Final = 0x0001
# [MS-SMB2] 2.2.20: StructureSize, DataOffset, Reserved, DataLength.
_READ: Final = Struct("<HBBI")
# [MS-SMB2] 2.2.22: StructureSize, Reserved, Count.
_WRITE: Final = Struct("<HHI")
# [MS-SMB2] 2.2.34 and 2.2.36: StructureSize, OutputBufferOffset, OutputBufferLength.
_OUTPUT: Final = Struct("<HHI")
# [MS-FSCC] 2.4.10: NextEntryOffset, FileIndex, CreationTime, LastAccessTime,
# LastWriteTime, ChangeTime, EndOfFile, AllocationSize, FileAttributes, FileNameLength.
_DIRECTORY_ENTRY: Final = Struct("<IIQQQQQQII")
# [MS-FSCC] 2.7.1: NextEntryOffset, Action, FileNameLength.
_CHANGE: Final = Struct("<III")

_DISK: Final = 0x01
_ATTRIBUTE_DIRECTORY: Final = 0x10
_EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970-01-01 in FILETIME's steps of 100 ns since 1601 ([MS-DTYP] 2.3.3)."""

_SESSION_IS_GUEST: Final = 0x0001
_SESSION_IS_NULL: Final = 0x0002
_SESSION_ENCRYPTS: Final = 0x0004
_SHARE_ENCRYPTS: Final = 0x8000
_MAX_CONTEXTS: Final = 16


@dataclass(frozen=True, slots=True)
class SessionReply:
    """What SESSION_SETUP brought ([MS-SMB2] 2.2.6).

    Attributes:
        token: for the account's proof; may be empty.
        guest: the server took the account for a guest's.
        anonymous: the server took it for nobody's.
        encrypts: the server wants the whole session sealed.
    """

    token: bytes
    guest: bool
    anonymous: bool
    encrypts: bool


@dataclass(frozen=True, slots=True)
class TreeReply:
    """What TREE_CONNECT brought ([MS-SMB2] 2.2.10).

    Attributes:
        is_disk: a share of files, not a pipe or a printer.
        encrypts: the server wants this share sealed.
        access: the most that the share lets this account do.
    """

    is_disk: bool
    encrypts: bool
    access: Access


def since_epoch(filetime: int) -> float:
    """Return a FILETIME ([MS-DTYP] 2.3.3) in seconds since the epoch of Unix."""
    return (filetime - _EPOCH_TICKS) / 10_000_000


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a server says of a file or folder.

    Attributes:
        size: bytes.
        created: FILETIME: 100 ns since 1601, the server's clock ([MS-DTYP] 2.3.3).
        written: FILETIME of the last change of its content.
        changed: FILETIME of the last change of anything, a rename among it.
        attributes: [MS-FSCC] 2.6.
    """

    size: int
    created: int
    written: int
    changed: int
    attributes: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & _ATTRIBUTE_DIRECTORY)

    @property
    def modified_s(self) -> float:
        """``written`` in seconds since the epoch."""
        return since_epoch(self.written)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One line of a listing.

    Attributes:
        name: as the server spells it.
        info: as ``stat`` would say.
    """

    name: str
    info: FileInfo


class Action(IntEnum):
    """What happened to a name ([MS-FSCC] 2.7.1)."""

    ADDED = 1
    REMOVED = 2
    MODIFIED = 3
    RENAMED_FROM = 4
    RENAMED_TO = 5


@dataclass(frozen=True, slots=True)
class FileChange:
    """One change in a watched folder.

    Attributes:
        action: what happened.
        name: to which name, relative to the folder.
    """

    action: Action
    name: str


@dataclass(frozen=True, slots=True)
class Created:
    """What CREATE brought ([MS-SMB2] 2.2.14): an open file.

    Attributes:
        file_id: its handle, 16 bytes.
        info: of the file.
        access: the most this account may do with it; ``None`` if not asked for.
    """

    file_id: bytes
    info: FileInfo
    access: Access | None


def session_setup(reply: Reply) -> SessionReply:
    """Read [MS-SMB2] 2.2.6."""
    _, flags, offset, length = _fields(reply, _SESSION_SETUP)
    return SessionReply(
        token=_buffer(reply, offset, length),
        guest=bool(flags & _SESSION_IS_GUEST),
        anonymous=bool(flags & _SESSION_IS_NULL),
        encrypts=bool(flags & _SESSION_ENCRYPTS),
    )


def tree_connect(reply: Reply) -> TreeReply:
    """Read [MS-SMB2] 2.2.10."""
    _, kind, _, flags, _, access = _fields(reply, _TREE_CONNECT)
    bounds = Access(access)
    if not bounds & (Access.WRITE_DATA | Access.APPEND_DATA):
        # Samba says DELETE, WRITE_DAC and WRITE_OWNER of a share that is read-only as
        # well, though it lets nobody use them there.
        bounds &= ~CHANGING
    return TreeReply(is_disk=kind == _DISK, encrypts=bool(flags & _SHARE_ENCRYPTS), access=bounds)


def create(reply: Reply) -> Created:
    """Read [MS-SMB2] 2.2.14."""
    (
        _,
        _,
        _,
        _,
        created,
        _,
        written,
        changed,
        _,
        size,
        attributes,
        _,
        file_id,
        contexts_offset,
        contexts_length,
    ) = _fields(reply, _CREATE)
    access = None
    if contexts_length:
        access = _maximal_access(_buffer(reply, contexts_offset, contexts_length))
    return Created(file_id, FileInfo(size, created, written, changed, attributes), access)


def close(reply: Reply) -> FileInfo | None:
    """Read [MS-SMB2] 2.2.16; ``None`` if the server does not say how the file is now."""
    _, flags, _, created, _, written, changed, _, size, attributes = _fields(reply, _CLOSE)
    if not flags & _POSTQUERY_ATTRIB:
        return None
    return FileInfo(size, created, written, changed, attributes)


def read(reply: Reply) -> bytes:
    """Read the data of [MS-SMB2] 2.2.20."""
    _, offset, _, length = _fields(reply, _READ)
    return _buffer(reply, offset, length)


def write(reply: Reply) -> int:
    """Read how many bytes were written ([MS-SMB2] 2.2.22)."""
    _, _, count = _fields(reply, _WRITE)
    return int(count)


def query_directory(reply: Reply) -> list[DirectoryEntry]:
    """Read the entries of [MS-SMB2] 2.2.34, without the folder itself and its parent."""
    _, offset, length = _fields(reply, _OUTPUT)
    buffer = _buffer(reply, offset, length)
    unpack = _DIRECTORY_ENTRY.unpack_from
    fixed = _DIRECTORY_ENTRY.size
    entries = []
    position = 0
    while position + fixed <= length:
        step, _, created, _, written, changed, size, _, attributes, name_length = unpack(
            buffer, position
        )
        name = _name(buffer, position + fixed, name_length)
        if name not in {".", ".."}:
            info = FileInfo(size, created, written, changed, attributes)
            entries.append(DirectoryEntry(name, info))
        if not step:
            return entries
        position = _next(position, step, fixed)
    raise ProtocolViolation("The server sent a listing that leaves its frame.")


def change_notify(reply: Reply) -> tuple[FileChange, ...] | None:
    """Read the changes of [MS-SMB2] 2.2.36; ``None`` if the server has lost some.

    It has if it says NOTIFY_ENUM_DIR, or nothing at all ([MS-SMB2] 3.2.5.16).
    """
    if reply.status == Status.NOTIFY_ENUM_DIR:
        return None
    _, offset, length = _fields(reply, _OUTPUT)
    if not length:
        return None
    buffer = _buffer(reply, offset, length)
    changes = []
    position = 0
    while position + _CHANGE.size <= length:
        step, number, name_length = _CHANGE.unpack_from(buffer, position)
        name = _name(buffer, position + _CHANGE.size, name_length)
        # Other actions are of streams and of object ids, which change no content.
        if Action.ADDED <= number <= Action.RENAMED_TO:
            changes.append(FileChange(Action(number), name))
        if not step:
            return tuple(changes)
        position = _next(position, step, _CHANGE.size)
    raise ProtocolViolation("The server sent changes that leave their frame.")


def _fields(reply: Reply, structure: Struct) -> tuple[Any, ...]:
    body = reply.start + HEADER_BYTES
    if body + structure.size > reply.end:
        raise ProtocolViolation("The server sent a reply that is cut short.")
    return structure.unpack_from(reply.packet, body)


def _buffer(reply: Reply, offset: int, length: int) -> bytes:
    """Cut out what begins ``offset`` bytes after the reply's header begins."""
    if not length:
        return b""
    start = reply.start + offset
    if offset < HEADER_BYTES or start + length > reply.end:
        raise ProtocolViolation("The server sent a buffer that leaves its reply.")
    return reply.packet[start : start + length]


def _name(buffer: bytes, start: int, length: int) -> str:
    if length % 2 or start + length > len(buffer):
        raise ProtocolViolation("The server sent a file name that leaves its buffer.")
    # A server's names need not be valid UTF-16 ([MS-FSCC] 2.1.5). A lone surrogate
    # stays one: no caller can ask for that name, and none confuses it with another.
    return buffer[start : start + length].decode("utf-16-le", "surrogatepass")


def _next(position: int, step: int, fixed: int) -> int:
    if step < fixed:
        raise ProtocolViolation("The server sent entries that overlap.")
    return position + step


def _maximal_access(contexts: bytes) -> Access | None:
    position = 0
    for _ in range(_MAX_CONTEXTS):
        if position + _CREATE_CONTEXT.size > len(contexts):
            break
        step, name_offset, name_length, _, data_offset, data_length = _CREATE_CONTEXT.unpack_from(
            contexts, position
        )
        name = contexts[position + name_offset :][:name_length]
        data = contexts[position + data_offset :][:data_length]
        if name == b"MxAc":
            if len(data) < _MAXIMAL_ACCESS.size:
                break
            status, access = _MAXIMAL_ACCESS.unpack_from(data)
            return Access(access) if status == Status.SUCCESS else None
        if not step:
            return None
        position += step
    raise ProtocolViolation("The server sent create contexts that leave their buffer.")
