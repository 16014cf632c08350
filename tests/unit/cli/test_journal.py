from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.cli.journal import LINES_A_SECOND, Journal, LogLine
from centcert.errors import NameRefused, StoreDisabled, StoreUnavailable, UnknownName, WrongPassword
from centcert.frontend.events import Accepted, BackendFailed, Full, HandshakeRefused
from centcert.lines import line_of
from centcert.names import HostName
from centcert.provider.events import Kept, Unusable, WatchFailed, Withdrawn

if TYPE_CHECKING:
    from pathlib import Path

NAME = HostName.parse("www.contoso.example")
FULL = Full("192.0.2.7:1")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Accepted(1, "192.0.2.7:1"), None),
        (
            BackendFailed(1, NAME, "a:80", "Broken pipe"),
            f"backend a:80 failed for {NAME}: Broken pipe",
        ),
        (FULL, "turned away 192.0.2.7:1: as many clients are connected as may be"),
        (
            HandshakeRefused(1, "192.0.2.7:1", "b", UnknownName("b")),
            "refused 192.0.2.7:1, which asked for b: The store holds no certificate for b.",
        ),
        (
            HandshakeRefused(1, "192.0.2.7:1", None, NameRefused("No.")),
            "refused 192.0.2.7:1, which asked for no name: No.",
        ),
        (
            Kept(NAME, StoreUnavailable("/srv", "It is away.")),
            f"kept the certificate of {NAME}, which could not be refreshed: It is away.",
        ),
        (Kept(NAME, StoreDisabled("/srv")), None),
        (WatchFailed(StoreDisabled("/srv")), None),
    ],
)
def test_what_a_line_says(event: object, line: str | None):
    found = line_of(event)
    assert (found.sentence if found else None) == line


@pytest.mark.parametrize("asked", ["\x1b[2J", "a\nrefused", "\x7f", "a\rb"])
def test_a_stranger_cannot_write_lines_or_control_the_terminal(asked: str):
    with pytest.raises(NameRefused) as refused:
        HostName.parse(asked)
    line = line_of(HandshakeRefused(1, "192.0.2.7:1", asked, refused.value))
    assert line is not None
    assert line.sentence.isprintable()
    assert line.name is not None
    assert line.name.isprintable()


def test_lines_are_bounded_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = 1.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    journal = Journal()
    for _ in range(LINES_A_SECOND + 7):
        journal(FULL)
    now = 2.0
    journal(FULL)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES_A_SECOND + 2
    assert lines[-2] == "left out 7 lines about visitors"


def test_strangers_cannot_use_up_the_nodes_own_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Guards: twenty refused handshakes a second hid that the store was away."""
    now = 1.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    journal = Journal()
    for _ in range(3 * LINES_A_SECOND):
        journal(FULL)
    for _ in range(LINES_A_SECOND + 2):
        journal(Withdrawn(NAME))
    now = 3.0
    journal(Withdrawn(NAME))
    lines = capsys.readouterr().err.splitlines()
    withdrew = f"withdrew {NAME}: its file is gone from the store"
    assert lines.count(withdrew) == LINES_A_SECOND + 1
    assert lines[-2:] == ["left out 2 lines about this node", withdrew]


def test_a_line_in_json_decodes_strictly(capsys: pytest.CaptureFixture[str]):
    before = datetime.now(UTC)
    journal = Journal(as_json=True)
    journal(HandshakeRefused(1, "192.0.2.7:1", "a\x9bb\u202e", UnknownName("b")))
    journal(Unusable(NAME, f"{NAME}.pfx", WrongPassword(f"{NAME}.pfx", "no password opens it.")))
    journal.say("serving", "Serving.")
    loop = asyncio.new_event_loop()
    journal.fault(loop, {"message": "it broke"})
    loop.close()
    said = capsys.readouterr().err
    assert all(line.isprintable() for line in said.splitlines())
    refused, unusable, serving, fault = [
        msgspec.json.decode(line, type=LogLine) for line in said.splitlines()
    ]
    assert before.replace(microsecond=0) <= refused.time
    named = "a\\x9bb\\u202e"
    sentence = (
        f"refused 192.0.2.7:1, which asked for {named}: The store holds no certificate for b."
    )
    assert refused == LogLine(
        event="handshake-refused",
        level="info",
        sentence=sentence,
        name=named,
        client="192.0.2.7:1",
        reason="unknown-name",
        alert="unrecognized_name",
        time=refused.time,
    )
    assert unusable == LogLine(
        event="bad-file",
        level="warning",
        sentence=f"bad file for {NAME}: {NAME}.pfx: no password opens it.",
        name=NAME,
        reason="wrong-password",
        subject=f"{NAME}.pfx",
        time=unusable.time,
    )
    assert (serving.event, serving.level, serving.sentence) == ("serving", "info", "Serving.")
    assert (fault.event, fault.level, fault.sentence) == ("fault", "error", "fault: it broke")


def test_a_log_that_cannot_be_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Guards: /dev/full, a closed pipe: what was raised went into the front end."""
    del tmp_path
    with open("/dev/full", "w", buffering=1, encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        Journal()(FULL)
        with pytest.raises(OSError, match="No space left"):
            full.close()


def test_a_fault_is_one_line_with_its_place(capsys: pytest.CaptureFixture[str]):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(Journal().fault)

    def fail() -> None:
        raise ValueError("two\nlines")

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_exception_handler({"message": "no exception"})
    loop.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("fault: Exception in callback")
    assert ": ValueError: two lines (test_journal.py:" in first
    assert second == "fault: no exception"


def test_what_others_say_stays_on_its_line(capsys: pytest.CaptureFixture[str]):
    """Guards: a server's words, or a certificate's, went into the log as they were."""
    Journal().say("x", "bücher.example: KDC says \x1b[2Jno\nrefused 192.0.2.1\u202e")
    said = capsys.readouterr().err
    assert said == "bücher.example: KDC says \\x1b[2Jno\\nrefused 192.0.2.1\\u202e\n"
