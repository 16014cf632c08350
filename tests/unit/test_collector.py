"""What serves is passed over by the collector, and leaves nothing for it."""

from __future__ import annotations

import gc
import subprocess
import sys

_SETTLED = """
import gc
from centcert.collector import YOUNG, settle
cycle = []
cycle.append(cycle)
settle()
print(gc.get_freeze_count() > 1000, gc.get_threshold()[0] == YOUNG, len(gc.get_objects()) < 1000)
"""


def test_what_was_made_before_is_passed_over():
    said = subprocess.run(
        [sys.executable, "-c", _SETTLED], capture_output=True, text=True, check=True
    )
    assert said.stdout == "True True True\n"
    assert gc.get_freeze_count() == 0  # in this process nobody settles
