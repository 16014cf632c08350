"""Entries and changes within a reply: well-formed ones are read, the rest is refused."""

from __future__ import annotations

import struct

import pytest

from centcert.smb3 import replies
from centcert.smb3.errors import ProtocolViolation
from centcert.smb3.replies import Action, FileChange
from centcert.smb3.requests import Access
from centcert.smb3.wire import Reply, replies_in
from tests.smb3_peer import folder_page, message


def reply_with(body: bytes, status: int = 0) -> Reply:
    (reply,) = replies_in(message(0x0E, 1, body, status=status))
    return reply


def output(buffer: bytes) -> bytes:
    return struct.pack("<HHI", 9, 72, len(buffer)) + buffer


def entry(name: bytes, step: int = 0, length: int | None = None) -> bytes:
    size = len(name) if length is None else length
    return struct.pack("<IIQQQQQQII", step, 0, 1, 2, 3, 4, 5, 0, 0x10, size) + name


def change(action: int, name: bytes, step: int = 0, length: int | None = None) -> bytes:
    size = len(name) if length is None else length
    return struct.pack("<III", step, action, size) + name


NAME = "a.pfx".encode("utf-16-le")


def test_an_entry_is_read():
    (found,) = replies.query_directory(reply_with(output(entry(NAME))))

    assert found.name == "a.pfx"
    assert (found.info.size, found.info.created, found.info.written, found.info.changed) == (
        *(5, 1, 3, 4),
    )
    assert found.info.is_directory


def test_the_folder_itself_and_its_parent_are_left_out():
    assert replies.query_directory(reply_with(folder_page())) == []


def test_a_name_that_is_no_unicode_is_kept_apart():
    (found,) = replies.query_directory(reply_with(output(entry(b"\x00\xd8a\0"))))

    assert found.name == "\ud800a"


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(entry(NAME)[:50], id="cut"),
        pytest.param(entry(NAME, length=12), id="name beyond"),
        pytest.param(entry(NAME, length=9), id="half a character"),
        pytest.param(entry(bytes(4), step=4), id="overlapping"),
        pytest.param(entry(NAME, step=1 << 30), id="beyond"),
        pytest.param(entry(NAME, step=74), id="one more and nothing there"),
    ],
)
def test_a_malformed_listing_is_refused(buffer: bytes):
    with pytest.raises(ProtocolViolation):
        replies.query_directory(reply_with(output(buffer)))


def test_changes_are_read():
    other = "b.pfx".encode("utf-16-le")
    body = output(change(4, NAME, step=24).ljust(24, b"\0") + change(5, other))

    assert replies.change_notify(reply_with(body)) == (
        FileChange(Action.RENAMED_FROM, "a.pfx"),
        FileChange(Action.RENAMED_TO, "b.pfx"),
    )


def test_a_change_of_a_stream_is_no_change_of_a_file():
    assert replies.change_notify(reply_with(output(change(8, NAME)))) == ()


def test_lost_changes_are_told():
    assert replies.change_notify(reply_with(bytes(8), status=0x10C)) is None
    assert replies.change_notify(reply_with(output(b""))) is None


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(change(1, NAME)[:11], id="cut"),
        pytest.param(change(1, NAME, length=12), id="name beyond"),
        pytest.param(change(0, bytes(4), step=4), id="overlapping"),
        pytest.param(change(1, NAME, step=1 << 30), id="beyond"),
    ],
)
def test_malformed_changes_are_refused(buffer: bytes):
    with pytest.raises(ProtocolViolation):
        replies.change_notify(reply_with(output(buffer)))


def test_a_share_that_cannot_be_written_to_has_no_rights_to_change():
    samba_read_only = struct.pack("<HBBIII", 16, 1, 0, 0x8000, 0, 0x001F00A9)
    pipe = struct.pack("<HBBIII", 16, 2, 0, 0, 0, 0x001F01FF)

    tree = replies.tree_connect(reply_with(samba_read_only))
    assert (tree.is_disk, tree.encrypts, tree.access.can_change) == (True, True, False)
    assert Access.READ_DATA in tree.access
    tree = replies.tree_connect(reply_with(pipe))
    assert (tree.is_disk, tree.encrypts, tree.access.can_change) == (False, False, True)
