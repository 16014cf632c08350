"""What may be asked for: paths that stay in the share, and their bytes."""

from __future__ import annotations

import struct

import pytest

from centcert.smb3 import requests
from centcert.smb3.errors import InvalidPath
from centcert.smb3.requests import Access


@pytest.mark.parametrize(
    "path",
    [
        "www.example.com.pfx",
        "_.example.com.pfx",
        "bücher.pfx",
        "sub\\www.pfx",
        "a..b",
        "..a",
        "x" * 255,
    ],
)
def test_a_path_is_its_utf_16(path: str):
    assert requests.encode_path(path) == path.encode("utf-16-le")


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "..\\www.pfx",
        "sub\\..\\www.pfx",
        "sub\\.",
        "\\www.pfx",
        "sub\\",
        "sub\\\\www.pfx",
        "sub/www.pfx",
        "*.pfx",
        "www?.pfx",
        "www.pfx:stream",
        "www.pfx::$DATA",
        "a\0b",
        "a\nb",
        'a"b',
        "a<b",
        "a|b",
        "\ud800",
        "x" * 256,
        "\\".join(["x" * 200] * 6),
    ],
)
def test_what_would_leave_the_share_or_is_no_name_is_refused(path: str):
    with pytest.raises(InvalidPath):
        requests.encode_path(path)
    if path:
        with pytest.raises(InvalidPath):
            requests.create(path, Access.READ_DATA)


def test_an_over_long_path_is_not_shown_whole():
    with pytest.raises(InvalidPath) as refused:
        requests.encode_path("/" * 10_000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("share", ["", "a\\b", "..\0", "a/b"])
def test_what_is_no_share_is_refused(share: str):
    with pytest.raises(InvalidPath):
        requests.tree_connect("server", share)


def test_the_top_folder_is_an_empty_name_in_a_buffer_that_is_not():
    request = requests.create("", Access.READ_DATA)

    offset, length = struct.unpack_from("<HH", request.body, 44)
    assert (offset, length) == (120, 0)
    assert len(request.body) > 56


def test_the_rights_are_asked_for_in_a_context_on_an_eight_byte_boundary():
    request = requests.create("abc", Access.READ_DATA, query_access=True)

    offset, length = struct.unpack_from("<II", request.body, 48)
    assert offset % 8 == 0
    assert request.body[offset - 64 :][16:20] == b"MxAc"
    assert offset - 64 + length == len(request.body)


def test_large_transfers_cost_more():
    assert requests.read(65_536).charge == 1
    assert requests.read(65_537).charge == 2
    assert requests.write(bytes(200_000)).charge == 4
    assert requests.query_directory(1 << 20).charge == 16


@pytest.mark.parametrize(
    ("access", "harm"),
    [
        (Access.READ_DATA | Access.READ_ATTRIBUTES | Access.EXECUTE, False),
        (Access.READ_CONTROL | Access.SYNCHRONIZE | Access.READ_EA, False),
        (Access.WRITE_DATA, True),
        (Access.APPEND_DATA, True),
        (Access.DELETE, True),
        (Access.DELETE_CHILD, True),
        (Access.WRITE_DAC, True),
        (Access.WRITE_OWNER, True),
        (Access(0x001F01FF), True),
    ],
)
def test_rights_that_change_something_are_told_apart(access: Access, *, harm: bool):
    assert access.can_change is harm
