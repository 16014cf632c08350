"""Tasks that live as long as a block."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class _Left(Exception):
    """No error: how a TaskGroup is told to end its tasks."""


class Background(asyncio.TaskGroup):
    """A TaskGroup whose tasks are cancelled when the block is left, not waited for."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is asyncio.CancelledError:  # perhaps by a task that failed: the group knows
            return await super().__aexit__(kind, error, trace)
        try:
            await super().__aexit__(_Left, _Left(), None)
        except* _Left:
            pass
        return None
