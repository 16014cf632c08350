"""``centcert doctor`` with its store on a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from centcert.admin.checkup import Check
from tests.commands import centcert

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba
    from centcert.testing import Authority
    from tests.interop.smb.conftest import Start

KEY = "www.contoso.example.pfx"


def checks(samba: PrivateSamba, tmp_path: Path, *, servers: str = "") -> list[Check]:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(samba.password)
    said = centcert(
        *("doctor", "--json", "--control", tmp_path / "none"),
        *("--store", f"smb://{samba.host}:{samba.port}{servers}/{samba.share}"),
        *("--username", samba.username, "--password-file", password),
    )
    assert said.stderr == ""
    assert samba.password not in said.stdout
    found = msgspec.json.decode(said.stdout, type=list[Check])
    assert said.returncode == (1 if any(check.state == "wrong" for check in found) else 0)
    return found


def test_a_sound_share_is_told_in_full(start_samba: Start, authority: Authority, tmp_path: Path):
    samba = start_samba()
    (samba.folder / KEY).write_bytes(authority.issue("www.contoso.example").pfx())
    told = [(check.what, check.state, check.sentence) for check in checks(samba, tmp_path)]
    assert told[1:] == [
        ("secret", "good", "It can be read, and by nobody else."),
        ("store", "good", "1 file, 1 of them by host names."),
        ("connection", "good", "SMB 3.1.1, sealed with AES-128-GCM."),
        ("clock", "good", "The server's clock and this one agree."),
        ("store", "good", f"{KEY} can be read."),
        ("case", "good", "Case matters in file names: only lower-case ones are found."),
        ("account", "good", "It may read and no more, and nobody else may."),
        ("changes", "good", "The store tells of changes as they happen."),
    ]


def test_what_is_weak_or_missing_is_told(start_samba: Start, tmp_path: Path):
    samba = start_samba(
        {"map to guest": "bad user", "server smb encrypt": "if_required", "server signing": "auto"},
        {"guest ok": "yes", "valid users": "", "read only": "no", "case sensitive": "no"},
    )
    (samba.folder / KEY).touch()
    samba.folder.chmod(0o777)
    found = checks(samba, tmp_path)
    (case,) = [check for check in found if check.what == "case"]
    assert case.sentence == "File names are found in any case, as on Windows."
    sentences = " ".join(check.sentence for check in found if check.what == "account")
    for words in ("can be opened without an account", "without encryption", "can change or delete"):
        assert words in sentences


def test_each_server_of_the_store_is_asked(start_samba: Start, tmp_path: Path):
    samba, dead = start_samba(), start_samba()
    dead.stop()
    found = checks(samba, tmp_path, servers=f",{dead.host}:{dead.port}")
    (wrong,) = [check for check in found if check.state == "wrong"]
    assert (wrong.what, str(dead.port) in wrong.subject) == ("store", True)


def test_a_refused_account_is_told(start_samba: Start, tmp_path: Path):
    samba = start_samba()
    right = samba.password
    samba.change_password("another one")
    samba.password = right
    (wrong,) = [check for check in checks(samba, tmp_path) if check.state == "wrong"]
    assert wrong.what == "store"
    assert samba.username in wrong.sentence
