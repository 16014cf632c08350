"""Looks remembered names up anew, behind: a few at a time, each once however often it is noted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from centcert.errors import CentcertError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.cache import Cache
    from centcert.provider.flights import Flights

REFRESHERS: Final = 8
"""Refreshes under way at once: they must never crowd out the look-ups of first visits."""


class Renewals:
    """The names that have to be looked up anew.

    Args:
        cache: the names that are worth it are in there.
        look_ups: or are being looked up, perhaps since before the change.
        look_up: looks one up and remembers what comes of it.
        changed: is told of names whose own file may have changed, remembered or not.
    """

    def __init__(
        self,
        cache: Cache,
        look_ups: Flights[HostName, Credential],
        look_up: Callable[[HostName], Awaitable[Credential]],
        *,
        changed: Callable[[HostName], None],
    ) -> None:
        self._cache = cache
        self._look_ups = look_ups
        self._look_up = look_up
        self._changed = changed
        self._due: dict[HostName, None] = {}  # oldest first
        self._noted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def names(self) -> tuple[HostName, ...]:
        """Return a snapshot of every name that may hold something out of date."""
        remembered = (name for name, _ in self._cache.entries())
        return (*self._cache.absences(), *remembered, *self._look_ups.keys())

    def note(self, name: HostName) -> None:
        """Have ``name`` looked up soon, if anything is remembered of it."""
        self._cache.forget_absent(name)
        if name in self._due or (name not in self._look_ups and self._cache.peek(name) is None):
            return
        self._due[name] = None
        self._noted.set()

    def note_own(self, name: HostName) -> None:
        """Likewise; and who holds what ``name`` shared with others must ask again."""
        self.note(name)
        self._changed(name)

    async def run(self) -> None:
        """Look names up until cancelled; ``REFRESHERS`` of these run side by side."""
        while True:
            while not self._due:
                self._noted.clear()
                await self._noted.wait()
            name = next(iter(self._due))
            del self._due[name]
            if name in self._look_ups:  # it may have begun before the change
                await self.look_up(name)
            self._cache.forget_absent(name)  # so may what it found
            if self._cache.peek(name) is not None or name in self._look_ups:
                await self.look_up(name)

    async def look_up(self, name: HostName) -> CentcertError | None:
        """Look a name up for nobody; return why that failed.

        What fails was told, and no fault may end the node.
        """
        try:
            await self._look_ups.join(name, self._look_up)
        except CentcertError as error:
            return error
        except Exception as error:  # noqa: BLE001  the top of the task
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"A look-up of {name} has failed", "exception": error}
            )
        return None
