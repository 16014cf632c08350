"""What Python's garbage collector may leave alone in a process that serves."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 10_000
"""New containers before the young are looked through. Connections that end leave no cycles, so
there is little to find; at the default of 700 the search costs a twentieth of a handshake."""


def settle() -> None:
    """Pass over, from now on, what has been made so far, and search less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
