"""Who may use the control socket, and which folder it is put into."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.admin.settings import ControlSettings
from centcert.control import NodeStatus, Reply, Request, Status, ask, control_socket
from centcert.errors import NodeUnreachable, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

STATUS = NodeStatus("1", "memory:", 0.0, 0, 0, 0, ())


async def answer(request: Request) -> Reply:
    del request
    return STATUS


async def test_a_node_answers_its_own_user(tmp_path: Path):
    path = tmp_path / "made" / "control.sock"
    async with control_socket(path, answer):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert await ask(path, Status(), NodeStatus) == STATUS
    assert not path.exists()


async def test_a_node_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "control.sock"
    heard: list[bytes] = []
    left = asyncio.Event()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(msgspec.json.encode(STATUS) + b"\n" if heard[0] else b"")
        writer.close()
        left.set()

    async with await asyncio.start_unix_server(pretend, path):
        monkeypatch.setattr("os.geteuid", lambda: 4711)
        monkeypatch.setattr("centcert.control._user_of", lambda _peer: 4712, raising=False)
        with pytest.raises(NodeUnreachable):
            await ask(path, Status(), NodeStatus)
        await left.wait()
    assert heard == [b""]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a link to another user")
async def test_a_folder_that_another_user_links_to_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir()
    link.symlink_to(ours)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    os.chown(ours, 4711, -1)
    os.chown(link, 4712, -1, follow_symlinks=False)
    with pytest.raises(SettingsError, match="belongs to another user"):
        async with control_socket(link / "control.sock", answer):
            pass


def test_the_folder_in_tmp_is_the_very_one_that_is_checked(monkeypatch: pytest.MonkeyPatch):
    """Guards: above it was one that another user could have made, and replaced it at will."""
    for name in ("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert str(ControlSettings().path()) == "/tmp/centcert-4711/control.sock"  # noqa: S108


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path):
    """Guards: to connect to it is refused as to a dead node's socket, and it was removed."""
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="is no socket"):
        async with control_socket(path, answer):
            pass
    assert path.read_text() == "precious"


async def test_a_dead_nodes_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with control_socket(path, answer):
        assert await ask(path, Status(), NodeStatus) == STATUS
        with pytest.raises(SettingsError, match="another node listens there"):
            async with control_socket(path, answer):
                pass


async def test_at_its_end_a_node_leaves_another_nodes_socket_alone(tmp_path: Path):
    """Guards: the path was removed whatever stood there by then."""
    path = tmp_path / "control.sock"
    async with control_socket(path, answer):
        path.rename(tmp_path / "taken-away")  # keeps the inode, so that no other can have it
        second = control_socket(path, answer)
        await second.__aenter__()
    try:
        assert await ask(path, Status(), NodeStatus) == STATUS
    finally:
        await second.__aexit__(None, None, None)
    assert not path.exists()
