"""Looks again at the files in which something was found: they may be mended, and nobody asks.

A look-up finds what is wrong with a file because somebody wants a name; what is right again
must not wait for that. This reads the file alone, and touches no name that is remembered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from centcert.errors import CentcertError
from centcert.names import HostName, pattern_of
from centcert.provider.lookup import Loaded, Rejected, wrong_name

if TYPE_CHECKING:
    from centcert.provider.cache import Cache
    from centcert.provider.clock import Clock
    from centcert.provider.findings import Findings
    from centcert.provider.loader import Loader


class Review:
    """Keeps findings of files true, one file at a time: there are ``MAX_FINDINGS`` at most.

    Args:
        findings: where it is noted which files there are.
        loader: reads them.
        cache: holds the credentials that are in use.
        clock: tells the dates.
    """

    def __init__(self, findings: Findings, loader: Loader, cache: Cache, clock: Clock) -> None:
        self._findings = findings
        self._loader = loader
        self._cache = cache
        self._clock = clock
        self._due: dict[str, None] = {}
        self._noted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def note(self, key: str) -> None:
        """Have the file ``key``, which has changed, looked at soon if anything was found in it."""
        if self._findings.are_of(key):
            self._due[key] = None
            self._noted.set()

    def note_all(self) -> None:
        """Likewise every file: another password, or other rights, are no change of it."""
        for key in self._findings.files():
            self.note(key)

    async def run(self) -> None:
        """Look at files until cancelled."""
        while True:
            while not self._due:
                self._noted.clear()
                await self._noted.wait()
            key = next(iter(self._due))
            del self._due[key]
            try:
                self._judge(key, await self._loader.load_unlisted(key))
            except CentcertError:
                pass  # what was found stands; the next listing leads here again
            except Exception as error:  # noqa: BLE001  the top of the task
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"A look at {key} has failed", "exception": error}
                )

    def _judge(self, key: str, loaded: Loaded | Rejected | None) -> None:
        if loaded is None:
            self._findings.forget(key)
            return
        pattern = pattern_of(key)
        if isinstance(loaded, Loaded) and pattern is not None:
            name = HostName(pattern)  # a wildcard's is the certificate's own spelling
            if loaded.credential.covers(name):
                self._findings.accept(key, in_use=self._cache.holds(loaded.credential))
                return
            loaded = Rejected(key, loaded.version, wrong_name(loaded, name))
        if isinstance(loaded, Rejected):
            self._findings.reject(key, loaded.error, self._clock.wall())
