"""The shipped units under a real systemd: its user, its rights, its secrets, its turns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from centcert.testing import Authority
from tests.commands import centcert
from tests.private_systemd import ENVIRONMENT, PYTHON, UNITS, is_possible, run_under_systemd

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not is_possible(), reason="only root can have a systemd"),
    pytest.mark.timeout(240),  # 4 s as a rule
]

NAME = "www.contoso.example"
PASSWORD = b"hunter2"
LISTEN = """
[[listen]]
address = ":443"
to = "127.0.0.1:8080"
alpn = ["http/1.1"]
"""
ENABLE = f"""
echo {PASSWORD.decode()} | sh /opt/bin/centcert enable --store /etc/centcert/store \
  --key-password-file credential:centcert.key-password --key-password | grep ^found
"""
VISIT = f"""
openssl s_client -connect 127.0.0.1:443 -servername {NAME} -CAfile /etc/centcert/ca.pem \
  -alpn http/1.1 </dev/null 2>&1 | grep -E '^(ALPN|Verify return)'
"""


@pytest.fixture
def files() -> dict[str, str | bytes]:
    authority = Authority()
    service = centcert("unit").stdout
    environment = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    service = re.sub(r"^ExecStart=\S+", f"ExecStart={PYTHON}", service, flags=re.MULTILINE)
    service = service.replace("[Service]\n", f"[Service]\nEnvironment={environment}\n"
                                             "StandardError=append:/out/log\n")  # fmt: skip
    return {
        f"{UNITS}/centcert.service": service,
        f"{UNITS}/centcert.socket": centcert("unit", "--socket").stdout,
        "/etc/centcert/centcert.toml": LISTEN,
        "/etc/centcert/ca.pem": authority.root_pem,
        f"/etc/centcert/store/{NAME}.pfx": authority.issue(NAME).pfx(PASSWORD),
        "/opt/bin/centcert": f'#!/bin/sh\nexport {environment}\nexec {PYTHON} -m centcert "$@"\n',
    }


def test_the_service_has_its_own_user_one_right_and_its_secret(
    files: dict[str, str | bytes], tmp_path: Path
):
    said = run_under_systemd(tmp_path, files, f"""
        {ENABLE}
        stat -c %a /etc/credstore/centcert.key-password
        systemctl start centcert.service && echo started
        systemctl show centcert -p StatusText
        pid=$(systemctl show centcert -p MainPID --value)
        grep -E '^(Cap(Eff|Amb|Bnd)|NoNewPrivs|Seccomp):' /proc/$pid/status
        test $(stat -c %u /proc/$pid) -gt 60000 && echo own user
        {VISIT}
        sh /opt/bin/centcert status >/dev/null && echo well
        systemctl reload centcert && echo reloaded
        sh /opt/bin/centcert disable | tail -n 2
        sh /opt/bin/centcert status | grep -o store-disabled
        sed -i s/listen/lisden/ /etc/centcert/centcert.toml
        systemctl reload centcert; systemctl is-active centcert
        ls /var/lib/private/centcert
        systemctl stop centcert && systemctl show centcert -p Result
        """)  # fmt: skip
    log = (tmp_path / "out" / "log").read_text(encoding="utf-8")
    assert said.splitlines() == [
        "found         1 file, 1 named as certificates",
        "600",
        "started",
        "StatusText=Serving certificates from /etc/centcert/store on 0.0.0.0:443, [::]:443.",
        *(f"Cap{kind}:\t0000000000000400" for kind in ("Eff", "Bnd", "Amb")),
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "own user",
        "ALPN protocol: http/1.1",
        "Verify return code: 0 (ok)",
        "well",
        "reloaded",
        "node          no longer asks /etc/centcert/store from now on",
        "              if a credential has changed, restart it: systemd passed it the old",
        "store-disabled",
        "active",
        "last-good",
        "sealing-key",
        "Result=success",
    ], log
    assert "The settings stay as they are. " in log
    assert "Stopping; connections have 30 s to finish." in log


def test_systemd_opens_the_socket_and_starts_anew_what_hangs(
    files: dict[str, str | bytes], tmp_path: Path
):
    service = str(files[f"{UNITS}/centcert.service"])
    files[f"{UNITS}/centcert.service"] = service.replace("WatchdogSec=30", "WatchdogSec=4")
    said = run_under_systemd(tmp_path, files, f"""
        {ENABLE}
        systemctl start centcert.socket
        systemctl is-active centcert.service
        {VISIT}
        pid=$(systemctl show centcert -p MainPID --value)
        kill -STOP $pid
        for _ in $(seq 150); do
          new=$(systemctl show centcert -p MainPID --value)
          test $new != $pid && test $new != 0 && break
          sleep 0.1
        done
        {VISIT}
        systemctl show centcert -p NRestarts
        """)  # fmt: skip
    answered = ["ALPN protocol: http/1.1", "Verify return code: 0 (ok)"]
    assert said.splitlines()[1:] == ["inactive", *answered, *answered, "NRestarts=1"]
