"""``centcert list`` with its store on a share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from centcert.cli.inventory import Inventory
from tests.commands import centcert

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba
    from centcert.testing import Authority

    Lists = Callable[..., subprocess.CompletedProcess[str]]

FILES = 60


@pytest.fixture
def lists(samba: PrivateSamba, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lists:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(samba.password)
    url = f"smb://{samba.host}:{samba.port}/{samba.share}"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        where = ("--store", url, "--username", samba.username, "--password-file", password)
        return centcert("list", *where, *options)

    return run


def test_a_share_is_listed(lists: Lists, samba: PrivateSamba, authority: Authority):
    data = authority.issue("*.contoso.example").pfx()
    for number in range(FILES):
        (samba.folder / f"{number}.contoso.example.pfx").write_bytes(data)
    (samba.folder / "BAD.contoso.example.pfx").write_bytes(b"bad")
    (samba.folder / "shut.contoso.example.pfx").touch(mode=0o000)
    said = lists("--json")
    inventory = msgspec.json.decode(said.stdout, type=Inventory, strict=True)
    found = {entry.key: entry for entry in inventory.entries}
    assert (said.returncode, said.stderr) == (1, "")
    assert sum(entry.state == "good" for entry in inventory.entries) == FILES
    assert found["BAD.contoso.example.pfx"].code == "blob-damaged"
    assert [one.code for one in found["BAD.contoso.example.pfx"].warnings] == ["misnamed"]
    shut = found["shut.contoso.example.pfx"]
    assert (shut.state, shut.code) == ("unreadable", "store-denied")
    (samba.folder / "BAD.contoso.example.pfx").unlink()
    (samba.folder / "shut.contoso.example.pfx").unlink()
    said = lists("--filter", "17.contoso", "--group", "issuer")
    issuer = authority.intermediate.subject.rfc4514_string().removeprefix("CN=")
    until = day_of(inventory)
    assert (said.returncode, said.stdout) == (
        0,
        f"""\
FILE                    NAME                ISSUED TO          {"ISSUED BY":35}  KEY    EXPIRES     STATE

{issuer} (1)
17.contoso.example.pfx  17.contoso.example  *.contoso.example  {issuer:35}  P-256  {until}  good

1 of {FILES} files: 1 good.
""",  # noqa: E501
    )
    samba.stop()
    said = lists()
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("centcert: ")
    samba.start()


def day_of(inventory: Inventory) -> str:
    (until,) = {one.certificate.not_after for one in inventory.entries if one.certificate}
    return datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
