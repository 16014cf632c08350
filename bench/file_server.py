"""A real Samba before the same certificates, and how many requests it was sent."""

from __future__ import annotations

import contextlib
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import processes
from centcert.demo.samba import PrivateSamba

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNT = re.compile(r"^smb2_(create|read|find|getinfo|notify)_count:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileServer:
    """A Samba that runs.

    Attributes:
        samba: it.
        password_file: for ``centcert serve``.
    """

    samba: PrivateSamba
    password_file: Path

    @property
    def url(self) -> str:
        """The store."""
        return f"smb://{self.samba.host}:{self.samba.port}/{self.samba.share}"

    @property
    def options(self) -> tuple[str, ...]:
        """For ``centcert serve``."""
        return ("--username", self.samba.username, "--password-file", str(self.password_file))

    def requests(self) -> dict[str, int]:
        """Return how many requests of each kind it has answered, by its own count.

        A fetch is a create and a read ([MS-SMB2] 2.2.13, 2.2.19), a listing a create and
        many finds (2.2.33), a look for one file a create.
        """
        ran = subprocess.run(  # noqa: S603
            ["smbstatus", "-P", "-s", self.samba.root / "smb.conf"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
        return {kind: int(count) for kind, count in _COUNT.findall(ran.stdout)}


@contextlib.contextmanager
def file_server(root: Path, folder: Path, core: int) -> Iterator[FileServer]:
    """Serve ``folder`` while the block runs; ``root`` is an empty folder."""
    options = {"smbd profiling level": "count"}
    with processes.pinned(core):
        samba = PrivateSamba(root, folder=folder, global_options=options)
        samba.start()
    try:
        password_file = root / "password"
        password_file.write_text(samba.password)
        password_file.chmod(0o600)
        yield FileServer(samba, password_file)
    finally:
        samba.stop()
