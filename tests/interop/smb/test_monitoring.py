"""What a node whose store is a share tells of it: the steps of SMB, and how the share does."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from typing import TYPE_CHECKING

import msgspec

from centcert.control import NodeStatus, Status, ask
from centcert.tracing import Traced, TracedHandshake
from tests.interop.smb.scene import PATIENCE_S, serving, until
from tests.served import CENTCERT

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.testing import Authority
    from tests.interop.smb.conftest import Start

NAME = "www.contoso.example"
ENVIRONMENT = {**os.environ, "CENTCERT_CONFIG": "", "COLUMNS": "80"}


def status(control: Path) -> NodeStatus:
    return asyncio.run(ask(control, Status(), NodeStatus))


def test_a_first_visit_shows_the_steps_of_smb(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    (samba.folder / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    control = tmp_path / "control.sock"
    with serving(samba, tmp_path, "--control", str(control)) as front_end:
        command = [*CENTCERT, "trace", "--json", "--count", "1", "--control", str(control)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as tracing:
            try:
                assert tracing.stderr is not None
                assert tracing.stderr.readline().startswith("Following handshakes")
                assert "Verify return code: 0 (ok)" in front_end.visit(NAME)
                output, _ = tracing.communicate(timeout=PATIENCE_S)
            finally:
                tracing.kill()
    told = [msgspec.json.decode(line, type=Traced) for line in output.splitlines()]
    (handshake,) = [one for one in told if isinstance(one, TracedHandshake)]
    steps = [f"{step.step}: {re.sub('[0-9]{3,}', 'N', step.text)}" for step in handshake.steps]
    expected = [
        f"smb: {NAME}.pfx in one frame each way",
        f"fetch: {NAME}.pfx: N bytes",
        f"decode: {NAME}.pfx",
        f"look-up: {NAME}.pfx answers",
    ]
    assert [step for step in steps if step in expected] == expected
    assert samba.password not in output


def test_how_a_share_does_when_it_goes_and_comes_back(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    (samba.folder / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    control = tmp_path / "control.sock"
    with serving(samba, tmp_path, "--control", str(control)) as front_end:
        front_end.visit(NAME)
        until(lambda: status(control).health.watched)
        health = status(control).health
        assert (health.state, health.files) == ("reachable", 1)
        samba.stop()
        until(lambda: status(control).health.state == "unreachable")
        away = status(control).health
        assert not away.watched
        assert away.since is not None
        assert health.since is not None
        assert away.since > health.since
        assert away.listed_at is not None
        assert away.listed_at < away.since, "it tells of the last listing that there was"
        assert "Verify return code: 0 (ok)" in front_end.visit(NAME), "from memory"
        samba.start()
        until(lambda: status(control).health.watched)
        assert status(control).health.state == "reachable"


def test_an_account_that_is_refused_is_told(
    start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    (samba.folder / f"{NAME}.pfx").write_bytes(authority.issue(NAME).pfx())
    right = samba.password
    samba.change_password("another one")
    samba.password = right
    control = tmp_path / "control.sock"
    with serving(samba, tmp_path, "--control", str(control)) as front_end:
        front_end.visit(NAME)
        until(lambda: status(control).health.state == "denied")
        assert not status(control).health.watched
