"""./dev: what it locks, and what it does on machines that are not this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from tools import dev

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REQUIREMENT = re.compile(r"([a-z0-9-]+)==(\S+)( ; [^\\]*)? \\")
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")
NO_SUCH = dev.Program(("no-such-program", "nor-this"), "no-such", ubuntu="no-such-snap")


def locked(kind: str) -> dict[str, str]:
    """Read a lock file strictly: versions and hashes, no option, no place to fetch from."""
    found: dict[str, str] = {}
    for line in dev.LOCKS[kind].read_text().splitlines():
        if line.startswith("#"):
            continue
        requirement = REQUIREMENT.fullmatch(line)
        if requirement is not None:
            found[requirement[1]] = requirement[2]
        else:
            assert HASH.fullmatch(line), line
    return found


def test_the_locks_hold_versions_and_hashes_and_name_no_registry():
    for kind, lock in dev.LOCKS.items():
        assert locked(kind)
        assert "://" not in lock.read_text()


def test_what_runs_is_what_was_tested():
    run, develop, kerberos = map(locked, ("run", "dev", "kerberos"))
    assert run.items() <= develop.items()
    assert all(develop.get(name, version) == version for name, version in kerberos.items())


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((dev.ROOT / "pyproject.toml").read_text())
    wanted = {re.split(r"[^a-z0-9-]", line)[0] for line in project["project"]["dependencies"]}
    groups = project["dependency-groups"]
    building = {re.split(r"[^a-z0-9-]", line)[0] for line in groups["build"]}
    assert wanted | building <= locked("run").keys()
    assert {"pytest", "mypy", "ruff", "hypothesis"} <= locked("dev").keys()


def test_every_command_is_described():
    for name, command in dev.COMMANDS.items():
        assert f"  {name:6} {command.__doc__}" in dev.usage()


@pytest.mark.parametrize(
    ("system", "package"), [("ID=debian\n", "no-such"), ("ID=ubuntu\n", "no-such-snap")]
)
def test_without_rights_the_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: str,
    package: str,
):
    monkeypatch.setattr(dev, "read_text", lambda _path: system)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(dev, "quiet_call", lambda _command: False)
    present = dev.Program(("sh",), "dash")
    with pytest.raises(SystemExit) as caught:
        dev.install_programs([present, NO_SUCH])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"sudo apt-get install --yes --no-install-recommends {package}\n" in error
    assert error.count("\n") == 1


def test_old_package_lists_are_renewed(monkeypatch: pytest.MonkeyPatch):
    calls: list[Sequence[str]] = []

    def fail_first(command: Sequence[str], **_keywords: object) -> int:
        calls.append(command)
        return 100 if len(calls) == 1 else 0

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _name, **_keywords: "/usr/bin/apt-get")
    monkeypatch.setattr(subprocess, "call", fail_first)
    dev.install_packages(["no-such"])
    assert ["update" in call for call in calls] == [False, True, False]
    assert all("DEBIAN_FRONTEND=noninteractive" in call for call in calls)
    assert calls[2][-1] == "no-such"


def test_what_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dev, "call", lambda command: pytest.fail(f"ran {command}"))
    dev.install_programs([dev.Program(("no-such-program", "sh"), "dash")])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which nothing was installed yet."""
    monkeypatch.setattr(dev, "STAMP", tmp_path / "installed")
    return tmp_path


def write_stamp(kind: str) -> None:
    dev.STAMP.write_text(f"{kind} {dev.VERSION} {dev.fingerprint(kind)}\n")


@pytest.mark.usefixtures("environment")
def test_what_developing_needs_includes_what_running_needs():
    assert not dev.is_installed("run")
    write_stamp("run")
    assert dev.is_installed("run")
    assert not dev.is_installed("dev")
    write_stamp("dev")
    assert dev.is_installed("run")
    assert dev.is_installed("dev")
    assert not dev.is_installed("test")
    write_stamp("test")
    assert all(map(dev.is_installed, dev.KINDS))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("stamp", ["", "run", "other 3.11.7 abc", "run 3.11.7 abc", "\xff"])
def test_a_damaged_stamp_is_none(stamp: str):
    dev.STAMP.write_text(stamp)
    assert not dev.is_installed("run")


@pytest.mark.usefixtures("environment")
def test_another_python_or_place_or_lock_is_installed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_stamp("dev")
    for name, value in (
        ("VERSION", "3.99.0"),
        ("LOCKS", {"dev": tmp_path / "lock", "run": dev.LOCKS["run"]}),
    ):
        with monkeypatch.context() as patch:
            (tmp_path / "lock").write_text("changed")
            patch.setattr(dev, name, value)
            assert not dev.is_installed("dev")
    assert dev.is_installed("dev")


@pytest.mark.usefixtures("environment")
def test_an_installation_that_breaks_off_leaves_no_stamp(monkeypatch: pytest.MonkeyPatch):
    write_stamp("run")
    made: list[Sequence[str]] = []
    monkeypatch.setattr(dev, "call", made.append)

    def break_off(*_arguments: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dev, "pip", break_off)
    with pytest.raises(KeyboardInterrupt):
        dev.install("dev")
    assert made == []  # the environment as such was sound
    assert not dev.STAMP.exists()
    with pytest.raises(KeyboardInterrupt):
        dev.install("run")
    assert "--clear" in made[0]  # and now is not


def test_the_shell_finds_a_python_or_says_so(tmp_path: Path):
    nowhere = {"PYTHON": str(tmp_path / "python3"), "PATH": "/usr/bin:/bin"}
    command = [str(dev.ROOT / "dev"), "--help"]
    done = subprocess.run(
        command, env=nowhere, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "no Python 3.11 or later" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.startswith("usage: ./dev COMMAND")
