"""A real Samba for the stores that are on one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert.demo.samba import PrivateSamba

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def samba() -> Iterator[PrivateSamba]:
    # A short path of its own: pytest's is too long for smbd, and shut to its account.
    root = Path(tempfile.mkdtemp(prefix="smb"))
    try:
        with PrivateSamba(root) as samba:
            yield samba
    finally:
        shutil.rmtree(root)
