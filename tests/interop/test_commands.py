"""How the command line speaks: exit codes, one sentence for each error, the demo's tour."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert import __version__
from tests.served import CENTCERT, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORKS = ("--store", "/srv", "--listen", "127.0.0.1:0", "--to", "a:80")


def run(
    command: Sequence[str], folder: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, with a state of its own and nobody's settings."""
    with tempfile.TemporaryDirectory(prefix="centcert-state-") as state:
        own = {"CENTCERT_CONFIG": "", "STATE_DIRECTORY": state, "COLUMNS": "200"}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=30,
            check=False,
            env={**os.environ, **own},
        )


def centcert(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([*CENTCERT, *arguments])


def test_the_version():
    said = centcert("--version")
    assert (said.returncode, said.stdout) == (0, f"centcert {__version__}\n")


@pytest.mark.parametrize("command", [(), ("serve",), ("demo",)])
def test_help_is_an_answer(command: tuple[str, ...]):
    said = centcert(*command, "--help")
    assert said.returncode == 0
    assert said.stdout.startswith("Usage: ")


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path):
    """Guards: root's `centcert serve` in a folder of others ran whatever they called uvloop.py."""
    (tmp_path / "uvloop.py").write_text("import sys; sys.exit('imported')")
    command = (sys.executable, "-P", "-m", "centcert", "serve", *WORKS, "--store", "gopher://x")
    said = run(command, tmp_path)
    assert said.stderr.startswith("centcert: No kind of store")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such-command",), "Error: No such command 'no-such-command'."),
        (("serve", "--no-such-option"), "Error: No such option '--no-such-option'."),
        (("serve",), "centcert: Give --store, --listen and --to"),
        (("serve", "--store", "/srv"), "centcert: Give --store, --listen and --to"),
        (("serve", *WORKS, "--refresh", "5"), "centcert: store.refresh: '5' needs a unit"),
        (("serve", *WORKS, "--site", "a"), "centcert: 'a' is not a site: write NAME=BACKEND"),
        (("serve", *WORKS, "--default-name", "_"), "centcert: listen[0].default_name: '_' "),
        (("serve", *WORKS, "--key-password-file", "/none"), "centcert: /none cannot be read: No"),
        (("serve", *WORKS, "--listen", "a..b:1"), "centcert: listen[1]: address: 'a..b:1' is"),
        (("serve", *WORKS, "--listen", "192.0.2.1:1"), "centcert: Cannot listen on 192.0.2.1:1: "),
        (("serve", *WORKS, "--store", "gopher://x"), "centcert: No kind of store"),
        (("serve", "--config", "/none"), "centcert: /none cannot be read: No such file"),
        (("demo", "--tour", "--listen", "x"), "centcert: 'x' is not an address: write host:port"),
        (("demo", "--tour", "--listen", "192.0.2.1:1"), "centcert: Cannot listen on 192.0.2.1:1"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], sentence: str):
    said = centcert(*arguments)
    last = said.stderr.splitlines()[-1]
    assert (said.returncode, said.stdout) == (2, "")
    assert last.startswith(sentence)
    assert last.endswith(".")
    assert "Traceback" not in said.stderr


# --- the demo -----------------------------------------------------------------------


def masked(tour: str) -> str:
    """Leave out what differs from run to run."""
    tour = re.sub(r" on 127\.0\.0\.1:\d+;", " on ADDRESS;", tour)
    tour = re.sub(r" is /\S+/store\.", " is STORE.", tour)
    tour = re.sub(r" +\d+\.\d ms(?=  )", "  TIME", tour)
    tour = re.sub(r"  \d+\.\d ms$", "  TIME", tour, flags=re.MULTILINE)
    tour = re.sub(r"\d+ bytes", "N bytes", tour)
    tour = re.sub(r"done( +)TLSv1\.3, \w+, \w+", r"done\1TLSv1.3, GROUP, CIPHER", tour)
    return "\n".join(line.rstrip() for line in tour.splitlines()) + "\n"


def test_the_tour():
    """As it was when somebody last read it and found it good: ``tour.txt``."""
    said = centcert("demo", "--tour")
    assert (said.returncode, said.stderr) == (0, "")
    assert masked(said.stdout) == Path(__file__).with_name("tour.txt").read_text(encoding="utf-8")


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*CENTCERT, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_the_demo_goes_on_and_leaves_nothing_behind(
    demo: subprocess.Popen[str], sign: signal.Signals, code: int
):
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("  curl "):
            words = line.split()
            break
    ca_file = Path(words[words.index("--cacert") + 1])
    page = subprocess.run(
        [*words, "-sS", "--max-time", "20", "--noproxy", "*"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "<dd>www.contoso.example.pfx</dd>" in page
    assert "<dd>TLSv1.3</dd>" in page
    demo.send_signal(sign)
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert (demo.returncode, errors.strip()) == (code, "")
    assert not ca_file.parent.exists()
