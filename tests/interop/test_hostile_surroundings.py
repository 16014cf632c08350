"""``centcert`` with closed or full standard streams, and with arguments that are hostile text."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from centcert.testing import Authority
from tests.commands import centcert
from tests.served import CENTCERT

if TYPE_CHECKING:
    from pathlib import Path


def in_shell(redirection: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command with ``redirection`` of its streams, as a shell writes it."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *CENTCERT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CENTCERT_CONFIG", "")
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(store: Path, closed: str):
    """Guards: the event loop's own descriptors took their places, and uvloop aborted."""
    done = in_shell(closed, "list", "--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    told = "" if ">&-" in closed else "The store holds no certificate files.\n"
    assert done.stdout == told


def test_who_cannot_be_asked_says_so(store: Path):
    done = in_shell("<&-", "remove", "www.example", "--store", store)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: Say --yes: there is no terminal to ask at.\n")


def test_a_full_disk_behind_the_output_is_one_sentence(store: Path):
    done = in_shell(">/dev/full", "list", "--store", store)
    assert done.returncode == 1
    assert done.stderr == "centcert: The output cannot be written: No space left on device.\n"


def test_an_error_quotes_no_commands_to_the_terminal(store: Path):
    hostile = store / "a\x1b[2J\nb.pfx"
    hostile.write_bytes(b"")
    done = centcert("publish", hostile, "--store", store)
    assert done.returncode == 1
    assert done.stderr == (
        f"centcert: {store}/a\\x1b[2J\\nb.pfx: it is not a whole PKCS #12 file: if no writer is at"
        " work, export it again.\n"
    )


def test_a_published_files_name_is_printed_as_text(store: Path):
    issued = Authority().issue("www.example")
    (store / "a\x1b[2J\n").write_bytes(issued.pem())
    done = centcert("publish", store / "a\x1b[2J\n", "--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{store}/a\\x1b[2J\\n\n  certificate   www.example, issued by")


@pytest.mark.parametrize("arguments", [("list", "--store"), ("publish", "--json", "--store=/", "")])
def test_arguments_that_are_no_text_are_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]):
    """Guards: they came as far as the cache or the JSON, and failed there."""
    done = subprocess.run(
        [*CENTCERT, *arguments, os.fsencode(tmp_path) + b"/\xff"],
        capture_output=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == f"Error: '{tmp_path}/\\udcff' is not UTF-8.\n".encode()
