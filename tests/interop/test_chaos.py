"""Every fault of ``./dev chaos`` once, in random order: no client may notice."""

from __future__ import annotations

import secrets

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import run


@pytest.mark.timeout(300)  # every fault has its own, shorter bound
async def test_no_client_notices_what_breaks_around_a_node():
    report = await run(secrets.randbits(32), minutes=0, hold_s=0.2)
    print(report)  # noqa: T201  shown if it fails
    assert report.faults_found == []
    assert report.injected.total() == len(FAULTS)
    assert report.tally.refused.keys() == {"TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_INTERNAL_ERROR"}
