"""``centcert enable``, ``set``, ``get``, ``clear`` and ``disable`` on a folder."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pexpect
import pytest

from centcert.admin.store_setup import StoreSetup
from centcert.cli.store_commands import Changed
from centcert.testing import Authority
from tests.commands import centcert
from tests.interop.conftest import running_backend
from tests.served import CENTCERT, PATIENCE_S, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVED, KNOWN, NEW = "www.contoso.example", "known.contoso.example", "new.contoso.example"


class Setup:
    """A settings file and a folder of certificates, and the commands that change the one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "etc" / "centcert.toml"
        self.folder = home / "store"
        self.folder.mkdir()
        (self.folder / "www.contoso.example.pfx").touch()
        (self.folder / "_.contoso.example.pem").touch()
        (self.folder / "readme.txt").touch()

    def __call__(
        self, *arguments: str | Path, typed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        more: tuple[str | Path, ...] = ("--config", self.file)
        if arguments[0] != "get" and "--control" not in arguments:
            more += ("--control", self.home / "none")
        return centcert(*arguments, *more, typed=typed)

    def enabled(self) -> Setup:
        self.file.parent.mkdir()
        self.file.write_text(f'[store]\nurl = "{self.folder}"\n', encoding="utf-8")
        return self

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_from_nothing_to_an_enabled_store_and_back(setup: Setup):
    said = setup("enable", "--store", setup.folder)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == (
        f"store     {setup.folder}\n"
        "enabled   yes\n"
        f"settings  {setup.file}\n"
        "found     3 files, 2 named as certificates\n"
        "node      none runs with these settings\n"
    )
    header, store = setup.text.split("\n\n")
    assert header.startswith("# Settings of Centcert.")
    assert store == f'[store]\nurl = "{setup.folder}"\n'

    said = setup("disable")
    assert said.stdout == (
        f"store     {setup.folder}\nenabled   no\nsettings  {setup.file}\n"
        "node      none runs with these settings\n"
    )
    assert setup.text.endswith(f'url = "{setup.folder}"\nenabled = false\n')
    assert setup("disable").returncode == 0

    assert setup("enable").returncode == 0
    assert setup.text.endswith(f'url = "{setup.folder}"\nenabled = true\n')
    assert setup("clear", "--all").returncode == 0
    assert setup.text.endswith("[store]\n")


def test_what_is_set_is_what_get_tells(setup: Setup):
    setup.enabled()
    password = setup.home / "password"
    password.touch(mode=0o600)
    said = setup("set", "--key-password-file", password, "--json")
    changed = msgspec.json.decode(said.stdout, type=Changed, strict=True)
    assert changed.found is not None
    assert (changed.found.files, changed.found.certificates, changed.node) == (3, 2, None)
    assert setup("get").stdout == (
        f"store         {setup.folder}\n"
        "enabled       yes\n"
        f"key password  {password}\n"
        f"settings      {setup.file}\n"
    )
    assert msgspec.json.decode(setup("get", "--json").stdout, type=StoreSetup) == changed.setup
    password.chmod(0o644)
    said = setup("get")
    assert said.returncode == 1
    assert f"              {password} is open to others than its owner: chmod 600" in said.stdout
    password.unlink()
    (secret,) = msgspec.json.decode(setup("get", "--json").stdout, type=StoreSetup).secrets
    assert secret.problem == f"{password} cannot be read: No such file or directory."


def test_a_typed_key_password_is_kept_beside_the_settings(setup: Setup):
    setup.enabled()
    said = setup("set", "--key-password", typed="Grün 1 \n")
    own = setup.file.parent / "secrets" / "key-password"
    assert (said.returncode, said.stderr) == (0, "")
    assert f"key password  {own}\n" in said.stdout
    assert own.read_text(encoding="utf-8") == "Grün 1 \n"
    assert (own.stat().st_mode & 0o777, own.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for command in ("get", "get --json"):
        assert "Grün" not in setup(*command.split()).stdout
    assert "Grün" not in setup.text

    setup("set", "--key-password", typed="another\r\n")
    assert own.read_bytes() == b"another\n"
    said = setup("clear", "--key-password")
    assert f"removed   {own}\n" in said.stdout
    assert not own.parent.exists()
    assert "key_password_files" not in setup.text


def test_a_secret_of_somebody_else_is_written_where_it_is_named_and_never_removed(setup: Setup):
    setup.enabled()
    theirs = setup.home / "theirs"
    setup("set", "--key-password-file", theirs, "--key-password", typed="first\n")
    assert theirs.read_bytes() == b"first\n"
    setup("set", "--key-password", typed="second\n")
    assert theirs.read_bytes() == b"second\n"
    assert "removed" not in setup("clear", "--all").stdout
    assert theirs.exists()


def test_a_password_is_asked_for_twice_and_not_shown(setup: Setup):
    setup.enabled()
    command = ["set", "--key-password", "--config", setup.file, "--control", setup.home / "none"]
    arguments = [str(argument) for argument in (*CENTCERT[1:], *command)]
    with pexpect.spawn(
        sys.executable, arguments, timeout=PATIENCE_S, encoding="utf-8", dimensions=(24, 80)
    ) as child:
        for again in ("hunter3", "hunter2"):
            child.expect_exact("Password of the private keys: ")
            child.sendline("hunter2")
            child.expect_exact("Repeat for confirmation: ")
            child.sendline(again)
            if again == "hunter3":
                child.expect_exact("Error: The two entered values do not match.")
        child.expect_exact("none runs with these settings")
        child.expect(pexpect.EOF)
        assert "hunter" not in str(child.before)
    assert (setup.file.parent / "secrets" / "key-password").read_bytes() == b"hunter2\n"


def test_nothing_is_saved_that_does_not_work_unless_told_so(setup: Setup):
    said = setup("enable", "--store", setup.home / "nowhere")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(f"centcert: There is no folder {setup.home}/nowhere: ")
    assert not setup.file.exists()
    said = setup("enable", "--store", setup.home / "nowhere", "--no-check")
    assert (said.returncode, "found" in said.stdout) == (0, False)
    assert f'url = "{setup.home}/nowhere"' in setup.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("set",), "Error: Say what to set: --store, --username, --password, …"),
        (("clear",), "Error: Say what to clear: --credential, --key-password or --all."),
        (("set", "--store", r"\\files\certs"),
         r"centcert: \\files\certs is Windows' spelling of a share: write smb://files/certs"),
        (("set", "--store", "gopher://x"), "centcert: No kind of store is called gopher://: name"),
        (("set", "--store", "smb://files/certs"), "FILE: store: A share needs an account: "),
        (("set", "--store", "smb://files/certs", "--username", "u"),
         "FILE: store: A share needs an account: username, and either"),
        (("set", "--username", "u", "--password-file", "/p"),
         "FILE: store: Username, password_file and keytab are for a share"),
        (("set", "--key-password-file", "/none"), "centcert: /none cannot be read: No such file"),
        (("set", "--key-password-file", "credential:a/b"),
         "FILE: store: key_password_files[0]: 'credential:a/b' names no credential of systemd"),
        (("set", "--key-password"), "centcert: Password of the private keys: standard input ends"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_changes_nothing(
    setup: Setup, arguments: tuple[str, ...], sentence: str
):
    before = setup.enabled().text
    said = setup(*arguments, typed="")
    assert (said.returncode, said.stdout) == (2, "")
    last = said.stderr.splitlines()[-1]
    assert last.startswith(sentence.replace("FILE", f"centcert: {setup.file}")), last
    assert last.endswith((".", "…"))
    assert setup.text == before


@pytest.mark.parametrize("command", ["get", "disable", "clear --all"])
def test_without_a_settings_file_there_is_nothing_to_tell_or_take(setup: Setup, command: str):
    said = setup(*command.split())
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        f"centcert: {setup.file} is not there: `centcert enable --store …` makes it.\n"
    )


def test_what_is_no_toml_is_left_alone(setup: Setup):
    setup.file.parent.mkdir()
    setup.file.write_text("[store\n", encoding="utf-8")
    for command in (("enable", "--store", setup.folder), ("get",), ("disable",)):
        said = setup(*command)
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr.startswith(f"centcert: {setup.file} is not TOML: ")
    assert setup.text == "[store\n"


def test_a_folder_that_is_read_only_is_told(setup: Setup):
    setup.enabled()
    before = setup.text
    setup.file.parent.chmod(0o555)
    as_others = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    try:
        said = subprocess.run(
            [*as_others, *CENTCERT, "disable", "--config", setup.file],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        setup.file.parent.chmod(0o755)
    assert said.returncode == 2
    assert said.stderr == (
        f"centcert: {setup.file} cannot be written: Permission denied for .centcert.toml.lock"
        " beside it: nothing was changed.\n"
    )
    assert setup.text == before


def test_of_two_commands_at_once_neither_undoes_the_other(setup: Setup):
    """The one reads the file, and is long about trying its store, while the other changes it."""
    setup.enabled()
    large, key_password = setup.home / "large", setup.home / "key-password"
    large.mkdir()
    for number in range(3_000):
        (large / f"{number}.txt").touch()
    key_password.touch(mode=0o600)
    key_password.write_bytes(b"secret")
    changes = (("--store", large), ("--key-password-file", key_password), ("--store", large))
    running = [
        subprocess.Popen(
            [*CENTCERT, "set", *change, "--config", setup.file, "--control", setup.home / "none"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for change in changes
    ]
    for process in running:
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")
    assert setup.text == (f'[store]\nurl = "{large}"\nkey_password_files = ["{key_password}"]\n')
    assert list(setup.file.parent.iterdir()) == [setup.file]


def test_a_full_disk_is_told(setup: Setup):
    before = setup.enabled().text
    said = subprocess.run(
        [*CENTCERT, "disable", "--config", setup.file, "--control", setup.home / "none"],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (
        2,
        f"centcert: {setup.file} cannot be written: File too large: nothing was changed.\n",
    )
    assert setup.text == before


# --- beside a running node ----------------------------------------------------------------


class Site:
    """A node that runs with a settings file, and clients that visit it."""

    def __init__(self, served: Served, setup: Setup, authority: Authority) -> None:
        self.served = served
        self.setup = setup
        self.trusting = ssl.create_default_context(cadata=authority.root_pem.decode())

    def visit(self, name: str) -> str:
        with socket.create_connection(self.served.address, PATIENCE_S) as tcp:
            try:
                with self.trusting.wrap_socket(tcp, server_hostname=name) as client:
                    client.sendall(b"hello")
                    return client.recv(100).decode()
            except ssl.SSLError as error:
                return str(error.reason)

    def codes(self) -> list[str]:
        said = centcert("status", "--config", self.setup.file, "--json")
        return [finding["code"] for finding in msgspec.json.decode(said.stdout)["findings"]]


@pytest.fixture
def site(setup: Setup) -> Iterator[Site]:
    authority = Authority()
    for name in (SERVED, KNOWN, NEW):
        (setup.folder / f"{name}.pfx").write_bytes(authority.issue(name).pfx())

    def echo(client: socket.socket) -> None:
        client.sendall(client.recv(100))

    setup.enabled()
    with running_backend(echo) as backend:
        control = setup.home / "run" / "control.sock"
        more = f'[[listen]]\naddress = "127.0.0.1:0"\nto = "{backend}"\n'
        more += f'sites = [{{name = "{KNOWN}", to = "{backend}", on_unavailable = "refuse"}}]\n'
        setup.file.write_text(f'{setup.text}{more}[control]\nsocket = "{control}"\n')
        with Served("--config", setup.file) as served:
            yield Site(served, setup, authority)


def test_a_disabled_store_is_asked_for_nothing(site: Site):
    assert [site.visit(SERVED), site.visit(KNOWN)] == ["hello", "hello"]
    command = ("--config", site.setup.file)
    said = centcert("disable", *command)
    assert (said.returncode, said.stderr) == (0, "")
    asks = f"node      no longer asks {site.setup.folder} from now on\n"
    assert said.stdout.endswith(asks)
    site.setup.folder.rename(site.setup.folder.with_name("gone"))  # nobody looks

    assert site.visit(SERVED) == "hello", "from its last-good copy"
    assert site.visit(KNOWN) == "TLSV1_ALERT_INTERNAL_ERROR", "which its site does not want"
    assert site.visit(NEW) == "TLSV1_ALERT_INTERNAL_ERROR"
    assert site.codes() == ["store-disabled"]
    site.served.line(rf"warning, store-disabled: The store {site.setup.folder} is disabled: ")
    said = centcert("reload", NEW, *command)
    assert said.returncode == 1
    assert said.stderr.startswith(f"centcert: The store {site.setup.folder} is disabled: `centcert")

    said = centcert("enable", *command)
    assert said.returncode == 1, "it is not there"
    assert site.visit(NEW) == "TLSV1_ALERT_INTERNAL_ERROR"
    site.setup.folder.with_name("gone").rename(site.setup.folder)
    said = centcert("enable", *command)
    assert said.stdout.endswith(f"node      uses {site.setup.folder} from now on\n")
    assert [site.visit(name) for name in (SERVED, KNOWN, NEW)] == ["hello"] * 3
    assert site.codes() == []


def test_a_node_goes_on_as_before_if_it_can_do_nothing_with_the_new_settings(site: Site):
    said = centcert("clear", "--all", "--config", site.setup.file)
    assert (said.returncode, said.stderr) == (1, "")
    assert said.stdout.endswith(
        f"node      goes on as before: {site.setup.file}: store: the setting `url` is missing.\n"
    )
    assert site.visit(SERVED) == "hello"


def test_a_node_with_other_settings_is_none_of_ours(site: Site, setup: Setup):
    other = setup.home / "other.toml"
    other.write_bytes(setup.file.read_bytes())
    said = centcert("disable", "--config", other)
    assert said.stdout.endswith("node      none runs with these settings\n")
    assert site.visit(NEW) == "hello"
