"""``centcert publish``, ``rollback``, ``remove`` and ``export``, on a folder and on real Samba."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from centcert.admin.desk import Outcome
from centcert.admin.lease import LOCK
from centcert.cli.export import Exported
from centcert.credential import decode
from centcert.demo.samba import PrivateSamba
from centcert.errors import WrongPassword
from centcert.testing import Authority, Issued
from tests.served import CENTCERT, Served

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_PASSWORD = "correct horse battery staple"
WWW, WILDCARD, IDN = "www.contoso.example", "*.contoso.example", "bücher.example"


@dataclass(frozen=True)
class Place:
    """A store, as its administrator names it, and the folder that is behind it."""

    options: tuple[str, ...]
    folder: Path
    home: Path
    samba: PrivateSamba | None = None

    @property
    def url(self) -> str:
        return self.options[1]

    def run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(command, *self.options, *arguments, home=self.home)

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}

    def serial(self, key: str) -> int:
        credential = decode(
            (self.folder / key).read_bytes(), key=key, passwords=[KEY_PASSWORD.encode()]
        )
        return credential.certificate.serial_number


def run(
    command: str, *arguments: str | Path, home: Path, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *CENTCERT, command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=home,
        timeout=60,
        check=False,
        env={**os.environ, "CENTCERT_CONFIG": ""},
    )


def secret_file(path: Path, secret: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(secret + "\n", encoding="utf-8")
    return path


def said(result: subprocess.CompletedProcess[str], place: Place) -> str:
    """What a command printed, without what differs from run to run."""
    text = result.stdout.replace(place.url, "STORE")
    text = re.sub(r"\d{4}-\d\d-\d\d", "DATE", text)
    return re.sub(r"(Test (?:Intermediate|Root)) [0-9a-f]{8}", r"\1", text)


@pytest.fixture(scope="module")
def samba() -> Iterator[PrivateSamba]:
    root = Path(tempfile.mkdtemp(prefix="smb"))
    try:
        with PrivateSamba(root) as samba:
            yield samba
    finally:
        shutil.rmtree(root)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The administrator's folder: with the store's key password."""
    home = tmp_path / "home"
    home.mkdir()
    secret_file(home / "key-password", KEY_PASSWORD)
    return home


@pytest.fixture
def local(tmp_path: Path, home: Path) -> Place:
    folder = tmp_path / "store"
    folder.mkdir()
    options = ("--store", str(folder), "--key-password-file", "key-password")
    return Place(options, folder, home)


@pytest.fixture
def shared(samba: PrivateSamba, home: Path) -> Place:
    folder = samba.folder / secrets.token_hex(4)
    folder.mkdir()
    folder.chmod(0o777)
    secret_file(home / "password", samba.password)
    url = f"smb://127.0.0.1:{samba.port}/{samba.publish_share}/{folder.name}"
    account = ("--username", samba.username, "--password-file", "password")
    options = ("--store", url, *account, "--key-password-file", "key-password")
    return Place(options, folder, home, samba)


@pytest.fixture(params=["local", "shared"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def given(place: Place, name: str, issued: Issued) -> str:
    """Put a PEM file with certificate, chain and key into the administrator's folder."""
    (place.home / name).write_bytes(issued.pem())
    return name


# --- the way of a certificate -----------------------------------------------------------


def test_a_certificate_is_published_renewed_rolled_back_and_removed(
    place: Place, authority: Authority
):
    old = authority.issue(WWW, WILDCARD, IDN)
    (place.home / "site.pfx").write_bytes(old.pfx(b"the CA's own"))
    (place.home / "root.pem").write_bytes(authority.root_pem)
    secret_file(place.home / "input", "the CA's own")

    first = place.run("publish", "site.pfx", "root.pem", "--input-password-file", "input")
    assert (first.returncode, first.stderr) == (0, "")
    assert said(first, place) == (
        "site.pfx\n"
        "  certificate   www.contoso.example, issued by Centcert Test Intermediate\n"
        "  valid         from DATE to DATE\n"
        "  key           P-256, belongs to the certificate\n"
        "  chain         Centcert Test Intermediate\n"
        "  published as  www.contoso.example, *.contoso.example, bücher.example\n"
        "\n"
        "Published into STORE:\n"
        "  www.contoso.example.pfx  good until DATE, new\n"
        "  _.contoso.example.pfx    good until DATE, new\n"
        "  bücher.example.pfx       good until DATE, new\n"
        "\n"
        "Nodes that watch the store take this up at once, others within their `refresh`.\n"
    )
    keys = {"www.contoso.example.pfx", "_.contoso.example.pfx", "bücher.example.pfx"}
    assert place.files().keys() == keys
    assert {place.serial(key) for key in keys} == {old.certificate.serial_number}

    again = place.run("publish", "site.pfx", "root.pem", "--input-password-file", "input")
    assert said(again, place).endswith("\nSTORE holds all of it already; nothing was written.\n")
    assert place.files().keys() == keys

    new = authority.issue(WWW)
    second = place.run("publish", given(place, "site.pem", new))
    assert (second.returncode, second.stderr) == (0, "")
    assert said(second, place) == (
        "site.pem\n"
        "  certificate   www.contoso.example, issued by Centcert Test Intermediate\n"
        "  valid         from DATE to DATE\n"
        "  key           P-256, belongs to the certificate\n"
        "  chain         Centcert Test Intermediate\n"
        "  published as  www.contoso.example\n"
        "  note          its chain ends at Centcert Test Root, which has to be a root that clients"
        " have\n"
        "\n"
        "Published into STORE:\n"
        "  www.contoso.example.pfx  good until DATE, replaces one good until DATE\n"
        "\n"
        "Nodes that watch the store take this up at once, others within their `refresh`.\n"
        "What was replaced comes back by: centcert rollback www.contoso.example\n"
    )
    assert place.files().keys() == {*keys, "www.contoso.example.pfx.previous"}
    assert place.serial("www.contoso.example.pfx") == new.certificate.serial_number
    assert place.serial("www.contoso.example.pfx.previous") == old.certificate.serial_number

    back = place.run("rollback", WWW)
    assert (back.returncode, back.stderr) == (0, "")
    assert said(back, place) == (
        "Brought back in STORE:\n"
        "  www.contoso.example.pfx  good until DATE, replaces one good until DATE\n"
        "\n"
        "Nodes that watch the store take this up at once, others within their `refresh`.\n"
    )
    assert place.serial("www.contoso.example.pfx") == old.certificate.serial_number
    assert place.run("rollback", WWW).returncode == 0
    assert place.serial("www.contoso.example.pfx") == new.certificate.serial_number

    removed = place.run("remove", WWW, "--yes")
    assert (removed.returncode, removed.stderr) == (0, "")
    assert said(removed, place) == (
        "Removed from STORE:\n"
        "  www.contoso.example.pfx  removed; it held one good until DATE\n"
        "www.contoso.example is answered by _.contoso.example.pfx from then on.\n"
        "\n"
        "Nodes that watch the store take this up at once, others within their `refresh`.\n"
        "They come back by: centcert rollback www.contoso.example\n"
    )
    assert place.files().keys() == {*keys, "www.contoso.example.pfx.previous"} - {
        "www.contoso.example.pfx"
    }
    assert place.run("rollback", WWW).returncode == 0
    assert place.serial("www.contoso.example.pfx") == new.certificate.serial_number
    assert place.files().keys() == keys


def test_other_programs_read_what_is_published(shared: Place, authority: Authority):
    issued = authority.issue(WWW, key_type="rsa-2048")
    assert shared.run("publish", given(shared, "site.pem", issued)).returncode == 0
    assert shared.samba is not None
    home, samba = shared.home, shared.samba
    secret_file(home / "login", f"username={samba.username}\npassword={samba.password}")
    subprocess.run(
        [
            *("smbclient", f"//127.0.0.1/{samba.share}", "-p", str(samba.port), "-A", "login"),
            *("-m", "SMB3_11", "-D", shared.folder.name, "-c", f"get {WWW}.pfx fetched.pfx"),
        ],
        cwd=home,
        check=True,
        capture_output=True,
    )
    read = subprocess.run(
        ["openssl", "pkcs12", "-in", "fetched.pfx", "-passin", "file:key-password", "-nodes"],
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pem = read[read.index("-----BEGIN") :].encode()
    assert decode(pem, key="x", passwords=()).certificate == issued.certificate
    assert read.count("BEGIN CERTIFICATE") == 2
    about = subprocess.run(
        [
            *("openssl", "pkcs12", "-in", "fetched.pfx", "-passin", "file:key-password"),
            *("-info", "-noout"),
        ],
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    assert about.count("PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256") == 2
    assert "MAC: sha256, Iteration 2048" in about
    listed = subprocess.run(
        ["keytool", "-list", "-keystore", "fetched.pfx", "-storepass:file", "key-password"],
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "PrivateKeyEntry" in listed


def test_what_a_dry_run_would_do_is_not_done(local: Place, authority: Authority):
    name = given(local, "site.pem", authority.issue(WWW))
    dry = local.run("publish", name, "--dry-run")
    assert dry.returncode == 0
    assert said(dry, local).endswith(
        "\nWould be published into STORE (nothing was written):\n"
        "  www.contoso.example.pfx  good until DATE, new\n"
    )
    assert local.files() == {}
    assert local.run("publish", name).returncode == 0
    before = local.files()
    dry = local.run("remove", WWW, "--dry-run")
    assert said(dry, local) == (
        "Would be removed from STORE (nothing was written):\n"
        "  www.contoso.example.pfx  removed; it held one good until DATE\n"
    )
    assert local.run("publish", name, "--dry-run", "--force").returncode == 0
    assert local.files() == before


def test_json_says_all_of_it(local: Place, authority: Authority):
    issued = authority.issue(WWW, WILDCARD)
    published = local.run("publish", given(local, "site.pem", issued), "--json")
    outcome = msgspec.json.decode(published.stdout, type=Outcome, strict=True)
    assert (published.returncode, outcome.done, outcome.refusals) == (0, True, ())
    assert [(file.key, file.pattern, file.action) for file in outcome.files] == [
        ("www.contoso.example.pfx", WWW, "made"),
        ("_.contoso.example.pfx", WILDCARD, "made"),
    ]
    after = outcome.files[0].after
    assert after is not None
    assert after.not_after == issued.certificate.not_valid_after_utc.timestamp()
    removed = local.run("remove", WWW, "--yes", "--json")
    outcome = msgspec.json.decode(removed.stdout, type=Outcome, strict=True)
    assert outcome.wildcards == {WWW: "_.contoso.example.pfx"}
    again = local.run("remove", WWW, "--yes", "--json")
    outcome = msgspec.json.decode(again.stdout, type=Outcome, strict=True)
    assert (again.returncode, again.stderr, outcome.done) == (1, "", False)
    (sentence,) = outcome.refusals
    assert sentence == (
        f"{local.url} holds no file for www.contoso.example; _.contoso.example.pfx answers it,"
        " and other names."
    )


def test_pem_files_as_certbot_leaves_them(local: Place, authority: Authority):
    issued = authority.issue(WWW)
    pem = issued.pem()
    end = pem.index(b"-----BEGIN PRIVATE KEY")
    chain_at = pem.index(b"-----BEGIN CERT", 1)
    parts = {"cert": pem[:chain_at], "chain": pem[chain_at:end], "fullchain": pem[:end]}
    for name, part in {**parts, "privkey": pem[end:]}.items():
        (local.home / f"{name}.pem").write_bytes(part)
    for files in (["fullchain", "privkey"], ["privkey", "chain", "cert"], [*parts, "privkey"]):
        result = local.run("publish", *(f"{name}.pem" for name in files), "--force")
        assert (result.returncode, result.stderr) == (0, "")
        key = "www.contoso.example.pfx"
        data = (local.folder / key).read_bytes()
        credential = decode(data, key=key, passwords=[KEY_PASSWORD.encode()])
        assert credential.certificate == issued.certificate
        assert credential.issuers == issued.chain


def test_several_certificates_at_once_and_chosen_names(local: Place, authority: Authority):
    one, other = authority.issue(WWW, "a.example"), authority.issue("*.b.example")
    files = given(local, "one.pem", one), given(local, "other.pem", other)
    result = local.run("publish", *files, "--name", WWW, "--name", "x.b.example")
    assert (result.returncode, result.stderr) == (0, "")
    assert local.files().keys() == {f"{WWW}.pfx", "x.b.example.pfx"}
    assert local.serial("x.b.example.pfx") == other.certificate.serial_number


def test_an_international_name_is_written_in_every_spelling_that_answers(
    local: Place, authority: Authority
):
    """IIS reads the Unicode spelling; Centcert looks at the other one first, if it is there."""
    (local.folder / "xn--bcher-kva.example.pem").write_bytes(authority.issue(IDN).pem())
    new = authority.issue(IDN)
    assert local.run("publish", given(local, "site.pem", new)).returncode == 0
    for key in ("xn--bcher-kva.example.pfx", "bücher.example.pfx"):
        assert local.serial(key) == new.certificate.serial_number


def test_a_store_without_key_password_is_warned_of(
    tmp_path: Path, home: Path, authority: Authority
):
    place = Place(("--store", str(tmp_path / "store")), tmp_path / "store", home)
    place.folder.mkdir()
    result = place.run("publish", given(place, "site.pem", authority.issue(WWW)))
    assert result.returncode == 0
    assert (
        "\nWarning: the private keys are not encrypted, as the store has no key password:\n"
        "whoever reads a file has its key. Name a password by --key-password-file.\n"
    ) in result.stdout
    decode((place.folder / f"{WWW}.pfx").read_bytes(), key="x", passwords=())


def test_another_key_password_is_reason_to_write_again(local: Place, authority: Authority):
    """And a first one for a file that had none; the version before stays what it was."""
    old, new = authority.issue(WWW), authority.issue(WWW)
    given(local, "old.pem", old)
    given(local, "new.pem", new)
    bare = ("--store", local.url)
    assert run("publish", "old.pem", *bare, home=local.home).returncode == 0
    assert run("publish", "new.pem", *bare, home=local.home).returncode == 0
    secret_file(local.home / "newer", "newer")
    rotated = ("--store", local.url, "--key-password-file", "newer", *local.options[2:])
    for options, password in ((local.options, KEY_PASSWORD.encode()), (rotated, b"newer")):
        result = run("publish", "new.pem", *options, home=local.home)
        assert said(result, local).endswith(
            "Published into STORE:\n"
            "  www.contoso.example.pfx  good until DATE, written again\n"
            "\n"
            "Nodes that watch the store take this up at once, others within their `refresh`.\n"
        )
        data = (local.folder / f"{WWW}.pfx").read_bytes()
        assert decode(data, key="x", passwords=[password]).certificate == new.certificate
        with pytest.raises(WrongPassword):
            decode(data, key="x", passwords=())
        assert run("publish", "new.pem", *options, home=local.home).stdout.endswith(
            "holds all of it already; nothing was written.\n"
        )
    previous = (local.folder / f"{WWW}.pfx.previous").read_bytes()
    assert decode(previous, key="x", passwords=()).certificate == old.certificate


def test_a_file_that_answers_nothing_is_replaced_whatever_it_holds(
    local: Place, authority: Authority
):
    """Of another name and newer, or damaged."""
    for content in (authority.issue("other.example").pfx(), b"damaged"):
        (local.folder / f"{WWW}.pfx").write_bytes(content)
        start = datetime.now(UTC) - timedelta(days=1)
        issued = authority.issue(WWW, not_before=start)
        result = local.run("publish", given(local, "site.pem", issued))
        assert (result.returncode, result.stderr) == (0, "")
        assert local.serial(f"{WWW}.pfx") == issued.certificate.serial_number
        assert (local.folder / f"{WWW}.pfx.previous").read_bytes() == content
    assert "replaces an unusable file\n" in result.stdout


# --- what is refused ------------------------------------------------------------------


def test_what_is_refused_changes_nothing(local: Place, authority: Authority):
    """Each kind of refusal: tests/unit/admin/test_intake.py and test_vetting.py."""
    assert local.run("publish", given(local, "first.pem", authority.issue(WWW))).returncode == 0
    before = local.files()
    now = datetime.now(UTC)
    expired = authority.issue(WWW, not_before=now - timedelta(9), not_after=now - timedelta(2))
    names = given(local, "good.pem", authority.issue(WWW)), given(local, "bad.pem", expired)
    result = local.run("publish", *names)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.sub(r"\d{4}-\d\d-\d\d", "DATE", result.stderr) == (
        "centcert: good.pem and bad.pem both are for www.contoso.example: publish the one that"
        " shall answer it.\n"
        "centcert: bad.pem: its certificate expired on DATE: have it renewed, or say --force.\n"
        "centcert: bad.pem: www.contoso.example.pfx in the store was issued later, DATE, than this"
        " one, DATE: publish the newer one, or say --force.\n"
        f"Nothing was changed in {local.url}.\n"
    )
    (local.home / "cut.pfx").write_bytes(expired.pfx()[:-9])
    result = local.run("publish", "cut.pfx")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "centcert: cut.pfx: it is not a whole PKCS #12 file: if no writer is at work, export it"
        " again.\n"
    )
    assert local.files() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("publish",), "Error: Missing argument 'FILES...'."),
        (("publish", "none.pem"), "centcert: none.pem cannot be read: No such file or directory."),
        (("publish", "x", "--name", "1.2.3.4"), "centcert: '1.2.3.4' looks like an IP address: "),
        (("publish", "x", "--username", "a"), "Error: There is no terminal to type it at: passwor"),
        (("remove", WWW), "Error: Say --yes: there is no terminal to ask at."),
        (("remove", "_", "--yes"), "centcert: '_' is not a host name"),
        (("rollback", "a..b"), "centcert: 'a..b' is not a host name"),
        (("export", "*.a..b"), "centcert: 'a..b' is not a host name"),
        (("export", WWW, "--pem", "--output", "x.key"), "Error: --output names the certificates' "),
    ],
)
def test_wrong_usage_is_one_sentence(local: Place, arguments: tuple[str, ...], sentence: str):
    result = local.run(*arguments)
    last = result.stderr.splitlines()[-1]
    assert (result.returncode, result.stdout) == (2, "")
    assert last.startswith(sentence)
    assert last.endswith(".")


def test_what_yields_to_force_and_what_does_not(local: Place, authority: Authority):
    now = datetime.now(UTC)
    new = authority.issue(WWW)
    assert local.run("publish", given(local, "new.pem", new)).returncode == 0
    old = authority.issue(WWW, not_before=now - timedelta(40))
    expired = authority.issue(WWW, not_before=now - timedelta(40), not_after=now - timedelta(1))
    result = local.run("publish", given(local, "old.pem", old))
    assert re.fullmatch(
        r"centcert: old\.pem: www\.contoso\.example\.pfx in the store was issued later, DATE, than"
        r" this one, DATE: publish the newer one, or say --force\.\nNothing was changed in \S+\.\n",
        re.sub(r"\d{4}-\d\d-\d\d", "DATE", result.stderr),
    )
    for name, issued in (("old.pem", old), ("expired.pem", expired)):
        assert local.run("publish", given(local, name, issued), "--force").returncode == 0
        assert local.serial(f"{WWW}.pfx") == issued.certificate.serial_number
    assert local.run("publish", "new.pem").returncode == 0
    back = local.run("rollback", WWW)
    assert back.returncode == 1
    assert back.stderr.startswith(
        "centcert: The previous version of www.contoso.example.pfx expired on "
    )
    assert local.run("rollback", WWW, "--force").returncode == 0


def test_nothing_to_go_back_to_or_to_remove(local: Place):
    nothing = f"Nothing was changed in {local.url}.\n"
    for command, sentence in {
        ("rollback", WWW): (
            f"centcert: {local.url} keeps no previous version of www.contoso.example: nothing that"
            f" Centcert published was replaced or removed under that name.\n{nothing}"
        ),
        ("remove", WWW, "--yes"): (
            f"centcert: {local.url} holds no file for www.contoso.example.\n{nothing}"
        ),
        ("export", WWW): "centcert: The store holds no certificate for www.contoso.example.\n",
    }.items():
        result = local.run(*command)
        assert (result.returncode, result.stdout, result.stderr) == (1, "", sentence)
    assert local.files() == {}


# --- stores that do not let it happen -----------------------------------------------------


def test_a_share_that_may_only_be_read(shared: Place, authority: Authority):
    assert shared.samba is not None
    url = shared.url.replace(shared.samba.publish_share, shared.samba.share)
    name = given(shared, "site.pem", authority.issue(WWW))
    result = run("publish", name, "--store", url, *shared.options[2:], home=shared.home)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"centcert: The account {shared.samba.username} may not write {LOCK} into the share certs"
        f" on 127.0.0.1:{shared.samba.port}: name one that may by --username.\n"
    )
    assert shared.files() == {}


def test_an_account_that_is_refused(shared: Place, authority: Authority):
    secret_file(shared.home / "wrong", "not the password")
    name = given(shared, "site.pem", authority.issue(WWW))
    result = shared.run("publish", name, "--password-file", "wrong")
    assert (result.returncode, result.stdout) == (1, "")
    assert " refuses the account " in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_may_not_be_written(home: Path, authority: Authority):
    """Not by root either."""
    place = Place(("--store", "/sys/kernel"), Path("/sys/kernel"), home)
    result = place.run("publish", given(place, "site.pem", authority.issue(WWW)))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"centcert: centcert\.lock may not be written into /sys/kernel by this account \([\w -]+\):"
        r" run the command as one that may\.\n",
        result.stderr,
    )


def test_a_disk_that_is_full(local: Place, authority: Authority):
    assert local.run("publish", given(local, "old.pem", authority.issue(WWW))).returncode == 0
    before = local.files()
    name = given(local, "new.pem", authority.issue(WWW, "a.example"))
    full = ("prlimit", "--fsize=512")  # every file ends there
    result = run("publish", name, *local.options, home=local.home, prefix=full)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"centcert: \S+ has no room left for centcert-[0-9a-f]{16}\.staged: File too large; make"
        r" some\.\n",
        result.stderr,
    )
    assert local.files() == before


# --- others at the same time ---------------------------------------------------------------


def test_two_publishers_at_once(place: Place, authority: Authority):
    """Names of one certificate are not mixed with those of the other, and nothing is lost."""
    names = [f"{number}.contoso.example" for number in range(6)]
    issued = [authority.issue(*names) for _ in range(3)]
    for number, one in enumerate(issued):
        given(place, f"{number}.pem", one)
    publishers = [
        subprocess.Popen(
            [*CENTCERT, "publish", *place.options, f"{number}.pem", "--force"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place.home,
        )
        for number in range(len(issued))
    ]
    for publisher in publishers:
        _, errors = publisher.communicate(timeout=60)
        assert publisher.returncode == 0, errors
    (last,) = {place.serial(f"{name}.pfx") for name in names}
    (previous,) = {place.serial(f"{name}.pfx.previous") for name in names}
    assert {last, previous} < {one.certificate.serial_number for one in issued}
    assert last != previous
    assert len(place.files()) == 2 * len(names)


def test_killed_at_each_step(place: Place, authority: Authority):
    """Each file is whole, old or new, wherever the command is killed; the next one succeeds."""
    names = [WWW, "a.example"]
    one, other = authority.issue(*names), authority.issue(*names)
    assert place.run("publish", given(place, "one.pem", one)).returncode == 0
    given(place, "other.pem", other)
    serials = {one.certificate.serial_number, other.certificate.serial_number}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.killed", *place.options, "one.pem", "other.pem"],
        cwd=place.home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as publisher:
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        ends: list[str] = []
        while ends[-2:] != ["0", "0"]:
            publisher.stdin.write("go\n")
            publisher.stdin.flush()
            ends.append(publisher.stdout.readline().strip())
            held = {place.serial(f"{name}.pfx") for name in names}
            assert held <= serials
            for previous in place.folder.glob("*.previous"):
                assert place.serial(previous.name) in serials
    assert len(ends) > 10
    assert set(ends[:-2]) == {"-9"}
    assert len(held) == 1


# --- export ---------------------------------------------------------------------------------


def test_what_is_exported_is_what_was_published(place: Place, authority: Authority):
    issued = authority.issue(WILDCARD)
    assert place.run("publish", given(place, "site.pem", issued)).returncode == 0
    result = place.run("export", WWW, "--pem")
    assert result.returncode == 0
    assert said(result, place) == (
        "_.contoso.example.pfx, good until DATE, written to _.contoso.example.pem and"
        " _.contoso.example.key.\n"
        "The key in _.contoso.example.key is not encrypted.\n"
    )
    home = place.home
    certificates, key = home / "_.contoso.example.pem", home / "_.contoso.example.key"
    assert certificates.read_bytes() + key.read_bytes() == issued.pem()
    secret_file(home / "export-password", "given away")
    result = place.run(
        *("export", WILDCARD, "--output", "out.pfx", "--json"),
        *("--output-password-file", "export-password"),
    )
    exported = msgspec.json.decode(result.stdout, type=Exported, strict=True)
    assert (exported.key, exported.files) == ("_.contoso.example.pfx", ("out.pfx",))
    decoded = decode((home / "out.pfx").read_bytes(), key="x", passwords=[b"given away"])
    assert decoded.certificate == issued.certificate
    for file in (certificates, key, home / "out.pfx"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten_by_an_export(local: Place, authority: Authority):
    assert local.run("publish", given(local, "site.pem", authority.issue(WWW))).returncode == 0
    (local.home / f"{WWW}.key").write_bytes(b"mine")
    result = local.run("export", WWW, "--pem")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "centcert: www.contoso.example.key is there already and is not overwritten: name another"
        " file by --output.\n"
    )
    assert (local.home / f"{WWW}.key").read_bytes() == b"mine"
    assert not (local.home / f"{WWW}.pem").exists()


# --- beside a node --------------------------------------------------------------------------


def test_a_running_node_serves_what_is_published(place: Place, authority: Authority):
    """Told by nobody but the store, which it reads from a share where it may do nothing else."""
    url = place.url
    if place.samba is not None:
        url = url.replace(place.samba.publish_share, place.samba.share)
    options = [
        str(place.home / one) if one in {"password", "key-password"} else one
        for one in place.options[2:]
    ]
    with Served(
        *("--store", url, *options, "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9")
    ) as served:
        address = "localhost", served.address[1]

        def serves(issued: Issued) -> bool:
            try:
                pem = ssl.get_server_certificate(address, timeout=5)
            except (ssl.SSLError, ConnectionError):  # refused: there is none for the name
                return False
            return ssl.PEM_cert_to_DER_cert(pem) == issued.certificate.public_bytes(Encoding.DER)

        old, new = authority.issue("localhost"), authority.issue("localhost")
        for command, *arguments, issued in (
            ("publish", given(place, "old.pem", old), old),
            ("publish", given(place, "new.pem", new), new),
            ("rollback", "localhost", old),
        ):
            assert place.run(command, *arguments).returncode == 0
            end = time.monotonic() + 20
            while not serves(issued):
                assert time.monotonic() < end, "the node did not take it up"
                time.sleep(0.02)
