"""The contract of a store: where blobs live. It decides nothing about names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from centcert.credential import MAX_BLOB_BYTES
from centcert.errors import BlobTooLarge

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType

    from centcert.stores.events import Weakness


BATCH: Final = 500
"""Files that a store yields at once: less than a millisecond's work for who takes them in."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes behind a key, read whole.

    Attributes:
        key: the object's key, for example ``www.contoso.com.pfx``.
        data: at most ``MAX_BLOB_BYTES``; holds a private key, so never in a ``repr``.
        version: opaque; equal versions of one key mean equal bytes.
    """

    key: str
    data: bytes
    version: str

    def __repr__(self) -> str:
        return f"Blob(key={self.key!r}, version={self.version!r}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One line of a listing.

    Attributes:
        key: the object's key, in the store's own spelling; in lower case, as it is looked
            up, if the store takes no notice of case.
        version: as in ``Blob``: equal to the version that ``fetch`` would give now.
        size: bytes.
        modified: seconds since the epoch, the store's clock.
    """

    key: str
    version: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed in the store.

    Attributes:
        key: the object's key, or ``None``: look at everything again.
    """

    key: str | None


def is_bare(key: str) -> bool:
    """Say whether ``key`` is a bare file name: it can lead nowhere but into the folder.

    One or more characters that UTF-8 can hold, without slash or NUL, not ``.`` or ``..``.
    """
    if key in {"", ".", ".."} or "/" in key or "\0" in key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:  # half a surrogate pair, or an undecodable byte in disguise
        return False
    return True


def too_large(key: str, size: int) -> BlobTooLarge:
    """Return the error for a blob of ``size`` bytes, which exceed ``MAX_BLOB_BYTES``."""
    return BlobTooLarge(
        key,
        f"it has {size} bytes, more than {MAX_BLOB_BYTES // 1024} KiB: is it a certificate at all?",
    )


class Store(ABC):
    """A flat folder of blobs, read-only.

    Concurrency: every method may be called any number of times at once from one
    event loop. Cancellation: a cancelled call leaves the store usable. Nothing
    blocks the event loop. Every wait is bounded by the store itself.

    Errors of every method: ``StoreUnavailable`` (may be tried again), ``StoreBusy``,
    ``StoreDenied``, ``StoreAuthenticationFailed``, ``StoreInsecure``. No other error
    leaves a store.
    """

    url: str
    """Where the store is, for people; never holds a secret."""

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """What is less safe about the store than it should be, as far as it has looked."""
        return ()

    @abstractmethod
    async def fetch(self, key: str) -> Blob | None:
        """Return the blob behind ``key``, whole, or ``None`` if there is none.

        ``key`` is a bare file name (made by ``names.candidates``); keys compare as the
        store does. What ``is_bare`` refuses is absent, and so is a key too long for
        the store and one behind which there is no regular file. A symbolic link that
        leads out of the folder is denied.

        A blob is never a mixture of two versions: a store that cannot tell retries,
        then raises ``FileBusy``.

        Raises:
            BlobTooLarge: the blob exceeds ``MAX_BLOB_BYTES``.
            StoreError: the store gave no answer.
        """

    @abstractmethod
    def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """Yield every file of the folder that can be fetched, in no certain order.

        In batches of at most 500 (``base.BATCH``), at the caller's pace: who keeps none of them has
        no more in memory for a million files than for a thousand. What is made or removed
        meanwhile may be among them. What was yielded is no listing if an error follows.

        Sub-folders are not entered. Files that are not certificates are listed too:
        it is for the caller to know which keys it understands.
        """

    async def list(self) -> builtins.list[StoredFile]:
        """Return all files of ``scan`` at once: some 400 bytes of memory for each."""
        async with aclosing(self.scan()) as batches:
            return [file async for batch in batches for file in batch]

    @abstractmethod
    def watch(self) -> AsyncGenerator[Change, None]:
        """Yield changes, from the first iteration on, until closed.

        The first is ``Change(None)`` as soon as the store is being watched: who looks
        then misses nothing. It comes again whenever changes were lost. A change may be
        reported more than once, before the new blob can be fetched, and late. Raises as
        ``fetch`` does when the store goes away; the caller watches anew.

        Raises:
            StoreUnwatchable: the store would not tell of every change; the caller polls.
        """

    async def close(self) -> None:  # noqa: B027  a store with nothing to close need not say so
        """Release connections and threads. Calls under way end with ``StoreUnavailable``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
