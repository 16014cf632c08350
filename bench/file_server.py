"""A real Samba before the same certificates, and how many requests it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import processes
from centcert import smb3
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

    def replace(self, name: str, data: bytes) -> float:
        """Publish a file as administrators do, over SMB: write it, then rename it.

        Returns:
            When the rename was begun, by ``time.monotonic``.
        """
        return asyncio.run(self._replace(name, data))

    async def _replace(self, name: str, data: bytes) -> float:
        login = smb3.PasswordLogin(self.samba.username, self.samba.password)
        share = self.samba.publish_share
        async with await smb3.connect(
            self.samba.host, share, login, port=self.samba.port
        ) as connection:
            await connection.write_new("new", data)
            began = time.monotonic()
            await connection.rename("new", name, replace=True)
            return began

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
        for path in (folder, *folder.iterdir()):  # the account publishes there
            shutil.chown(path, samba.username)
        password_file = root / "password"
        password_file.write_text(samba.password)
        password_file.chmod(0o600)
        yield FileServer(samba, password_file)
    finally:
        samba.stop()
