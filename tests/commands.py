"""``centcert`` commands as processes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.served import CENTCERT

if TYPE_CHECKING:
    from pathlib import Path


def centcert(*arguments: str | Path, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without any settings file; ``typed`` is its standard input."""
    return subprocess.run(
        [*CENTCERT, *arguments],
        capture_output=True,
        text=True,
        input=typed,
        timeout=40,
        check=False,
        env={**os.environ, "CENTCERT_CONFIG": "", "COLUMNS": "200"},
    )
