"""Frames and headers: what every SMB2 message has in common. No I/O, no state of a session.

Every length and offset that comes from the wire is checked here or in ``replies``
before it is used; what does not fit raises ``ProtocolViolation``.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from centcert.smb3.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterator

Octets: TypeAlias = bytes | bytearray | memoryview

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024 + 64 * 1024
"""The longest frame accepted: the largest reply that is ever asked for, and its headers.

The transport itself could carry 16 MiB - 1 ([MS-SMB2] 2.1).
"""

HEADER_BYTES: Final = 64
PROTOCOL_ID: Final = b"\xfeSMB"
TRANSFORM_ID: Final = b"\xfdSMB"

SIGNATURE: Final = slice(48, 64)
"""Where a header holds its signature ([MS-SMB2] 2.2.1.2)."""

# [MS-SMB2] 2.2.1.2, the synchronous form. The asynchronous form (2.2.1.1) holds an
# AsyncId of 8 bytes where this one has Reserved and TreeId.
_HEADER: Final = Struct("<4sHHIHHIIQIIQ16s")
_ASYNC_ID: Final = Struct("<Q")
_LENGTH: Final = Struct(">I")
_NO_SIGNATURE: Final = bytes(16)


class Command(IntEnum):
    """The commands of this client ([MS-SMB2] 2.2.1.2)."""

    NEGOTIATE = 0x0000
    SESSION_SETUP = 0x0001
    LOGOFF = 0x0002
    TREE_CONNECT = 0x0003
    TREE_DISCONNECT = 0x0004
    CREATE = 0x0005
    CLOSE = 0x0006
    FLUSH = 0x0007
    READ = 0x0008
    WRITE = 0x0009
    CANCEL = 0x000C
    ECHO = 0x000D
    QUERY_DIRECTORY = 0x000E
    CHANGE_NOTIFY = 0x000F
    SET_INFO = 0x0011


class HeaderFlags(IntFlag):
    """Flags of a header ([MS-SMB2] 2.2.1.2)."""

    SERVER_TO_REDIR = 0x1
    ASYNC_COMMAND = 0x2
    RELATED_OPERATIONS = 0x4
    SIGNED = 0x8


# Plain numbers for the paths that run for each message: an IntFlag's arithmetic
# costs a microsecond each time.
REPLY: Final = int(HeaderFlags.SERVER_TO_REDIR)
ASYNC: Final = int(HeaderFlags.ASYNC_COMMAND)
RELATED: Final = int(HeaderFlags.RELATED_OPERATIONS)
SIGNED: Final = int(HeaderFlags.SIGNED)


class Request(NamedTuple):
    """A command before it has a header.

    Attributes:
        command: what is asked.
        body: the structure after the header.
        charge: credits that it costs, at least 1 ([MS-SMB2] 3.2.4.1.5).
    """

    command: Command
    body: bytes
    charge: int = 1


class Reply(NamedTuple):
    """One message from the server, with its header taken apart.

    Attributes:
        packet: the whole frame that it came in, opened.
        start: where its header begins in ``packet``.
        end: where it ends, padding included. ``end - start`` is at least 64.
        status: NTSTATUS.
        command: as the wire has it; perhaps none of ``Command``.
        credits: how many it grants.
        flags: ``HeaderFlags``.
        message_id: of the request that it answers.
        async_id: the server's name for a pending request; 0 unless ``ASYNC`` is set.
        tree_id: 0 if ``ASYNC`` is set.
        session_id: of the session that it claims to be of.
    """

    packet: bytes
    start: int
    end: int
    status: int
    command: int
    credits: int
    flags: int
    message_id: int
    async_id: int
    tree_id: int
    session_id: int


class Frames:
    """Cuts the stream of a connection into frames ([MS-SMB2] 2.1: direct TCP)."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    @property
    def empty(self) -> bool:
        """Whether no begun frame waits for its rest."""
        return not self._partial

    def feed(self, data: Octets) -> Iterator[memoryview]:
        """Yield each whole frame, without its length.

        A frame is a view that holds until the iteration goes on: copy it to keep it.
        ``data`` may be reused once the iteration has ended.

        Raises:
            ProtocolViolation: a length no SMB 3 reply has.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed():
                return
            # Swapped out, so that what is left over starts a new buffer: a bytearray
            # cannot shrink while views of it are out.
            data, self._partial = self._partial, bytearray()
        view = memoryview(data)
        position = 0
        while len(view) - position >= _LENGTH.size:
            end = position + _LENGTH.size + _frame_length(view, position)
            if end > len(view):
                break
            yield view[position + _LENGTH.size : end]
            position = end
        if position < len(view):
            self._partial += view[position:]

    def _needed(self) -> int:
        if len(self._partial) < _LENGTH.size:
            return _LENGTH.size
        return _LENGTH.size + _frame_length(self._partial, 0)


def frame(*parts: bytes) -> bytes:
    """Put the length of the transport before a message ([MS-SMB2] 2.1)."""
    return b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))


def header(
    command: int,
    *,
    message_id: int,
    charge: int = 1,
    credits_asked: int = 1,
    flags: int = 0,
    next_command: int = 0,
    tree_id: int = 0,
    session_id: int = 0,
) -> bytes:
    """Pack a request's header ([MS-SMB2] 2.2.1.2), not signed."""
    return _HEADER.pack(
        PROTOCOL_ID,
        HEADER_BYTES,
        charge,
        0,
        command,
        credits_asked,
        flags,
        next_command,
        message_id,
        0,
        tree_id,
        session_id,
        _NO_SIGNATURE,
    )


def cancel_header(*, message_id: int, async_id: int, session_id: int) -> bytes:
    """Pack the header of a CANCEL ([MS-SMB2] 3.2.4.24): it takes no message id, no credit.

    ``async_id`` is 0 for a request that the server has not yet called pending.
    """
    packed = bytearray(
        header(
            Command.CANCEL,
            message_id=message_id,
            charge=0,
            credits_asked=0,
            flags=ASYNC if async_id else 0,
            session_id=session_id,
        )
    )
    _ASYNC_ID.pack_into(packed, 32, async_id)
    return bytes(packed)


def replies_in(packet: bytes) -> list[Reply]:
    """Take a frame apart into its replies ([MS-SMB2] 3.2.5.1.9: compounded responses).

    Raises:
        ProtocolViolation: not a chain of SMB2 replies that fits the frame.
    """
    replies = []
    start = 0
    while True:
        if start + HEADER_BYTES > len(packet):
            raise ProtocolViolation("The server sent a message shorter than its header.")
        (
            protocol,
            structure_size,
            _,
            status,
            command,
            granted,
            flags,
            next_command,
            message_id,
            reserved,
            tree_id,
            session_id,
            _,
        ) = _HEADER.unpack_from(packet, start)
        if protocol != PROTOCOL_ID or structure_size != HEADER_BYTES or not flags & REPLY:
            raise ProtocolViolation("The server sent something that is not an SMB 2 reply.")
        end = start + next_command if next_command else len(packet)
        # Each message of a chain begins on an 8-byte boundary (3.2.4.1.4). One that
        # leaves the frame is found where the next header would be.
        if next_command and (next_command < HEADER_BYTES or end % 8):
            raise ProtocolViolation("The server sent a chain of replies that overlap.")
        async_id = 0
        if flags & ASYNC:
            async_id, tree_id = tree_id << 32 | reserved, 0
        replies.append(
            Reply(
                packet,
                start,
                end,
                status,
                command,
                granted,
                flags,
                message_id,
                async_id,
                tree_id,
                session_id,
            )
        )
        if not next_command:
            return replies
        start = end


def _frame_length(data: Octets, position: int) -> int:
    (length,) = _LENGTH.unpack_from(data, position)
    # The first byte is zero and the other three are the length, so that anything
    # above 24 bits is refused here as well.
    if not HEADER_BYTES <= length <= MAX_FRAME_BYTES:
        raise ProtocolViolation(f"The server announced a frame of {length} bytes.")
    return int(length)
