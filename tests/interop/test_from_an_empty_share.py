"""The page "From an empty share to a served site", command by command, under a real systemd."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import pages
from tests.private_systemd import ENVIRONMENT, PYTHON, UNITS, is_possible, run_under_systemd

pytestmark = pytest.mark.skipif(not is_possible(), reason="only root can have a systemd")

PAGE = Path(__file__).parents[2] / "docs" / "from-an-empty-share.md"
PASSWORDS = {
    "centcert-reader": "of the reader",
    "centcert-admin": "of the administrator",
    "private keys": "of the keys",
}
CENTCERT = "/usr/local/bin/centcert"


@pytest.mark.timeout(360)
def test_a_new_user_gets_there_by_the_page_alone(tmp_path: Path):
    page = PAGE.read_text(encoding="utf-8")
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    if midnight - now < timedelta(seconds=100):  # its days are counted from one day
        time.sleep((midnight - now).total_seconds() + 1)
    today = datetime.now(UTC).date().isoformat()
    environment = "\n".join(f"export {name}={value}" for name, value in ENVIRONMENT.items())
    unit = "\n".join(f"Environment={name}={value}" for name, value in ENVIRONMENT.items())
    files = {
        f"{UNITS}/smbd.service": (UNITS / "smbd.service").read_text(encoding="utf-8"),
        "/etc/systemd/system/centcert.service.d/python.conf": f"[Service]\n{unit}\n",
        "/etc/hosts": "127.0.0.1 localhost files.contoso.example\n",
        CENTCERT: f'#!/bin/sh\n{environment}\nexec {PYTHON} -m centcert "$@"\n',
        "/root/page.md": page,
        "/root/pages.py": Path(pages.__file__).read_text(encoding="utf-8"),
    }
    said = run_under_systemd(tmp_path, files, f"""
        chmod 755 {CENTCERT}
        cd /root
        env LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/packages \
          {PYTHON} pages.py page.md '{json.dumps(PASSWORDS)}' /out/printed.json
        """, timeout_s=200)  # fmt: skip
    assert said == ""
    printed = json.loads((tmp_path / "out" / "printed.json").read_text(encoding="utf-8"))
    commands = list(pages.commands(page))
    for command, output in zip(commands, printed, strict=False):
        wanted = pages.masked(command.output, pages.first_day(page))
        assert pages.masked(output, today) == wanted, command.text or command.terminal
    assert len(printed) == len(commands)
