"""Sees to it that what is in memory is what the store holds.

Notifications say at once which key changed; a listing in every refresh interval
confirms all that is remembered in one go and finds what notifications lost. Both
only say which names to look up anew: this module never touches a credential.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from centcert.errors import StoreError, StoreUnwatchable
from centcert.names import HostName, pattern_of
from centcert.provider.bursts import Bursts
from centcert.provider.events import Listed, Listener, WatchFailed, Watching
from centcert.provider.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.provider.cache import Cache
    from centcert.provider.loader import Loader
    from centcert.provider.renewals import Renewals
    from centcert.provider.review import Review
    from centcert.stores.base import Store

TOGETHER_S: Final = 0.025
"""How long changes are gathered at least: one of a wildcard costs a search of memory."""

REWATCH_S: Final = (1.0, 30.0)
"""The first and the longest pause before watching anew."""

SLICE: Final = 500
"""Entries compared with a listing before the event loop gets its turn: about a millisecond."""

PATTERNS: Final = 100
"""Likewise keys that are taken for new: to find a key's name takes ten times as long."""


class Freshness:
    """Follows a store and tells which names have to be looked up anew.

    ``confirm(name)`` is called for each remembered name that a listing bears out; those
    that may have changed go to the renewals, and each file that has to the review.
    """

    def __init__(
        self,
        store: Store,
        loader: Loader,
        cache: Cache,
        renewals: Renewals,
        review: Review,
        *,
        refresh_s: float,
        confirm: Callable[[HostName], None],
        listener: Listener,
    ) -> None:
        self._store = store
        self._loader = loader
        self._cache = cache
        self._refresh_s = refresh_s
        self._renewals = renewals
        self._review = review
        self._confirm = confirm
        self._listener = listener
        self._bursts = Bursts()
        self._watch: object | None = None  # stands for the watch that tells all now
        self._watch_failed = False
        self._told: str | None = None  # why changes are not seen
        self._noted = asyncio.Event()
        self._look_now = asyncio.Event()

    async def watch(self) -> None:
        """Follow the store's notifications until cancelled."""
        pause_s, longest_s = REWATCH_S
        while True:
            try:
                async with aclosing(self._store.watch()) as changes:
                    async for change in changes:
                        pause_s = REWATCH_S[0]
                        self._note(change.key)
            except StoreError as error:
                if isinstance(error, StoreUnwatchable) and not self._watch_failed:
                    self._look_now.set()  # no watch will ask for the first listing
                self._watch_failed = True
                self._tell_failed(error)
            finally:
                self._distrust()
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  jitter is no secret
            pause_s = min(2 * pause_s, longest_s)

    async def poll(self) -> None:
        """Compare memory with the store's listing in every refresh interval until cancelled.

        What fails is tried again soon: the watch may have outlived what the listing did
        not, and nothing else would ask for another one.
        """
        failures = 0
        while True:
            wait_s = self._refresh_s
            if failures:
                first_s, longest_s = REWATCH_S
                wait_s = min(wait_s, first_s * 2 ** min(failures - 1, 32), longest_s)
            # Nodes that were started together must not list together for ever.
            wait_s *= random.uniform(0.9, 1.0)  # noqa: S311
            try:
                async with asyncio.timeout(wait_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            try:
                await self._compare()
            except StoreError as error:
                failures += 1
                self._loader.index.fresh = False
                self._tell_failed(error)
            else:
                if failures and not self._watch_failed:
                    self._tell_watching()
                failures = 0

    async def _compare(self) -> None:
        index = self._loader.index
        watch, added = self._watch, index.added()
        listing, appeared = Listing(), list[str]()
        async with aclosing(self._store.scan()) as batches:
            async for batch in batches:
                appeared += index.unknown(batch)
                await listing.add(batch)
        await listing.settle()
        index.replace(listing, settled=added)
        # Only if one and the same watch has told all that came since the listing began.
        index.fresh = watch is not None and watch is self._watch
        self._listener(Listed(listing))
        self._review.note_all()
        for number, key in enumerate(appeared, 1):
            self._renew_own(pattern_of(key))
            if number % PATTERNS == 0:
                await asyncio.sleep(0)
        for number, (name, entry) in enumerate(self._cache.entries(), 1):
            if entry.is_borne_out(listing):
                self._confirm(name)
            else:
                for key, version in entry.examined:
                    if not listing.bears_out(key, version):
                        self._loader.detach(key)  # loads under way may be older than that
                self._renewals.note(name)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def renew_changed(self) -> None:
        """Act on notifications, some at a time, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._bursts:
                self._noted.clear()
                await self._noted.wait()
            await asyncio.sleep(max(self._bursts.next_due() - loop.time(), TOGETHER_S))
            patterns: set[str] = set()
            for key in self._bursts.take(loop.time()):
                self._loader.detach(key)
                self._review.note(key)
                pattern = pattern_of(key)
                if pattern is not None:
                    patterns.add(pattern)
            await self._renew_matching(patterns)

    async def _renew_matching(self, patterns: set[str]) -> None:
        parents = {pattern[2:] for pattern in patterns if pattern.startswith("*.")}
        for pattern in patterns:
            self._renew_own(pattern)
        if not parents:
            return
        for number, name in enumerate(self._renewals.names(), 1):
            if name.parent in parents:
                self._renewals.note(name)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    def _renew_own(self, pattern: str | None) -> None:
        if pattern is not None and not pattern.startswith("*."):
            self._renewals.note_own(HostName(pattern))

    def _tell_failed(self, error: StoreError) -> None:
        """Tell why changes are not seen, once until the reason is another one."""
        if str(error) != self._told:
            self._told = str(error)
            self._listener(WatchFailed(error))

    def _tell_watching(self) -> None:
        self._told = None
        self._listener(Watching())

    def _distrust(self) -> None:
        self._watch = None
        self._loader.index.fresh = False

    def _note(self, key: str | None) -> None:
        if key is None:  # a watch begins, or begins anew after it has lost changes
            self._distrust()
            self._watch = object()
            self._watch_failed = False
            self._tell_watching()
            self._cache.forget_absences()
            self._look_now.set()
        else:
            self._loader.index.add(key)
            self._bursts.note(key, asyncio.get_running_loop().time())
            self._noted.set()
