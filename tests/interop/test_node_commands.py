"""``centcert reload`` and ``centcert status`` beside a running ``centcert serve``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from centcert import __version__
from centcert.testing import Authority
from tests.served import CENTCERT, PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "www.contoso.example"
OTHER = "mail.contoso.example"


class Node:
    """A node that serves a folder, and the commands that ask it."""

    def __init__(self, served: Served, store: Path, control: Path, authority: Authority) -> None:
        self.served = served
        self.store = store
        self.control = control
        self.authority = authority

    def put(self, name: str, data: bytes | None = None) -> None:
        """Replace a file as a careful writer does."""
        new = self.store / ".new"
        new.write_bytes(self.authority.issue(name).pfx() if data is None else data)
        new.replace(self.store / f"{name}.pfx")

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return centcert(*arguments, "--control", str(self.control))

    def status(self) -> dict[str, Any]:
        said = self.ask("status", "--json")
        answer: dict[str, Any] = json.loads(said.stdout)
        assert said.returncode == (1 if answer["findings"] else 0)
        return answer

    def until_found(self, *codes: str) -> dict[str, Any]:
        """Wait until exactly ``codes`` are found."""
        end = time.monotonic() + PATIENCE_S
        while True:
            status = self.status()
            if [finding["code"] for finding in status["findings"]] == [*codes]:
                return status
            assert time.monotonic() < end, f"not {codes}: {status}"
            time.sleep(0.05)


def centcert(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CENTCERT, *arguments],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, "CENTCERT_CONFIG": "", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def node(authority: Authority, tmp_path: Path) -> Iterator[Node]:
    store, control = tmp_path / "the [red]store", tmp_path / "run" / "control.sock"
    store.mkdir()
    where = ("--store", store, "--listen", "127.0.0.1:0", "--to", "unix:/nonexistent")
    with Served(*where, "--control", control) as served:
        node = Node(served, store, control, authority)
        node.put(NAME)
        yield node


def test_a_reload_of_a_name_says_what_it_gets(node: Node):
    said = node.ask("reload", NAME)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{NAME} is answered by {NAME}.pfx, good until 20")
    assert said.stdout.endswith(" UTC.\n")
    answer = json.loads(node.ask("reload", NAME.upper(), "--json").stdout)
    assert (answer["type"], answer["names"], answer["key"]) == ("reloaded", 1, f"{NAME}.pfx")
    assert answer["not_after"] > time.time()
    assert answer["findings"] == []


def test_a_reload_of_a_name_whose_file_went_bad_says_so_and_the_old_one_stays(node: Node):
    assert node.ask("reload", NAME).returncode == 0
    node.put(NAME, b"bad")
    said = node.ask("reload", NAME)
    assert (said.returncode, said.stderr) == (1, "")
    answered, finding = said.stdout.splitlines()
    assert answered.startswith(f"{NAME} is answered by {NAME}.pfx, good until ")
    assert finding.startswith("  bad-file, for ")
    assert f" s: {NAME}.pfx: " in finding
    node.put(NAME)
    assert node.ask("reload", NAME).returncode == 0


def test_a_reload_of_a_name_without_a_file_fails(node: Node):
    said = node.ask("reload", OTHER)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == f"centcert: The store holds no certificate for {OTHER}.\n"


def test_a_reload_sees_a_file_that_was_put_there_just_now(node: Node):
    """Guards: until its notification was acted on, the index denied that there was one."""
    assert node.ask("reload", OTHER).returncode == 1
    node.put(OTHER)
    assert node.ask("reload", OTHER).returncode == 0


def test_all_names_are_reloaded(node: Node):
    node.put(OTHER)
    assert node.ask("reload", "--all").stdout == "0 names are being looked up anew.\n"
    for name in (NAME, OTHER):
        node.ask("reload", name)
    said = node.ask("reload", "--all")
    assert (said.returncode, said.stdout) == (0, "2 names are being looked up anew.\n")
    assert json.loads(node.ask("reload", "--all", "--json").stdout)["names"] == 2


def test_the_status_of_a_node_that_is_well(node: Node):
    node.ask("reload", NAME)
    status = node.until_found()
    assert status["version"] == __version__
    assert status["store"].endswith("/the [red]store")
    assert (status["names"], status["connections"]) == (1, 0)
    assert 0 < status["up_s"] < 3600
    assert status["used_bytes"] > 1_000
    said = node.ask("status")
    assert (said.returncode, said.stderr) == (0, "")
    lines = [line.strip() for line in said.stdout.splitlines()]
    assert lines[0].endswith("/the [red]store"), "its name is no markup"
    assert lines[-1] == "findings      none"
    with socket.create_connection(node.served.address):
        end = time.monotonic() + PATIENCE_S
        while node.status()["connections"] != 1:
            assert time.monotonic() < end


def test_a_finding_is_shown_keeps_its_since_and_goes(node: Node):
    node.put(OTHER, b"bad")
    assert node.ask("reload", OTHER).returncode == 1
    first = node.until_found("bad-file")["findings"][0]
    assert first["subject"] == f"{OTHER}.pfx"
    said = node.ask("status")
    assert said.returncode == 1
    assert f" s: {OTHER}.pfx: " in said.stdout.splitlines()[-1]
    node.put(OTHER, node.authority.issue("stranger.example").pfx())
    node.ask("reload", OTHER)
    assert node.until_found("wrong-name")["findings"][0]["since"] >= first["since"]
    node.put(OTHER)
    assert node.ask("reload", OTHER).returncode == 0
    node.until_found()


def test_the_store_goes_and_comes_back_without_a_hand(node: Node):
    node.ask("reload", NAME)
    away = node.store.with_name("away")
    node.store.rename(away)
    said = node.ask("reload", NAME)
    assert said.returncode == 1, said
    assert said.stdout.startswith(f"{NAME} is answered by {NAME}.pfx, "), "it is still served"
    codes = {finding["code"] for finding in node.status()["findings"]}
    assert "store-unreachable" in codes
    away.rename(node.store)
    assert node.ask("reload", NAME).returncode in {0, 1}  # changes may be unseen for seconds more
    node.until_found()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("reload",), "Error: Name one host name, or say --all."),
        (("reload", NAME, "--all"), "Error: Name one host name, or say --all."),
        (("reload", "192.0.2.1"), "centcert: '192.0.2.1' looks like an IP address: "),
        (("reload", "a..b"), "centcert: 'a..b' is not a host name: "),
        (("status", "surplus"), "Error: Got unexpected extra argument (surplus)"),
        (("status", "--config", "/none"), "centcert: /none cannot be read: No such file"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], sentence: str):
    said = centcert(*arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.splitlines()[-1].startswith(sentence)


@pytest.mark.parametrize("command", [("status",), ("reload", NAME), ("reload", "--all")])
def test_without_a_node_a_command_fails_with_one_sentence(command: tuple[str, ...], tmp_path: Path):
    path = tmp_path / "control.sock"
    said = centcert(*command, "--control", str(path))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == (
        f"centcert: No running node answers at {path}: start one with `centcert serve`, or name"
        " its socket with --control.\n"
    )


def test_the_settings_file_says_where_the_socket_is(node: Node, tmp_path: Path):
    settings = tmp_path / "centcert.toml"
    settings.write_text(f'[control]\nsocket = "{node.control}"\n', encoding="utf-8")
    assert centcert("status", "--config", str(settings)).returncode == 0


def test_a_second_node_at_the_same_socket_is_refused(node: Node):
    where = ("--store", str(node.store), "--listen", "127.0.0.1:0", "--to", "unix:/nonexistent")
    second = node.ask("serve", *where, "--no-last-good")
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"centcert: {node.control}: another node listens there: name another with --control."
    )
    assert node.ask("status").returncode == 0


def test_a_node_that_was_killed_leaves_its_place_to_the_next(node: Node, tmp_path: Path):
    node.served.process.kill()
    node.served.process.wait()
    assert node.control.is_socket()
    assert node.ask("status").returncode == 1
    where = ("--store", node.store, "--listen", "127.0.0.1:0", "--to", "unix:/nonexistent")
    with Served(*where, "--control", node.control) as served:
        assert node.ask("status").returncode == 0
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
    assert not node.control.exists()
    shutil.rmtree(tmp_path / "run")


def test_silence_at_the_socket_keeps_no_node_from_ending(node: Node):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(node.control))
        assert node.ask("status").returncode == 0
        node.served.process.send_signal(signal.SIGTERM)
        assert node.served.process.wait(PATIENCE_S) == 0
    assert not [line for line in node.served.lines if "Traceback" in line]
