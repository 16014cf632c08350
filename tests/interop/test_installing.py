"""``centcert unit``, ``centcert completion`` and the manual: judged by systemd, bash and man."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.commands import centcert
from tests.served import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EXPOSURE = 20
"""Tenths, of systemd's 100: what is left is the network, and sharing the machine with others."""

BIN = Path(sys.executable).parent


def judged(*command: str | Path) -> str:
    """Run a judge that has nothing to object to; return what it said."""
    said = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "SYSTEMD_COLORS": "0"},
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    return said.stdout


@pytest.fixture
def units(tmp_path: Path) -> Path:
    for name, options in (("centcert.service", ()), ("centcert.socket", ("--socket",))):
        said = subprocess.run([BIN / "centcert", "unit", *options], capture_output=True, check=True)
        (tmp_path / name).write_bytes(said.stdout)
    return tmp_path


def test_the_units_start_this_very_program(units: Path):
    service = (units / "centcert.service").read_text(encoding="utf-8")
    assert f"\nExecStart={BIN}/centcert serve\n" in service
    as_module = centcert("unit").stdout
    assert f"\nExecStart={sys.executable} -m centcert serve\n" in as_module
    assert "\nListenStream=443\n" in (units / "centcert.socket").read_text(encoding="utf-8")


def test_systemd_has_nothing_to_object_to(units: Path):
    verify = ("systemd-analyze", "verify", "--man=no")
    assert judged(*verify, units / "centcert.service", units / "centcert.socket") == ""


def test_systemd_finds_the_service_locked_away(units: Path):
    security = ("systemd-analyze", "security", "--offline=true", f"--threshold={MAX_EXPOSURE}")
    unit = units / "centcert.service"
    assert "Overall exposure level for centcert.service" in judged(*security, "--no-pager", unit)
    text = unit.read_text(encoding="utf-8")
    unit.write_text(text.replace("CapabilityBoundingSet=", "# "), encoding="utf-8")
    weakened = subprocess.run([*security, "--no-pager", unit], capture_output=True, check=False)
    assert weakened.returncode != 0


# --- completion -----------------------------------------------------------------------------


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PS1": "$ ", "HOME": str(tmp_path)}
    with pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env=env, timeout=PATIENCE_S, encoding="utf-8",
        dimensions=(24, 200),
    ) as shell:  # fmt: skip
        shell.sendline("bind 'set enable-bracketed-paste off'; unset PROMPT_COMMAND; PS1='> '")
        shell.sendline('eval "$(centcert completion bash)"; echo "rea"dy')
        shell.expect("\nready")
        yield shell


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("centcert stat", "centcert status "),
        ("centcert enable --no-c", "centcert enable --no-check "),
        ("centcert completion z", "centcert completion zsh "),
    ],
)
def test_bash_completes(bash: pexpect.spawn[str], typed: str, completed: str):
    bash.send(f"{typed}\t")
    bash.expect_exact(completed)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_own(shell: str):
    said = centcert("completion", shell)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"_CENTCERT_COMPLETE={shell}_complete" in said.stdout


def test_another_shell_is_wrong_usage():
    said = centcert("completion", "tcsh")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.splitlines()[-1].startswith("Error: Invalid value for")


# --- the manual -----------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "centcert.1"


def test_man_prints_the_page_without_a_warning():
    text = judged("man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", PAGE)
    assert "centcert - serve TLS from a central certificate store" in text
    for line in ("centcert serve [OPTIONS]", "--password-file FILE", "/etc/centcert/centcert.toml"):
        assert line in text
    assert "warning" not in text
