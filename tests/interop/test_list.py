"""``centcert list`` as a process, on a folder."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pexpect
import pytest

from centcert.cli.inventory import Inventory
from centcert.testing import Authority, Issued
from tests.commands import centcert
from tests.served import CENTCERT

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PASSWORD = b"correct horse"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def key_password(tmp_path: Path) -> Path:
    file = tmp_path / "key-password"
    file.touch(mode=0o600)
    file.write_bytes(PASSWORD)
    return file


@pytest.fixture(scope="module")
def filled(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    until = datetime(2099, 12, 31, tzinfo=UTC)

    def put(key: str, *names: str, password: bytes | None = PASSWORD, **given: object) -> Issued:
        issued = authority.issue(*names, **{"not_after": until, **given})  # type: ignore[arg-type]
        data = issued.pem() if key.endswith(".pem") else issued.pfx(password)
        (folder / key).write_bytes(data)
        return issued

    put("_.contoso.example.pfx", "*.contoso.example")
    put("www.contoso.example.pfx", "www.contoso.example", key_type="rsa-2048")
    put("shop.example.pfx.pfx", "shop.example", password=None)
    put("*.star.example.pem", "*.star.example")
    put("Mail.example.pfx", "mail.example")
    expired = datetime(2026, 1, 31, tzinfo=UTC)
    put("old.example.pfx", "old.example", not_after=expired, not_before=expired - timedelta(9))
    put("wrong.example.pfx", "other.example")
    put("xn--bcher-kva.example.pem", "bücher.example")
    put("bücher.example.pfx", "bücher.example")
    put("closed.example.pfx", "closed.example", password=b"another")
    (folder / "cut.example.pfx").write_bytes((folder / "old.example.pfx").read_bytes()[:900])
    put("a.example.pfx", "a.example", "b.example", not_after=datetime(2099, 11, 30, tzinfo=UTC))
    put("b.example.pfx", "a.example", "b.example")
    lonely = authority.issue("lonely.example", not_after=until)
    alone = Issued(lonely.certificate, (), lonely.private_key)
    (folder / "lonely.example.pfx").write_bytes(alone.pfx(PASSWORD))
    (folder / "readme.txt").write_text("")
    (folder / "old.example.pfx.previous").write_text("")
    return folder


def listed(store: Path, key_password: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return centcert("list", "--store", store, "--key-password-file", key_password, *options)


def decoded(said: subprocess.CompletedProcess[str]) -> Inventory:
    return msgspec.json.decode(said.stdout, type=Inventory, strict=True)


EVERYTHING = """\
FILE                       NAME                   ISSUED TO              ISSUED BY  KEY       EXPIRES     STATE
*.star.example.pem         -                      *.star.example         THE CA     P-256     2099-12-31  unused
Mail.example.pfx           -                      mail.example           THE CA     P-256     2099-12-31  unused
_.contoso.example.pfx      *.contoso.example      *.contoso.example      THE CA     P-256     2099-12-31  good
a.example.pfx              a.example              a.example              THE CA     P-256     2099-11-30  good
b.example.pfx              b.example              a.example              THE CA     P-256     2099-12-31  good
bücher.example.pfx         xn--bcher-kva.example  xn--bcher-kva.example  THE CA     P-256     2099-12-31  good
closed.example.pfx         closed.example         -                      -          -         -           unreadable
cut.example.pfx            cut.example            -                      -          -         -           unreadable
lonely.example.pfx         lonely.example         lonely.example         THE CA     P-256     2099-12-31  good
old.example.pfx            old.example            old.example            THE CA     P-256     2026-01-31  expired
shop.example.pfx.pfx       -                      shop.example           THE CA     P-256     2099-12-31  unused
wrong.example.pfx          wrong.example          other.example          THE CA     P-256     2099-12-31  wrong name
www.contoso.example.pfx    www.contoso.example    www.contoso.example    THE CA     RSA 2048  2099-12-31  good
xn--bcher-kva.example.pem  xn--bcher-kva.example  xn--bcher-kva.example  THE CA     P-256     2099-12-31  good

cannot be served
  closed.example.pfx: the password is wrong: the store's key password does not open it (wrong-password)
  cut.example.pfx: it is not a whole PKCS #12 file: if no writer is at work, export it again (blob-damaged)
  wrong.example.pfx: its certificate is for other.example and does not cover wrong.example: put a certificate for that name in this file, or rename the file (wrong-name)

warnings
  *.star.example.pem: no client gets it, as a wildcard's file begins with _ in place of *: rename it to _.star.example.pem (misnamed)
  Mail.example.pfx: no client gets it, as it has capital letters, and this store tells them from small ones: rename it to mail.example.pfx (misnamed)
  a.example.pfx: b.example.pfx holds a newer certificate for the same names, good until 2099-12-31: put that one here too (out-of-step)
  bücher.example.pfx: xn--bcher-kva.example.pem stands for the same name and comes first: this one answers only when that one is unusable or outside its dates, so remove one of them (same-name)
  lonely.example.pfx: it holds no certificate of its issuer, THE CA: add that, unless it is a root that every client has (issuer-missing)
  shop.example.pfx.pfx: no client gets it, as it has a second suffix: rename it to shop.example.pfx (misnamed)
  www.contoso.example.pfx: it answers www.contoso.example in place of _.contoso.example.pfx: renew both, or remove it if the wildcard's is to be served (hides-wildcard)

14 files: 7 good, 1 expired, 1 wrong name, 3 unused, 2 unreadable, 7 warnings; 2 other files.
"""  # noqa: E501


def masked(text: str, authority: Authority) -> str:
    """Give the CA, whose name is made up each time, one name, and as little room."""
    issuer = authority.intermediate.subject.rfc4514_string().removeprefix("CN=")
    column = len(issuer) - len("ISSUED BY")
    text = text.replace("ISSUED BY" + " " * column, "ISSUED BY")
    text = text.replace(issuer + "  ", "THE CA     ").replace(issuer, "THE CA")
    return text.replace("-" + " " * (len(issuer) + 1), "-" + " " * len("ISSUED BY "))


def test_everything(filled: Path, key_password: Path, authority: Authority):
    said = listed(filled, key_password)
    assert (said.returncode, said.stderr) == (1, "")
    assert masked(said.stdout, authority) == EVERYTHING
    again = listed(filled, key_password)  # now from the cache
    assert (again.returncode, again.stdout) == (1, said.stdout)


def test_groups_and_order(filled: Path, key_password: Path, authority: Authority):
    said = listed(
        filled, key_password, "--group", "expiry", "--sort", "name", "--state", "expired",
        *("--state", "good", "--filter", "O"),
    )  # fmt: skip
    text = masked(said.stdout, authority)
    assert said.returncode == 1
    assert text.startswith("FILE                     NAME")
    headings = [line for line in text.splitlines() if re.fullmatch(r"[a-z ]+ \(\d+\)", line)]
    assert headings == ["expired (1)", "later (3)"]
    assert text.splitlines()[-1].startswith("4 of 14 files: 3 good, 1 expired, 2 warnings; 2 other")


def test_json(filled: Path, key_password: Path):
    said = listed(filled, key_password, "--json", "--sort", "expires", "--group", "expiry")
    inventory = decoded(said)
    assert (said.returncode, inventory.store, inventory.others) == (1, str(filled), 2)
    assert len(inventory.entries) == 14
    first, last = inventory.entries[0], inventory.entries[-1]
    assert (first.key, first.state, first.group) == ("old.example.pfx", "expired", "expired")
    assert first.certificate is not None
    assert first.certificate.names == ("old.example",)
    assert first.certificate.chain == (first.certificate.issued_by,)
    assert (last.key, last.code, last.certificate) == ("cut.example.pfx", "blob-damaged", None)
    assert abs(inventory.taken_at - datetime.now(UTC).timestamp()) < 60
    (star,) = decoded(listed(filled, key_password, "--json", "--filter", "*.STAR")).entries
    assert (star.key, star.name, star.state) == ("*.star.example.pem", None, "unused")
    assert [warning.code for warning in star.warnings] == ["misnamed"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--state", "good"), 0),
        (("--state", "unused"), 0),
        (("--state", "expired"), 1),
        (("--state", "wrong-name"), 1),
        (("--state", "unreadable"), 1),
        (("--filter", "contoso"), 0),
        (("--filter", "nothing like it"), 0),
    ],
)
def test_the_exit_code_is_of_what_is_listed(
    options: tuple[str, ...], code: int, filled: Path, key_password: Path
):
    assert listed(filled, key_password, *options).returncode == code


def test_an_empty_store(tmp_path: Path, key_password: Path):
    (tmp_path / "store").mkdir()
    said = listed(tmp_path / "store", key_password)
    assert (said.returncode, said.stdout) == (0, "The store holds no certificate files.\n")


def test_a_certificate_cannot_command_a_terminal(
    authority: Authority, tmp_path: Path, key_password: Path
):
    store = tmp_path / "store"
    store.mkdir()
    (store / "\x1b[2J.pfx").write_bytes(authority.issue("x.example").pfx(PASSWORD))
    said = listed(store, key_password)
    assert said.stdout.replace("\n", "").isprintable()
    assert "\\x1b[2J.pfx  -" in said.stdout


def test_another_password_is_asked_of_the_files_again(
    authority: Authority, tmp_path: Path, key_password: Path, cache: Path
):
    """Guards: what is in the cache opened with the password of that time."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "x.example.pfx").write_bytes(authority.issue("x.example").pfx(PASSWORD))
    assert listed(store, key_password).returncode == 0
    assert len(list(cache.iterdir())) == 1
    key_password.write_bytes(b"another")
    assert listed(store, key_password).returncode == 1


def test_a_cache_that_cannot_be_used_changes_nothing(
    filled: Path, key_password: Path, cache: Path, authority: Authority
):
    cache.write_text("no folder")
    said = listed(filled, key_password)
    assert masked(said.stdout, authority) == EVERYTHING


def at_terminal(store: Path, key_password: Path, columns: int) -> str:
    arguments = [*CENTCERT[1:], "list", "--store", str(store)]
    terminal = pexpect.spawn(
        CENTCERT[0],
        [*arguments, "--key-password-file", str(key_password), "--filter", "contoso"],
        dimensions=(40, columns),
        encoding="utf-8",
        env={**os.environ, "CENTCERT_CONFIG": "", "TERM": "xterm", "NO_COLOR": ""},
        timeout=40,
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0, terminal.before
    return str(terminal.before)


def test_a_terminal_is_given_what_it_has_room_for(filled: Path, key_password: Path, tmp_path: Path):
    store = tmp_path / "store"
    shutil.copytree(filled, store)
    shown = at_terminal(store, key_password, 80)
    assert "reading" in shown, "there is no progress bar"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r\n", "\n")
    table = plain[plain.index("FILE ") :].partition("\n\n")[0].splitlines()
    assert all(len(line) <= 80 for line in table)
    assert table[0].split() == ["FILE", "ISSUED", "BY", "KEY", "EXPIRES", "STATE"]
    assert "Not shown for want of room: name, issued to." in plain
    wide = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", at_terminal(store, key_password, 160))
    assert "ISSUED TO" in wide
    assert "Not shown" not in wide


def test_one_long_file_name_pushes_nothing_out(filled: Path, key_password: Path, tmp_path: Path):
    """Guards: everything but the file names was left out, on account of one."""
    long = "contoso-" + "l" * 200 + ".pfx"
    shutil.copy(filled / "www.contoso.example.pfx", tmp_path / long)
    shown = at_terminal(tmp_path, key_password, 80)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r\n", "\n")
    titles, row = plain[plain.index("FILE ") :].splitlines()[:2]
    assert titles.split() == ["FILE", "ISSUED", "BY", "KEY", "EXPIRES", "STATE"]
    assert row.startswith(f"contoso-{'l' * 23}…  ")
    assert row.endswith("  RSA 2048  2099-12-31  unused")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "centcert: Which store? Name it by --store"),
        (("--store", "/", "--sort", "size"), "Error: Invalid value for '--sort': 'size' is not"),
        (("--store", "/", "--group", "state"), "Error: Invalid value for '--group': 'state' is"),
        (("--store", "/", "--state", "bad"), "Error: Invalid value for '--state': 'bad' is not"),
        (("--store", "/", "--key-password-file", "/none"), "centcert: /none cannot be read: No"),
        (("--store", "gopher://x"), "centcert: No kind of store"),
    ],
)
def test_wrong_usage_is_one_sentence(options: tuple[str, ...], sentence: str):
    said = centcert("list", *options)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.splitlines()[-1].startswith(sentence)


def test_a_store_that_is_not_there(tmp_path: Path):
    said = centcert("list", "--store", tmp_path / "none")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("centcert: ")
    assert "Traceback" not in said.stderr


def test_what_is_there_and_cannot_be_served_is_listed_with_its_reason(
    tmp_path: Path, key_password: Path
):
    """Guards: links that lead out, as certbot makes them, were left out without a word."""
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "outside.pfx").touch()
    (store / "linked.example.pfx").symlink_to("../outside.pfx")
    (store / "folder.example.pfx").mkdir()
    os.mkfifo(store / "fifo.example.pfx")
    os.mknod(os.fsencode(store) + b"/caf\xe9.example.pfx")
    said = listed(store, key_password)
    assert said.returncode == 1
    for line in (
        "  caf\\xe9.example.pfx: its name is not UTF-8: rename it (bad-name)",
        "  fifo.example.pfx: it is no regular file: put one in its place (not-a-file)",
        "  folder.example.pfx: it is no regular file: put one in its place (not-a-file)",
        (
            f"  linked.example.pfx: linked.example.pfx in {store} is a symbolic link that leads out"
            " of the store's folder: copy the file there instead (store-denied)"
        ),
    ):
        assert line in said.stdout.splitlines()
