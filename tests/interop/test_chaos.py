"""Every fault of ``./dev chaos`` once: no client may notice.

In one order, as what may land is no matter of luck; ``./dev chaos`` has others each time.
"""

from __future__ import annotations

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import run

SEED = 20_261_124


@pytest.mark.timeout(900)  # every fault has its own, shorter bound
async def test_no_client_notices_what_breaks_around_a_node():
    report = await run(SEED, minutes=0, hold_s=0.2)
    print(report)  # noqa: T201  shown if it fails
    assert report.faults_found == []
    assert report.injected.total() == len(FAULTS)
    assert report.tally.refused.keys() == {"TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_INTERNAL_ERROR"}
