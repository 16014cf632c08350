"""Looks for bytes that break the SMB client, led by which code they reach.

``./dev fuzz`` runs it, with Atheris installed, which nothing else needs::

    python -m tests.fuzz FOLDER -max_total_time=60

FOLDER keeps what was found to reach new code; the options are libFuzzer's. It ends with
a traceback and a file ``crash-...`` if an undeclared error escapes, else with "Done".
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["centcert.smb3", "spnego._ntlm"]):
    from tests.fuzz import smb3


def main() -> None:
    """Fuzz until told to stop."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(smb3.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, smb3.exercise)
    atheris.Fuzz()


main()
