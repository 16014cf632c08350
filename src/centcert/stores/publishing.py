"""The contract of writing into a store: beside ``Store``, which nodes read and which cannot write.

An administrator's command opens a publisher for itself, often with an account of its own. It
knows nothing of names or credentials either; what makes several files change together is
``admin.transaction``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from centcert.stores.base import is_bare

if TYPE_CHECKING:
    from types import TracebackType


class Publisher(ABC):
    """A flat folder of blobs, to write into.

    A reader sees a file whole or not at all, if what is made is moved into place.

    Keys are bare file names (``is_bare``; anything else is a ``ValueError``) and compare as
    the store does. Who may read what is made is the folder's affair: a file gets the
    permissions that the folder gives to new ones, not those of the file it replaces.

    Concurrency: one call at a time. Cancellation, and an error that is retryable: the call
    may have taken effect or not. Nothing blocks the event loop. Every wait is bounded.

    Errors of every method: as of ``Store``; ``StoreBusy`` also if there is no room left.
    """

    url: str
    """Where the store is, for people; never holds a secret."""

    @abstractmethod
    async def make(self, key: str, data: bytes) -> bool:
        """Make a file, on the store's disk when this returns; whether it was made.

        If there is one behind ``key``, it is left alone, and of several that make the same
        key at once one does. What could not be written whole is deleted again, if the store
        lets that happen.
        """

    @abstractmethod
    async def move(self, key: str, new_key: str) -> None:
        """Give a file another key; what was behind that is replaced, in one step.

        A file that is not there is a ``StoreUnavailable``.
        """

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Delete a file; whether there was one."""

    async def close(self) -> None:  # noqa: B027  a folder's has nothing to close
        """Release connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def check_bare(*keys: str) -> None:
    """Raise ``ValueError`` unless every key is a bare file name."""
    for key in keys:
        if not is_bare(key):
            raise ValueError(f"{key!r} is no bare file name.")
