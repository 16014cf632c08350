"""Operations without a server: what each asks and what it makes of the answers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

import pytest

from centcert.smb3 import operations
from centcert.smb3.errors import FileChanging, FileTooLarge, ProtocolViolation, StatusError
from centcert.smb3.operations import Limits
from centcert.smb3.replies import DirectoryEntry
from centcert.smb3.requests import Access
from centcert.smb3.status import Kind
from centcert.smb3.wire import Command, Reply, replies_in
from tests.smb3_peer import closed, data, folder_page, message, opened, written

if TYPE_CHECKING:
    from centcert.smb3.operations import Compound, Operation

T = TypeVar("T")
LIMITS = Limits(max_read=1 << 20, max_write=65_536, max_transact=1 << 20)
NOT_FOUND, END_OF_FILE, NO_MORE_FILES = 0xC0000034, 0xC0000011, 0x80000006


def answers(compound: Compound, *bodies: bytes | int) -> list[Reply]:
    """Replies with a body, or with a status and none."""
    replies = []
    for request, body in zip(compound, (*bodies, *(b"\0" * 60 for _ in compound)), strict=False):
        packet = (
            message(request.command, 1, bytes(9), status=body)
            if isinstance(body, int)
            else message(request.command, 1, body)
        )
        replies += replies_in(packet)
    return replies


def finish(operation: Operation[T], replies: list[Reply]) -> T:
    with pytest.raises(StopIteration) as stopped:
        operation.send(replies)
    result: T = stopped.value.value
    return result


def commands(compound: Compound) -> list[int]:
    return [request.command for request in compound]


def test_a_small_file_takes_one_frame():
    fetch = operations.fetch("www.pfx", 1000, LIMITS)
    compound = next(fetch)
    assert commands(compound) == [Command.CREATE, Command.READ, Command.CLOSE]

    file = finish(fetch, answers(compound, opened(7), data(b"content")))

    assert file is not None
    assert file.data == b"content"
    assert (file.info.size, file.info.created, file.info.written, file.info.changed) == (7, 1, 3, 4)
    assert "content" not in repr(file)


def test_a_file_that_was_written_to_between_open_and_close_is_changing():
    for then in (closed(8), closed(7, written=5), closed(7, changed=5)):
        fetch = operations.fetch("www.pfx", 1000, LIMITS)
        replies = answers(next(fetch), opened(7), data(b"content"), then)
        with pytest.raises(FileChanging):
            fetch.send(replies)


def test_a_file_that_stood_still_until_it_was_closed_is_whole():
    fetch = operations.fetch("www.pfx", 1000, LIMITS)
    compound = next(fetch)
    assert compound[-1].body[2:4] == b"\1\0", "the server is asked how the file is"

    assert finish(fetch, answers(compound, opened(7), data(b"content"), closed(7)))


def test_an_empty_file_is_one():
    fetch = operations.fetch("www.pfx", 1000, LIMITS)

    file = finish(fetch, answers(next(fetch), opened(0), END_OF_FILE))

    assert file is not None
    assert file.data == b""


def test_an_absent_file_is_none():
    fetch = operations.fetch("www.pfx", 1000, LIMITS)

    assert finish(fetch, answers(next(fetch), NOT_FOUND, NOT_FOUND, NOT_FOUND)) is None


def test_a_large_file_is_opened_anew_and_read_in_one_more_frame():
    fetch = operations.fetch("large", 3_000_000, LIMITS)
    compound = next(fetch)
    compound = fetch.send(answers(compound, opened(2_500_000), data(bytes(65_536))))
    assert commands(compound) == [Command.CREATE, *[Command.READ] * 3, Command.CLOSE]
    pieces = [b"a" * (1 << 20), b"b" * (1 << 20), b"c" * (2_500_000 - (1 << 21))]

    file = finish(fetch, answers(compound, opened(2_500_000), *map(data, pieces)))

    assert file is not None
    assert file.data == b"".join(pieces)


def test_a_file_beyond_the_bound_is_refused_without_reading_on():
    fetch = operations.fetch("large", 65_536, LIMITS)
    replies = answers(next(fetch), opened(65_537), data(bytes(65_536)))

    with pytest.raises(FileTooLarge):
        fetch.send(replies)


@pytest.mark.parametrize(("size", "content"), [(10, b"short"), (3, b"longer"), (0, b"some")])
def test_bytes_that_do_not_match_the_size_are_refused(size: int, content: bytes):
    fetch = operations.fetch("www.pfx", 1000, LIMITS)
    replies = answers(next(fetch), opened(size), data(content))

    with pytest.raises(FileChanging):
        fetch.send(replies)


def test_a_file_that_grows_for_ever_is_given_up():
    fetch = operations.fetch("www.pfx", 8_000_000, LIMITS)
    compound = next(fetch)
    size = 65_536

    with pytest.raises(FileChanging, match="grew"):  # noqa: PT012  some rounds
        for _ in range(10):
            read = size
            size += 100_000
            whole = data(bytes(read))
            compound = fetch.send(answers(compound, opened(size), whole))


def test_an_error_of_reading_is_an_error():
    fetch = operations.fetch("www.pfx", 1000, LIMITS)
    replies = answers(next(fetch), opened(7), 0xC0000054)

    with pytest.raises(StatusError) as refused:
        fetch.send(replies)
    assert (refused.value.kind, refused.value.command) == (Kind.BUSY, Command.READ)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xC0000022, Kind.DENIED),
        (0xC000003A, Kind.FOLDER_MISSING),
        (0xC00000BA, Kind.NOT_A_FILE),
        (0xC0000043, Kind.BUSY),
        (0xC0000056, Kind.BUSY),
        (0xC0000203, Kind.SESSION_GONE),
        (0xC000035C, Kind.SESSION_GONE),
        (0xC0000033, Kind.NAME_REFUSED),
        (0xC1234567, Kind.OTHER),
    ],
)
def test_an_error_of_opening_says_what_it_means(status: int, kind: Kind):
    for operation in (
        operations.fetch("www.pfx", 1000, LIMITS),
        operations.stat("www.pfx"),
        operations.rights("www.pfx"),
        operations.list_folder("www", LIMITS, list[DirectoryEntry]().extend),
        operations.rename("a", "b", replace=True),
        operations.delete("a"),
        operations.write_new("a", b"content", LIMITS),
    ):
        compound = next(operation)
        with pytest.raises(StatusError) as refused:
            operation.send(answers(compound, *[status] * len(compound)))
        assert refused.value.kind is kind
        assert f"0x{status:08X}" in str(refused.value)


def test_a_listing_goes_on_until_there_is_no_more_and_closes():
    entries: list[DirectoryEntry] = []
    listing = operations.list_folder("", LIMITS, entries.extend)
    compound = next(listing)
    assert commands(compound) == [Command.CREATE, Command.QUERY_DIRECTORY]
    page = folder_page("a.pfx", "b.pfx")
    compound = listing.send(answers(compound, opened(0), page))
    assert commands(compound) == [Command.QUERY_DIRECTORY]
    assert b"F" * 16 in compound[0].body
    compound = listing.send(answers(compound, folder_page("c.pfx")))
    compound = listing.send(answers(compound, NO_MORE_FILES))
    assert commands(compound) == [Command.CLOSE]
    assert b"F" * 16 in compound[0].body

    finish(listing, answers(compound))

    assert [entry.name for entry in entries] == ["a.pfx", "b.pfx", "c.pfx"]


def test_a_listing_that_is_thrown_at_closes_its_folder():
    entries: list[DirectoryEntry] = []
    listing = operations.list_folder("", LIMITS, entries.extend)
    listing.send(answers(next(listing), opened(0), folder_page("a.pfx")))

    compound = listing.throw(RuntimeError())

    assert commands(compound) == [Command.CLOSE]


def test_a_listing_that_fails_closes_its_folder_and_says_so():
    entries: list[DirectoryEntry] = []
    listing = operations.list_folder("", LIMITS, entries.extend)
    compound = listing.send(answers(next(listing), opened(0), 0xC0000022))
    assert commands(compound) == [Command.CLOSE]

    with pytest.raises(StatusError):
        listing.send(answers(compound))


def test_a_file_is_written_flushed_and_closed_in_one_frame():
    write = operations.write_new("new", bytes(150_000), LIMITS)
    compound = next(write)
    assert commands(compound) == [
        Command.CREATE,
        *[Command.WRITE] * 3,
        Command.FLUSH,
        Command.CLOSE,
    ]

    finish(write, answers(compound, opened(0), *map(written, (65_536, 65_536, 18_928))))


def test_a_file_that_was_not_written_whole_is_an_error():
    write = operations.write_new("new", bytes(10), LIMITS)
    replies = answers(next(write), opened(0), written(9))

    with pytest.raises(StatusError):
        write.send(replies)


def test_a_file_too_large_to_write_is_refused_before_it_is_sent():
    with pytest.raises(FileTooLarge):
        next(operations.write_new("new", bytes(8 * 1024 * 1024 + 1), LIMITS))


def test_an_absent_file_is_not_deleted():
    delete = operations.delete("absent")

    assert finish(delete, answers(next(delete), *[NOT_FOUND] * 3)) is False


def test_rights_are_read_from_the_answer_and_feared_if_it_has_none():
    access = struct.pack("<IHHHHI4s4xII", 0, 16, 4, 0, 24, 8, b"MxAc", 0, 0x81)
    told = operations.rights("")
    assert finish(told, answers(next(told), opened(0, access))) == Access(0x81)

    silent = operations.rights("")
    assert finish(silent, answers(next(silent), opened(0))).can_change


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no body"),
        pytest.param(struct.pack("<HBBIII", 17, 80, 0, 8, 0, 0) + b"content", id="too long"),
        pytest.param(struct.pack("<HBBIII", 17, 63, 0, 7, 0, 0) + b"content", id="in the header"),
        pytest.param(struct.pack("<HBBIII", 17, 255, 0, 7, 0, 0) + b"content", id="beyond"),
        pytest.param(
            struct.pack("<HBBIII", 17, 80, 0, 0xFFFFFFFF, 0, 0) + b"content", id="overflow"
        ),
    ],
)
def test_data_that_leaves_its_reply_is_refused(body: bytes):
    fetch = operations.fetch("www.pfx", 1000, LIMITS)
    replies = answers(next(fetch), opened(7), body)

    with pytest.raises(ProtocolViolation):
        fetch.send(replies)
