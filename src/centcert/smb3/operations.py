"""What is done with files, without I/O: each operation is a generator of compounds.

It yields the requests of one frame, is sent the replies, and returns its result. One
that opens a file closes it in the same frame, so that nothing is left behind whatever
happens; only a listing holds a folder open, and closes it when it is thrown at.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from centcert.smb3 import replies, requests
from centcert.smb3.credits import UNIT_BYTES
from centcert.smb3.errors import FileChanging, FileTooLarge, StatusError
from centcert.smb3.requests import Access, Disposition, Option
from centcert.smb3.status import Kind, Status, kind_of
from centcert.smb3.wire import Command, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.smb3.replies import DirectoryEntry, FileInfo

_Result = TypeVar("_Result")
Compound: TypeAlias = tuple[Request, ...]
Operation: TypeAlias = Generator[Compound, list[Reply], _Result]

FIRST_READ_BYTES: Final = UNIT_BYTES
"""Asked for in the first frame. Any credential fits, and it costs a single credit."""

MAX_TRANSFER_BYTES: Final = 8 * 1024 * 1024
"""The largest file read or written: one frame, a quarter of the credits."""

LISTING_BYTES: Final = 64 * 1024
"""One reply of a listing: some 400 entries, and one credit.

Reading them holds up the event loop for 2 ms; with 1 MiB it was 30 ms, and no faster.
"""

_READING: Final = int(Access.READ_DATA | Access.READ_ATTRIBUTES)
_LOOKING: Final = int(Access.READ_ATTRIBUTES)
_WRITING: Final = int(Access.WRITE_DATA | Access.READ_ATTRIBUTES)
_REMOVING: Final = int(Access.DELETE | Access.READ_ATTRIBUTES)
_MAX_REREADS: Final = 3

_FIRST_READ: Final = requests.read(FIRST_READ_BYTES)
_CLOSE: Final = requests.close()
_CLOSE_AND_LOOK: Final = requests.close(query_info=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes at once, bytes; as negotiated."""

    max_read: int
    max_write: int
    max_transact: int


@dataclass(frozen=True, slots=True)
class File:
    """A file, read whole.

    Attributes:
        data: exactly ``info.size`` bytes; may be a secret, so never in a ``repr``.
        info: as it was when the file was opened for this reading.
    """

    data: bytes
    info: FileInfo

    def __repr__(self) -> str:
        return f"File({len(self.data)} bytes)"


def fetch(path: str, max_bytes: int, limits: Limits) -> Operation[File | None]:
    """CREATE, READ and CLOSE in one frame; a second one for a file of over 64 KiB.

    The second frame opens the file anew, as the first has closed it: it may be
    another file by then, which it reads as such, whole.
    """
    create = requests.create(path, _READING, options=Option.NON_DIRECTORY_FILE)
    reads: Compound = (_FIRST_READ,)
    for _ in range(_MAX_REREADS):
        opened, *pieces, closed = yield (create, *reads, _CLOSE_AND_LOOK)
        if opened.status:
            if kind_of(opened.status) is Kind.ABSENT:
                return None
            raise _error(opened)
        info = replies.create(opened).info
        if info.size > max_bytes:
            raise FileTooLarge(info.size, max_bytes)
        data = b"".join([_piece(piece) for piece in pieces])
        if len(data) == info.size:
            if _changed(info, closed):
                raise FileChanging("The file was written to while it was read.")
            return File(data, info)
        if len(data) > info.size or info.size <= _asked_for(reads):
            raise FileChanging("The file changed its size while it was read.")
        reads = _reads(info.size, limits.max_read)
    raise FileChanging("The file grew each time it was read.")


def stat(path: str) -> Operation[FileInfo | None]:
    """CREATE and CLOSE in one frame."""
    opened, _ = yield (requests.create(path, _LOOKING), _CLOSE)
    if opened.status:
        if kind_of(opened.status) is Kind.ABSENT:
            return None
        raise _error(opened)
    return replies.create(opened).info


def rights(path: str) -> Operation[Access]:
    """CREATE that asks for the maximal access, and CLOSE, in one frame."""
    opened, _ = yield (requests.create(path, _LOOKING, query_access=True), _CLOSE)
    if opened.status:
        raise _error(opened)
    # A server that does not say is assumed to allow everything: the caller warns.
    access = replies.create(opened).access
    return Access(0x001F01FF) if access is None else access


def list_folder(
    path: str, limits: Limits, take: Callable[[list[DirectoryEntry]], None]
) -> Operation[None]:
    """CREATE and the first QUERY_DIRECTORY in one frame, then more until none is left.

    ``take`` is called with the entries of each reply, before more are asked for.
    """
    max_bytes = min(LISTING_BYTES, limits.max_transact)
    create = requests.create(path, _READING, options=Option.DIRECTORY_FILE)
    opened, listed = yield (create, requests.query_directory(max_bytes))
    if opened.status:
        raise _error(opened)
    folder = replies.create(opened).file_id
    try:
        while listed.status == Status.SUCCESS:
            take(replies.query_directory(listed))
            (listed,) = yield (requests.query_directory(max_bytes, folder),)
        if listed.status not in {Status.NO_MORE_FILES, Status.NO_SUCH_FILE}:
            raise _error(listed)
    finally:
        yield (requests.close(folder),)


def write_new(path: str, data: bytes, limits: Limits) -> Operation[None]:
    """CREATE of a file that must not be there, WRITE, FLUSH and CLOSE in one frame."""
    if len(data) > MAX_TRANSFER_BYTES:
        raise FileTooLarge(len(data), MAX_TRANSFER_BYTES)
    create = requests.create(
        path, _WRITING, disposition=Disposition.CREATE, options=Option.NON_DIRECTORY_FILE
    )
    step = min(limits.max_write, UNIT_BYTES * 16)
    writes = [
        requests.write(data[start : start + step], offset=start)
        for start in range(0, len(data), step)
    ]
    answers = yield (create, *writes, requests.flush(), _CLOSE)
    _all_succeeded(answers)
    written = sum(replies.write(answer) for answer in answers[1:-2])
    if written != len(data):
        raise StatusError(Status.DISK_FULL, Command.WRITE)


def rename(path: str, new_path: str, *, replace: bool) -> Operation[None]:
    """CREATE, SET_INFO and CLOSE in one frame: the new name changes hands at once."""
    create = requests.create(path, _REMOVING)
    _all_succeeded((yield (create, requests.rename(new_path, replace=replace), _CLOSE)))


def delete(path: str) -> Operation[bool]:
    """CREATE, SET_INFO and CLOSE in one frame; whether there was a file to delete."""
    create = requests.create(path, _REMOVING, options=Option.NON_DIRECTORY_FILE)
    answers = yield (create, requests.delete(), _CLOSE)
    if kind_of(answers[0].status) is Kind.ABSENT:
        return False
    _all_succeeded(answers)
    return True


def single(request: Request) -> Operation[Reply]:
    """One request, one reply that has to be a success."""
    (reply,) = yield (request,)
    if reply.status:
        raise _error(reply)
    return reply


def _piece(reply: Reply) -> bytes:
    # An empty file has no byte to read: that is its end (MS-FSA 2.1.5.3).
    if reply.status == Status.END_OF_FILE:
        return b""
    if reply.status:
        raise _error(reply)
    return replies.read(reply)


def _changed(info: FileInfo, closed: Reply) -> bool:
    """Say whether a file is known to have changed between CREATE and CLOSE."""
    if closed.status:
        return False
    now = replies.close(closed)
    return now is not None and (now.size, now.written, now.changed) != (
        info.size,
        info.written,
        info.changed,
    )


def _reads(size: int, max_read: int) -> Compound:
    step = min(max_read, UNIT_BYTES * 16)
    return tuple(
        requests.read(min(step, size - start), offset=start) for start in range(0, size, step)
    )


def _asked_for(reads: Compound) -> int:
    return sum(read.charge for read in reads) * UNIT_BYTES


def _all_succeeded(answers: list[Reply]) -> None:
    for answer in answers:
        if answer.status:
            raise _error(answer)


def _error(reply: Reply) -> StatusError:
    return StatusError(reply.status, Command(reply.command))
