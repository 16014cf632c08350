"""Files that are looked at as soon as a change of them is told, so that one read is enough.

Bytes that are read within a tick of the file system's clock after a change may change once
more without the file's times showing it: a file that was read so soon is read again. One that
was seen with the same times a while before it is read need not be. So what a watch tells of is
looked at while its reader still waits for the writer to be done. It only opens the file; the
bytes come once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from centcert.stores.smb.errands import Errands

T = TypeVar("T")

MAX_EXPECTED: Final = 20_000
"""Files that were read and are looked at when they change, the last ones: some 5 MB."""

MAX_LOOKS: Final = 64
"""Looks under way at once. A change of more files than that has some read twice, as before."""

MAX_SIGHTINGS: Final = 1_024
"""Sightings that nobody has taken yet, the last ones."""


class Sightings(Generic[T]):
    """What was seen of files when their changes were told; ``T`` is a state of a file.

    Args:
        errands: looks are among them.
        settled_s: how long a state must have been there before what is read of it is all of it.
    """

    def __init__(self, errands: Errands, settled_s: float) -> None:
        self._errands = errands
        self._settled_s = settled_s
        self._expected: OrderedDict[str, None] = OrderedDict()
        self._looks: OrderedDict[str, asyncio.Task[tuple[T, float] | None]] = OrderedDict()
        self._under_way = 0

    def expect(self, path: str) -> None:
        """Look at ``path`` when it changes: somebody has read it."""
        self._expected[path] = None
        self._expected.move_to_end(path)
        if len(self._expected) > MAX_EXPECTED:
            self._expected.popitem(last=False)

    def changed(self, path: str, look: Callable[[], Coroutine[object, object, T | None]]) -> None:
        """Take that ``path`` has changed; ``look`` returns its state, or ``None``: not known.

        Writers are told of several times; once in ``settled_s`` is enough.
        """
        if path not in self._expected or self._under_way >= MAX_LOOKS or self._is_seen(path):
            return
        self._under_way += 1
        self._looks[path] = self._errands.start(self._look(look))
        self._looks.move_to_end(path)
        if len(self._looks) > MAX_SIGHTINGS:
            self._looks.popitem(last=False)

    async def take(self, path: str) -> T | None:
        """Return the state that ``path`` was seen in, once it was so for ``settled_s``.

        What is read from now on and has this state still is settled. ``None``: it was not seen.
        """
        look = self._looks.pop(path, None)
        if look is None:
            return None
        await asyncio.wait([look])
        if look.cancelled() or (seen := look.result()) is None:
            return None
        state, at = seen
        left_s = at + self._settled_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        return state

    def _is_seen(self, path: str) -> bool:
        look = self._looks.get(path)
        if look is None or not look.done():
            return look is not None
        seen = None if look.cancelled() else look.result()
        now = asyncio.get_running_loop().time()
        return seen is not None and now - seen[1] < self._settled_s

    async def _look(
        self, look: Callable[[], Coroutine[object, object, T | None]]
    ) -> tuple[T, float] | None:
        try:
            state = await look()
        finally:
            self._under_way -= 1
        return None if state is None else (state, asyncio.get_running_loop().time())
