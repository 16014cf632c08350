"""An account proven by Kerberos: a private MIT KDC, a keytab, no kinit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert import smb3
from centcert.smb3 import KeytabLogin
from tests.interop.smb.proxy import proxy_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from centcert.demo.samba import PrivateSamba
    from centcert.smb3 import Connection
    from tests.interop.smb.conftest import Start

REALM = "CENTCERT.TEST"
SERVER_NAME = "localhost"
PATIENCE_S = 20.0
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))

KRB5_CONF = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
"""
# disable_pac: a standalone Samba has no domain to check a PAC against, and refuses it.
KDC_CONF = """\
[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    disable_pac = true
  }}
"""


@dataclass(frozen=True)
class Realm:
    folder: Path
    environment: dict[str, str]

    def keytab(self, principal: str) -> Path:
        """Make a principal and a keytab with its keys."""
        path = self.folder / f"{principal.replace('/', '-')}.keytab"
        self.kadmin(f"addprinc -randkey {principal}")
        self.kadmin(f"ktadd -k {path} {principal}")
        return path

    def kadmin(self, query: str) -> None:
        self.run("kadmin.local", "-q", query)

    def run(self, *command: str) -> None:
        subprocess.run(
            command, env={**os.environ, **self.environment}, check=True, capture_output=True
        )


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    folder = Path(tempfile.mkdtemp(prefix="krb"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, template in (("krb5.conf", KRB5_CONF), ("kdc.conf", KDC_CONF)):
        (folder / name).write_text(template.format(realm=REALM, port=port, folder=folder))
    environment = {
        "PATH": PATH,
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
    }
    realm = Realm(folder, environment)
    realm.run("kdb5_util", "create", "-s", "-P", "master")
    kdc = subprocess.Popen(
        ["krb5kdc", "-n"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + PATIENCE_S
        while not accepts(port):
            assert kdc.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        yield realm
    finally:
        kdc.terminate()
        kdc.wait()
        shutil.rmtree(folder)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def keytabs(realm: Realm) -> tuple[Path, Path]:
    """The server's and the account's."""
    username = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    return realm.keytab(f"cifs/{SERVER_NAME}"), realm.keytab(username)


@pytest.fixture(params=["AES-128-GCM", "AES-256-GCM"])
def samba(
    request: pytest.FixtureRequest,
    start_samba: Start,
    realm: Realm,
    keytabs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> PrivateSamba:
    monkeypatch.setenv("KRB5_CONFIG", realm.environment["KRB5_CONFIG"])
    options = {
        "realm": REALM,
        "kerberos method": "dedicated keytab",
        "dedicated keytab file": str(keytabs[0]),
        "server smb3 encryption algorithms": request.param,
    }
    return start_samba(options, environment=realm.environment)


async def connect(samba: PrivateSamba, login: KeytabLogin, port: int | None = None) -> Connection:
    return await smb3.connect(
        samba.host,
        samba.share,
        login,
        port=port or samba.port,
        server_name=SERVER_NAME,
        timeout_s=PATIENCE_S,
    )


async def test_a_keytab_is_enough_and_its_session_is_sealed(
    samba: PrivateSamba, keytabs: tuple[Path, Path]
):
    (samba.folder / "www.pfx").write_bytes(b"content")
    login = KeytabLogin(f"{samba.username}@{REALM}", keytabs[1])

    async with (
        proxy_to(samba.port) as proxy,
        await connect(samba, login, proxy.port) as connection,
    ):
        file = await connection.fetch("www.pfx", max_bytes=100, timeout_s=PATIENCE_S)

    assert file is not None
    assert file.data == b"content"
    wire = b"".join(frame for _, frame in proxy.seen)
    assert b"NTLMSSP" not in wire
    assert "www.pfx".encode("utf-16-le") not in wire


async def test_a_keytab_proves_to_the_probe_as_well(
    samba: PrivateSamba, keytabs: tuple[Path, Path]
):
    exposure = await smb3.probe(
        samba.host,
        samba.share,
        KeytabLogin(f"{samba.username}@{REALM}", keytabs[1]),
        port=samba.port,
        server_name=SERVER_NAME,
        timeout_s=PATIENCE_S,
    )

    assert exposure == smb3.Exposure(anonymous=False, guest=False, unencrypted=False)


@pytest.mark.parametrize("samba", ["AES-128-GCM"], indirect=True)
async def test_a_login_that_gives_no_ticket_says_so_and_is_not_sent(
    samba: PrivateSamba, realm: Realm, keytabs: tuple[Path, Path]
):
    async with proxy_to(samba.port) as proxy:
        for login in (
            KeytabLogin(f"{samba.username}@{REALM}", realm.folder / "absent.keytab"),
            KeytabLogin(f"other@{REALM}", keytabs[1]),
            KeytabLogin(f"{samba.username}@OTHER.TEST", keytabs[1]),
        ):
            with pytest.raises(smb3.LoginUnusable, match="ticket"):
                await connect(samba, login, proxy.port)

    assert len([frame for from_server, frame in proxy.seen if not from_server]) == 3


@pytest.mark.parametrize("samba", ["AES-128-GCM"], indirect=True)
async def test_a_server_without_a_key_for_its_name_is_no_ticket(
    samba: PrivateSamba, keytabs: tuple[Path, Path]
):
    login = KeytabLogin(f"{samba.username}@{REALM}", keytabs[1])

    with pytest.raises(smb3.LoginUnusable):
        await smb3.connect(
            samba.host,
            samba.share,
            login,
            port=samba.port,
            server_name="other.example",
            timeout_s=PATIENCE_S,
        )


@pytest.mark.parametrize("samba", ["AES-128-GCM"], indirect=True)
async def test_a_silent_kdc_meets_the_deadline(
    samba: PrivateSamba,
    realm: Realm,
    keytabs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        conf = realm.folder / "silent.conf"
        conf.write_text(
            KRB5_CONF.format(realm=REALM, port=silent.getsockname()[1])
            + "[libdefaults]\n  udp_preference_limit = 1\n  kdc_timeout = 1s\n  max_retries = 1\n"
        )
        monkeypatch.setenv("KRB5_CONFIG", str(conf))
        began = asyncio.get_running_loop().time()
        with pytest.raises((smb3.DeadlineMissed, smb3.LoginUnusable)):
            await smb3.connect(
                samba.host,
                samba.share,
                KeytabLogin(f"{samba.username}@{REALM}", keytabs[1]),
                port=samba.port,
                server_name=SERVER_NAME,
                timeout_s=0.3,
            )
        assert asyncio.get_running_loop().time() - began >= 0.29
