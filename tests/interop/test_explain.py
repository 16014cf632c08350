"""``centcert explain`` beside a running node, and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.cli.explain import Explained
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
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    return store


def test_each_step_is_told(store: Path, authority: Authority, tmp_path: Path):
    (store / "_.contoso.example.pfx").write_bytes(authority.issue("*.contoso.example").pfx())
    (store / "www.contoso.example.pem").write_bytes(authority.issue("other.example").pem())
    said = centcert("explain", NAME, "--store", store, "--control", tmp_path / "none")
    assert (said.returncode, said.stderr) == (0, "")
    title, empty, *steps = said.stdout.splitlines()
    assert (title, empty) == (f"{NAME}, from {store}", "")
    issuer = authority.intermediate.subject.rfc4514_string().removeprefix("CN=")
    assert steps[0] == "  1  www.contoso.example.pfx: not there."
    assert steps[1] == (
        "  2  www.contoso.example.pem: cannot be used: its certificate is for other.example and"
        f" does not cover {NAME}: put a certificate for that name in this file, or rename the file."
    )
    assert steps[2:4] == [
        f"       P-256, issued to other.example by {issuer}",
        "       for other.example",
    ]
    assert steps[5] == (
        f"  3  _.contoso.example.pfx: answers: it covers {NAME} by *.contoso.example and is within"
        " its dates."
    )
    assert steps[9:] == [
        "  4  _.contoso.example.pem: not asked for: _.contoso.example.pfx answers.",
        "",
        "Answer: serves _.contoso.example.pfx.",
        "No running node answers at its control socket.",
    ]


def test_a_name_without_a_certificate_is_a_finding(store: Path, tmp_path: Path):
    said = centcert("explain", "Bücher.example", "--store", store, "--control", tmp_path / "none")
    assert said.returncode == 1
    assert said.stdout.startswith("xn--bcher-kva.example (bücher.example), from ")
    assert "  3  bücher.example.pfx: not there.\n" in said.stdout
    assert "Answer: refuses the handshake with the alert unrecognized_name.\n" in said.stdout


def test_what_the_running_node_serves_is_compared(
    store: Path, authority: Authority, tmp_path: Path
):
    (store / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    control = tmp_path / "control.sock"
    config = tmp_path / "centcert.toml"
    config.write_text(
        f'store.url = "{store}"\ncontrol.socket = "{control}"\n'
        '[[listen]]\naddress = "127.0.0.1:0"\nto = "unix:/nonexistent"\n'
    )

    def ask() -> tuple[int, Explained]:
        said = centcert("explain", NAME, "--config", config, "--json")
        assert said.stdout, said.stderr
        return said.returncode, msgspec.json.decode(said.stdout, type=Explained)

    with Served("--config", config) as served:
        code, explained = ask()
        assert (code, explained.differs) == (0, False)
        assert explained.node is not None
        assert explained.node.key is None
        assert explained.look_up.verdicts[0].listener == "127.0.0.1:0"
        assert centcert("reload", NAME, "--control", control).returncode == 0
        assert ask()[1].node is not None
        code, explained = ask()
        assert explained.node is not None
        assert (code, explained.node.fingerprint) == (0, explained.look_up.fingerprint)
        # A file that went bad never replaces a good credential: the node serves on.
        (store / "new").write_bytes(b"bad")
        (store / "new").replace(store / f"{NAME}.pfx")
        code, explained = ask()
        assert (code, explained.differs, explained.look_up.condition) == (1, True, "bad")
        said = centcert("explain", NAME, "--config", config).stdout
        assert "The running node still serves another certificate from memory, of " in said
        assert f"centcert reload {NAME}" in said
        served.process.terminate()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((NAME,), "Which store? Name it by --store: there is no settings file."),
        (("a..b", "--store", "/"), "'a..b' is not a host name: "),
        ((NAME, "--store", "ftp://x"), "No kind of store is called ftp://: "),
        ((NAME, "--config", "/nonexistent"), "/nonexistent cannot be read: "),
        ((NAME, "--store", "smb://server/share"), "store: A share needs an account: "),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...], sentence: str):
    said = centcert("explain", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"centcert: {sentence}")
    assert said.stderr.count("\n") == 1
