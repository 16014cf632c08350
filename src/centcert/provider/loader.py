"""A key becomes a credential: fetch, decode in another process, try again if half written."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from centcert.errors import BadBlob, BlobDamaged, BlobTooLarge, CentcertError
from centcert.provider.events import Decoded, Fetched, FetchFailed, Listener
from centcert.provider.flights import Flights
from centcert.provider.index import Index
from centcert.provider.lookup import Loaded, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from centcert.credential import Credential
    from centcert.stores.base import Blob, Store

HALF_WRITTEN_RETRIES_S: Final = (0.05, 0.15, 0.4)
"""A writer that overwrites in place leaves a damaged file for a moment: a quarter of the reads
that meet one (measured). After 0.6 s the file is taken for what it is."""

MAX_REJECTIONS: Final = 1024
"""Verdicts on bad files that are remembered, so that each visit does not decode them again."""


class Decodes(Protocol):
    """What a loader needs of a decoder."""

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        """Return the credential in ``blob``, or raise ``BadBlob`` or ``Overloaded``."""


class Loader:
    """Loads keys; one load for each key at a time, and no decoding twice.

    A credential stays known by its key and version for as long as somebody holds it;
    the verdict on a bad file for as long as its version and the passwords stay. A key
    that ``index`` certainly does not hold is absent without asking the store.
    """

    def __init__(
        self,
        store: Store,
        decoder: Decodes,
        passwords: Callable[[], Sequence[bytes]],
        listener: Listener,
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._passwords = passwords
        self.index = Index()
        self._listener = listener
        self._flights: Flights[str, Loaded | Rejected | None] = Flights()
        self._decoded: WeakValueDictionary[tuple[str, str], Credential] = WeakValueDictionary()
        self._rejections: OrderedDict[tuple[str, str, int], BadBlob] = OrderedDict()

    async def load(self, key: str) -> Loaded | Rejected | None:
        """Return what the store holds under ``key`` now; ``None``: nothing.

        Raises:
            StoreError: the store gave no answer.
            Overloaded: the decoder's queue is full.
            SettingsError: a password file cannot be read.
        """
        if self.index.fresh and not self.index.may_hold(key):
            return None
        return await self.load_unlisted(key)

    async def load_unlisted(self, key: str) -> Loaded | Rejected | None:
        """As ``load``, but ask the store whatever the index says.

        A listing can miss a file that is being replaced, and leaves out one that is denied.
        """
        return await self._flights.lead(key, self._load)  # look-ups are tasks that none cancels

    def detach(self, key: str) -> None:
        """Let no later ``load`` join one under way: the file has changed since it began."""
        self._flights.detach(key)

    async def _load(self, key: str) -> Loaded | Rejected | None:
        passwords = self._passwords()
        for pause_s in HALF_WRITTEN_RETRIES_S:
            loaded = await self._load_once(key, passwords)
            if not isinstance(loaded, Rejected) or self._is_settled(loaded, passwords):
                return loaded
            await asyncio.sleep(pause_s)
        loaded = await self._load_once(key, passwords)
        if isinstance(loaded, Rejected):
            self._remember(loaded, passwords)
        return loaded

    async def _load_once(self, key: str, passwords: Sequence[bytes]) -> Loaded | Rejected | None:
        try:
            blob = await self._fetch(key)
        except BlobTooLarge as error:
            return Rejected(key, "", error)
        if blob is None:
            return None
        credential = self._decoded.get((key, blob.version))
        if credential is not None:
            return Loaded(key, blob.version, credential)
        verdict = self._rejections.get(_verdict(key, blob.version, passwords))
        if verdict is not None:
            return Rejected(key, blob.version, verdict)
        began = perf_counter()
        try:
            credential = await self._decoder.decode(blob, passwords)
        except BadBlob as error:
            return Rejected(key, blob.version, error)
        self._listener(Decoded(key, perf_counter() - began))
        self._decoded[key, blob.version] = credential
        return Loaded(key, blob.version, credential)

    async def _fetch(self, key: str) -> Blob | None:
        began = perf_counter()
        try:
            blob = await self._store.fetch(key)
        except CentcertError as error:
            self._listener(FetchFailed(key, perf_counter() - began, error))
            raise
        self._listener(
            Fetched(key, perf_counter() - began, None if blob is None else len(blob.data))
        )
        return blob

    def _is_settled(self, rejected: Rejected, passwords: Sequence[bytes]) -> bool:
        """Say whether trying again is vain; only a damaged file may be a half-written one."""
        if not isinstance(rejected.error, BlobDamaged):
            self._remember(rejected, passwords)
        return _verdict(rejected.key, rejected.version, passwords) in self._rejections

    def _remember(self, rejected: Rejected, passwords: Sequence[bytes]) -> None:
        verdict = _verdict(rejected.key, rejected.version, passwords)
        self._rejections[verdict] = rejected.error
        self._rejections.move_to_end(verdict)
        if len(self._rejections) > MAX_REJECTIONS:
            self._rejections.popitem(last=False)


def _verdict(key: str, version: str, passwords: Sequence[bytes]) -> tuple[str, str, int]:
    """Name a verdict: another version or other passwords may lead to another one.

    Python salts the hash of bytes for each process, so it tells nothing of a password.
    """
    return key, version, hash(tuple(passwords))
