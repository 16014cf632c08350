"""``centcert explain`` with its store on a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from centcert.cli.explain import Explained
from tests.commands import centcert

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba
    from centcert.testing import Authority

NAME = "www.contoso.example"


def test_a_share_is_asked(samba: PrivateSamba, authority: Authority, tmp_path: Path):
    (samba.folder / "_.contoso.example.pfx").write_bytes(authority.issue("*.contoso.example").pfx())
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(samba.password)
    url = f"smb://{samba.host}:{samba.port}/{samba.share}"
    where = ("--store", url, "--username", samba.username, "--password-file", password)
    said = centcert("explain", NAME, *where, "--control", tmp_path / "none", "--json")
    explained = msgspec.json.decode(said.stdout, type=Explained)
    assert (said.returncode, explained.look_up.key) == (0, "_.contoso.example.pfx")
    assert samba.password not in said.stdout
    samba.stop()
    said = centcert("explain", NAME, *where, "--control", tmp_path / "none")
    assert said.returncode == 1
    assert "  2  www.contoso.example.pem: not asked for: the store gave no answer.\n" in said.stdout
    samba.start()
