"""A store that its administrator has disabled: nothing is asked of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

from centcert.errors import StoreDisabled
from centcert.stores.base import Change, Store
from centcert.stores.events import Weakness

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from centcert.stores.base import Blob, StoredFile
    from centcert.stores.events import Listener


class DisabledStore(Store):
    """Stands for the store at ``url`` and refuses every call with ``StoreDisabled``.

    To a provider it is a store that gives no answer, so the policy for that decides.
    Its listener is told once that this is so.
    """

    def __init__(self, url: str, *, listener: Listener | None = None) -> None:
        self.url = url
        self._listener = listener

    async def fetch(self, key: str) -> Blob | None:
        """Refuse."""
        del key
        self._refuse()

    async def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """Refuse."""
        self._refuse()
        yield ()  # type: ignore[unreachable]  # which makes it a generator

    async def watch(self) -> AsyncGenerator[Change, None]:
        """Tell nothing, and never end: what comes next comes by other settings."""
        if self._listener is not None:
            sentence = str(StoreDisabled(self.url))
            self._listener(Weakness("store-disabled", self.url, time.time(), sentence))
        await asyncio.get_running_loop().create_future()
        yield Change(None)

    def _refuse(self) -> NoReturn:
        raise StoreDisabled(self.url)
