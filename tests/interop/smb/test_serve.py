"""``centcert serve`` with its store on a share: the scene the project starts from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from centcert.cli import main
from tests.interop.smb.scene import (
    CLIENT_HELLO,
    PATIENCE_S,
    SERVER_HELLO,
    Capture,
    serving,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.testing import Authority
    from tests.interop.smb.conftest import Start

NAME = "www.contoso.example"
KEY = f"{NAME}.pfx"
SEALED = b"\xfdSMB"
PLAIN = b"\xfeSMB"


def test_exact_wildcard_and_international_names_are_served(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    for key, pattern in (
        (KEY, NAME),
        ("_.tenants.example.pfx", "*.tenants.example"),
        ("bücher.example.pfx", "bücher.example"),
    ):
        (samba.folder / key).write_bytes(authority.issue(pattern).pfx())
    with serving(samba, tmp_path) as front_end:
        for name in (NAME, "any.tenants.example", "xn--bcher-kva.example"):
            assert "Verify return code: 0 (ok)" in front_end.visit(name), front_end.journal.seen
        said = front_end.visit("nobody.contoso.example")
        assert "unrecognized name" in said
        assert "BEGIN CERTIFICATE" not in said


def test_a_wrong_password_refuses_visitors_and_is_told(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(authority.issue(NAME).pfx())
    right = samba.password
    samba.change_password("another one")
    samba.password = right
    with serving(samba, tmp_path) as front_end:
        assert "BEGIN CERTIFICATE" not in front_end.visit(NAME)
        until(lambda: front_end.journal.count(f"refuses the account {samba.username}"))
        assert not front_end.journal.count(right)


def test_what_is_weak_about_the_share_is_told_once(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba({"server smb encrypt": "if_required"})
    (samba.folder / KEY).write_bytes(authority.issue(NAME).pfx())
    with serving(samba, tmp_path, share=samba.publish_share) as front_end:
        assert "Verify return code: 0 (ok)" in front_end.visit(NAME)
        until(lambda: front_end.journal.count("warning, unencrypted-access"))
        until(lambda: front_end.journal.count("warning, account-can-write"))
        samba.kill_connections()
        assert "Verify return code: 0 (ok)" in front_end.visit(NAME)
        assert front_end.journal.count("warning, ") == 2


def test_a_share_without_an_account_is_wrong_usage(tmp_path: Path):
    command = (
        *(sys.executable, "-m", "centcert", "serve", "--store", "smb://127.0.0.1/certs"),
        *("--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"),
    )
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path)}
    made = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment
    )
    assert made.returncode == 2
    assert "username" in made.stderr


def test_the_demo_shows_the_steps_of_smb(tmp_path: Path):
    made = subprocess.run(
        [sys.executable, "-m", "centcert", "demo", "--smb", "--tour"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path), "COLUMNS": "200"},
    )
    assert made.returncode == 0, made.stdout + made.stderr
    first = made.stdout.partition("Second visit")[0]
    steps = ["client hello", "SMB 3.1.1, AES-", "share certs open", "one frame", "server hello"]
    assert sorted(steps, key=first.index) == steps
    assert "All went well" in made.stdout


def test_the_demo_says_so_where_there_is_no_samba(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("centcert.demo.samba._program_path", lambda: "/nowhere")
    monkeypatch.setattr(sys, "argv", ["centcert", "demo", "--smb", "--tour"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "centcert: --smb: smbd is not installed: install the package samba.\n"
    )


# --- the seed scene on the wire -------------------------------------------------------


def test_the_seed_scene(start_samba: Start, authority: Authority, tmp_path: Path, port: int):
    samba = start_samba()
    blob = authority.issue(NAME).pfx()
    (samba.folder / KEY).write_bytes(blob)
    file = tmp_path / "scene.pcapng"
    with (
        Capture(file, samba.port, port) as capture,
        serving(samba, tmp_path, port=port) as front_end,
    ):
        assert "Verify return code: 0 (ok)" in front_end.visit(NAME)
        _wait_for_quiet(capture, samba.port)
        of_first_visit = capture.seen_of(samba.port)
        assert "Verify return code: 0 (ok)" in front_end.visit(NAME)
        capture.mark()
        assert capture.seen_of(samba.port) == of_first_visit, "the second visit asked the store"
    packets = capture.packets(port)

    # The order: hello, question to the store, its answer, hello.
    types = [packet.tls for packet in packets]
    client_hello = next(i for i, t in enumerate(types) if CLIENT_HELLO in t)
    server_hello = next(i for i, t in enumerate(types) if SERVER_HELLO in t)
    answers = [
        i
        for i, packet in enumerate(packets)
        if packet.source == samba.port and len(packet.data) > len(blob)
    ]
    assert answers, "the file never came"
    (answer,) = [i for i in answers if client_hello < i < server_hello]
    connection = packets[answer].target
    question = max(i for i in range(answer) if packets[i].source == connection)
    assert client_hello < question < answer < server_hello
    assert packets[question].data[4:8] == packets[answer].data[4:8] == SEALED
    assert sum(SERVER_HELLO in t for t in types) == 2, "one for each visit, none before its file"

    # The secrets: neither in a packet nor across two.
    streams: dict[tuple[int, int], bytes] = {}
    for packet in packets:
        ends = packet.source, packet.target
        streams[ends] = streams.get(ends, b"") + packet.data
    wire = file.read_bytes() + b"".join(streams.values())
    assert PLAIN in wire
    assert NAME.encode() in wire, "the visitor's own words are: the search finds what is there"
    for word in (KEY, samba.share, samba.password):
        for encoding in ("utf-8", "utf-16-le"):
            assert word.encode(encoding) not in wire, word
    for start in range(0, len(blob) - 32, 16):
        assert blob[start : start + 32] not in wire


def _wait_for_quiet(capture: Capture, port: int) -> None:
    """Wait until the store has finished looking around behind the visit.

    It looks a second time a second after its watch began.
    """
    end = time.monotonic() + PATIENCE_S
    seen, since = capture.seen_of(port), time.monotonic()
    while time.monotonic() < since + 2.5:
        assert time.monotonic() < end, "the store is never quiet"
        capture.mark()
        if capture.seen_of(port) != seen:
            seen, since = capture.seen_of(port), time.monotonic()
        time.sleep(0.05)
