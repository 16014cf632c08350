"""``centcert serve --app``: what is said when it cannot start, and reloading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.interop.python_servers.conftest import NAMES, running
from tests.interop.python_servers.test_recipes import curl

if TYPE_CHECKING:
    from pathlib import Path

APP = """
async def {name}(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print("{name}", message["type"], flush=True)
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"{name}"}})
"""

FAILS = """
async def fails(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""

SETTINGS = """
[store]
url = "{store}"
state_folder = "{folder}/state"
[[listen]]
address = "127.0.0.1:{port}"
app = "apps:{app}"
"""


@pytest.mark.parametrize(
    ("app", "code", "sentence"),
    [
        ("apps", 2, "'apps' is no application: write module:attribute."),
        ("nowhere:app", 2, 'nowhere:app cannot be run: Could not import module "nowhere".'),
        ("apps:nothing", 2, 'apps:nothing cannot be run: Attribute "nothing" not found'),
        ("apps:fails", 2, "apps:fails did not start: its own log says why."),
    ],
)
def test_what_cannot_start_is_said(app: str, code: int, sentence: str, store: Path, tmp_path: Path):
    (tmp_path / "apps.py").write_text(FAILS)
    command = ["-m", "centcert", "serve", "--store", str(store), "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, *command, "--no-last-good", "--app", app],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_another_application_takes_over_at_a_reload(
    store: Path, root: Path, tmp_path: Path, port: int
):
    (tmp_path / "apps.py").write_text(APP.format(name="first") + APP.format(name="second"))
    settings = tmp_path / "centcert.toml"

    def write(app: str) -> None:
        settings.write_text(SETTINGS.format(store=store, folder=tmp_path, port=port, app=app))

    write("first")
    command = ("-m", "centcert", "serve", "--config", str(settings))
    with running(*command, port=port, folder=tmp_path) as program:
        assert curl(program, root, NAMES[0]) == "first 2"
        write("nothing")  # a mistake changes nothing
        os.kill(program.process.pid, signal.SIGHUP)
        assert program.process.stderr is not None
        while "stay as they are" not in program.process.stderr.readline():
            pass
        assert curl(program, root, NAMES[0]) == "first 2"
        write("second")
        os.kill(program.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 20
        while curl(program, root, NAMES[0]) != "second 2":
            assert time.monotonic() < deadline
        assert program.end() == 0
