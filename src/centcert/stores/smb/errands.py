"""Tasks that belong to a store and end with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Errands:
    """What a store does beside its callers: connecting, keeping alive, looking around.

    Not a ``TaskGroup``: a store is opened by one task, used by others and closed by
    whichever is left, and an errand that fails must not end the others.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.ended = asyncio.Event()
        """Set as soon as the store is being closed."""

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin ``work``, which handles its own errors. After the end it is cancelled at once."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.ended.is_set():
            task.cancel()
        return task

    async def end(self) -> None:
        """Cancel all errands and wait until they have ended."""
        self.ended.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
