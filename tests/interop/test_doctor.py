"""``centcert doctor`` on a folder, beside a node and without one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.admin.checkup import Check
from centcert.testing import Authority
from tests.commands import centcert
from tests.served import Served

if TYPE_CHECKING:
    from pathlib import Path

NAME = "www.contoso.example"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def store(tmp_path: Path, authority: Authority) -> Path:
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    (store / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    return store


def write(file: Path, store: Path, more: str = "", *, to: str = "unix:/nonexistent") -> Path:
    file.write_text(
        f'[store]\nurl = "{store}"\nstate_folder = "{file.parent}/state"\n{more}'
        f'[control]\nsocket = "{file.parent}/control.sock"\n[limits]\nconnections = 100\n'
        f'[[listen]]\naddress = "127.0.0.1:0"\nto = "{to}"\n'
    )
    return file


def wrong(*arguments: str | Path) -> dict[str, str]:
    """The sentences of what needs a hand, by what it is."""
    said = centcert("doctor", "--json", *arguments)
    assert said.stderr == ""
    checks = msgspec.json.decode(said.stdout, type=list[Check], strict=True)
    found = {check.what: check.sentence for check in checks if check.state == "wrong"}
    assert said.returncode == (1 if found else 0)
    return found


def test_a_sound_set_up_is_told_in_full(store: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        to = f"127.0.0.1:{listening.getsockname()[1]}"
        config = write(tmp_path / "centcert.toml", store, to=to)
        (tmp_path / "password").touch(mode=0o600)
        said = centcert("doctor", "--config", config, "--key-password-file", tmp_path / "password")
    assert (said.returncode, said.stderr) == (0, "")
    user, empty, *lines, empty_too, sum_ = said.stdout.splitlines()
    assert user.startswith("As user ")
    assert (empty, empty_too, sum_) == ("", "", "All is well, by 12 checks.")
    told = [line for line in lines if " copies " not in line]
    assert told == [
        f"  ok     settings {config}: It can be read and makes sense.",
        (
            f"  ?      node control socket: No running node answers at {tmp_path}/control.sock:"
            " start one with `centcert serve`, or name its socket with --control."
        ),
        f"  ok     secret {tmp_path}/password: It can be read, and by nobody else.",
        f"  ok     store {store}: 1 file, 1 of them by host names.",
        f"  ok     store {store}: {NAME}.pfx can be read.",
        f"  ok     case {store}: Case matters in file names: only lower-case ones are found.",
        f"  ok     account {store}: No other user of this machine can read keys.",
        f"  ok     changes {store}: The store tells of changes as they happen.",
        "  ok     descriptors RLIMIT_NOFILE: 200 files may be open.",
        "  ok     port 127.0.0.1:0: Free to listen on.",
        f"  ok     backend {to}: It accepts connections.",
    ]


def test_a_running_node_is_asked_and_its_port_is_its_own(
    store: Path, tmp_path: Path, authority: Authority, port: int
):
    config = write(tmp_path / "centcert.toml", store)
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    (store / f"{NAME}.pfx").write_bytes(authority.issue("other.example").pfx())
    with Served("--config", config):
        assert set(wrong("--config", config)) == {"backend"}
        assert centcert("reload", NAME, "--config", config).returncode == 1
        found = wrong("--config", config)
        assert set(found) == {"backend", "node"}
        assert "does not cover" in found["node"]
    with socket.create_server(("127.0.0.1", port)):
        assert wrong("--config", config)["port"].startswith("Another program listens there: ")


def test_each_thing_that_needs_a_hand_is_told(store: Path, tmp_path: Path):
    config = write(tmp_path / "centcert.toml", store)
    for name in ("open", "shut"):
        (tmp_path / name).touch(mode=0o600)
    (tmp_path / "open").chmod(0o644)
    store.chmod(0o755)
    (store / f"{NAME}.pfx").chmod(0o644)
    (tmp_path / "state").touch()
    found = wrong("--config", config, "--key-password-file", tmp_path / "open")
    assert found["secret"].endswith(f"chmod 600 {tmp_path}/open")
    assert found["account"].endswith(f"chmod o-rwx {store}")
    assert found["backend"] == (
        "unix:/nonexistent accepts no connections: No such file or directory: start it."
    )


def test_a_limit_that_is_too_low_is_told(store: Path, tmp_path: Path):
    config = write(tmp_path / "centcert.toml", store)
    config.write_text(config.read_text().replace("= 100\n", "= 1_000_000_000\n"))
    assert "2000000000 are needed" in wrong("--config", config)["descriptors"]


def test_a_store_that_is_not_there_is_told(tmp_path: Path):
    found = wrong("--store", tmp_path / "none")
    assert found == {
        "store": f"There is no folder {tmp_path}/none: make it, or mount the store there."
    }


def test_a_settings_file_that_makes_no_sense_is_told_and_its_store_looked_at(
    store: Path, tmp_path: Path
):
    config = write(tmp_path / "centcert.toml", store)
    config.write_text(config.read_text() + "nonsense = 1\n")
    assert wrong("--config", config) == {
        "settings": f"{config}: listen[0]: there is no setting `nonsense`."
    }
