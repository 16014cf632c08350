"""What answers a name with a credential: the asyncio shell around cache, look-up and store."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

from centcert.audience import Audience
from centcert.background import Background
from centcert.errors import CentcertError, Overloaded, UnknownName
from centcert.names import ascii_keys, candidates
from centcert.provider.allowance import Allowance
from centcert.provider.answering import Answer, answer
from centcert.provider.cache import Cache, CacheLimits, Entry
from centcert.provider.clock import Clock, SystemClock
from centcert.provider.decoder import Decoder
from centcert.provider.events import (
    Asked,
    Event,
    Hit,
    Listener,
    Recalled,
    Refused,
)
from centcert.provider.expiry import Expiry, expiry_of
from centcert.provider.findings import Finding, Findings
from centcert.provider.flights import Flights
from centcert.provider.freshness import Freshness
from centcert.provider.health import StoreHealth
from centcert.provider.loader import Decodes, Loader
from centcert.provider.memory import Memory
from centcert.provider.prefetch import note_use, prefetch
from centcert.provider.renewals import REFRESHERS, Renewals
from centcert.provider.resolver import Resolver
from centcert.provider.review import Review
from centcert.provider.tally import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.lastgood import LastGood
    from centcert.provider.policy import Policy
    from centcert.stores.base import Store

MAX_LOOK_UPS: Final = 1024
"""Look-ups under way at once. Beyond it a handshake is refused at once: at the 2 to 5 ms
that an RSA file takes to decode, the last of so many waits as long as its client does."""

BUSY_LOOK_UPS: Final = 64
"""Look-ups under way beyond which one more would take longer than who has a copy is kept waiting:
names with a copy are answered by it then, and are looked up on a later visit. So a storm after a
restart leaves the look-ups to the names that have no copy."""

UNLISTED_PER_S: Final = 100
UNLISTED_RESERVE: Final = 1_000
"""Look-ups of names that no listing holds, while the store cannot be watched: what strangers make
up must not become its load. With a watch they cost the store nothing at all."""


class Provider:
    """Answers names with credentials from a store, from memory where it can.

    Use it as an async context manager, around everything that asks it; the store stays
    the caller's to close. All methods belong to the event loop it was entered in.

    Args:
        store: where the blobs live.
        passwords: returns the key passwords to try, in order; called for each decoding,
            so that they can be rotated. May raise ``SettingsError``.
        refresh_s: within so many seconds a replaced file takes effect even if the store
            notifies nobody. IIS polls every 300 s.
        limits: what may be remembered, and for how long.
        last_good: where copies of what was served are kept on this node, entered and left
            with the provider. ``None``: nowhere.
        decoder: where blobs are decoded; by default a child process of its own.
        clock: where times come from.
        listener: is told each step; see ``centcert.provider.events``. An ``Audience`` is told
            of names in memory while somebody follows.
    """

    def __init__(
        self,
        store: Store,
        *,
        passwords: Callable[[], Sequence[bytes]] = tuple,
        refresh_s: float = 300.0,
        limits: CacheLimits | None = None,
        last_good: LastGood | None = None,
        decoder: Decodes | None = None,
        clock: Clock | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._refresh_s = refresh_s
        self._decoder = decoder
        self._clock = clock or SystemClock()
        self._audience = Audience.of(listener)
        self._counters = self._audience.counters
        self.health = StoreHealth()
        self._limits = limits or CacheLimits()
        self._cache = Cache(self._limits)
        self._last_good = last_good
        self._findings = Findings(store.url)
        self._unlisted = Allowance(UNLISTED_PER_S, UNLISTED_RESERVE)
        self._changed: Callable[[HostName], None] = lambda _: None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            decoder = self._decoder
            if decoder is None:
                decoder = await stack.enter_async_context(Decoder(max_waiting=2 * MAX_LOOK_UPS))
            if self._last_good is not None:
                await stack.enter_async_context(self._last_good)
            tasks = await stack.enter_async_context(Background())
            self._loader = Loader(self._store, decoder, self._passwords, self.tell)
            self._look_ups: Flights[HostName, Credential] = Flights(tasks)
            self._memory = Memory(
                self._cache,
                self._loader.index,
                self._last_good,
                changed=self._tell_changed,
                renew=self._renew,
            )
            self._resolver = Resolver(
                self._loader,
                self._memory,
                self._findings,
                self._clock,
                self.tell,
                refresh_s=self._refresh_s,
                absent_s=self._limits.absent_s,
            )
            self._look_up = self._resolver.look_up
            self._renewals = Renewals(
                self._cache, self._look_ups, self._look_up, changed=self._tell_changed
            )
            self._review = Review(self._findings, self._loader, self._cache, self._clock)
            freshness = Freshness(
                self._store,
                self._loader,
                self._cache,
                self._renewals,
                self._review,
                refresh_s=self._refresh_s,
                confirm=self._resolver.confirm,
                listener=self.tell,
            )
            tasks.create_task(freshness.watch())
            tasks.create_task(freshness.renew_changed())
            tasks.create_task(freshness.poll())
            if self._last_good is not None:
                now = self._clock.wall()
                tasks.create_task(note_use(self._last_good, self._cache))
                load = self._renewals.look_up
                tasks.create_task(prefetch(self._last_good, self._cache, now, load))
            for _ in range(REFRESHERS):
                tasks.create_task(self._renewals.run())
            tasks.create_task(self._review.run())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def known(self, name: HostName, *, copies: bool = True) -> Credential | None:
        """Return the credential of ``name`` if it is in memory, without waiting.

        A stale one is returned too, and refreshed behind. ``None`` says nothing about
        the store: ask ``credential``. ``copies``: whether it may be a last-good copy that
        ``copy`` has recalled, for this caller or for another.
        """
        entry = self._cache.touch(name) or self._memory.touch_shared(name)
        if entry is None or (entry.is_copy and not copies):
            return None
        stale = entry.fresh_until <= self._clock.monotonic()
        if stale:
            self._renew(self._memory.place_of(name))
        self._counters.hits += 1
        if (steps := self._audience.steps) is not None:
            steps(Asked(name))
            steps(Hit(name, entry.key, stale))
        return entry.credential

    async def credential(self, name: HostName) -> Credential:
        """Return the credential of ``name``, from memory or from the store.

        It covers the name, and is no last-good copy. However many callers wait for one
        name, it is looked up once; a cancelled caller leaves the others alone.

        Raises:
            UnknownName: the store holds no file for the name.
            BadBlob: it holds only files that cannot be used.
            StoreError: the store gave no answer.
            Overloaded: too many look-ups are under way.
            SettingsError: a password file cannot be read.
        """
        known = self.known(name, copies=False)
        if known is not None:
            return known
        if (steps := self._audience.steps) is not None:
            steps(Asked(name))
        source = "memory"
        try:
            if name not in self._look_ups:
                self._check_worth_asking(name)
            source = "store"
            credential = await self._look_ups.join(name, self._look_up)
        except CentcertError as error:
            self._counters.looked_up(source, error)
            raise
        self._counters.looked_up(source)
        self._memory.touch(name)
        return credential

    async def answer(self, name: HostName, policy: Policy, default: HostName | None) -> Answer:
        """Return what a handshake for ``name`` gets under ``policy``.

        Raises:
            CentcertError: a refusal; its ``alert`` says why in the protocol's words.
        """
        return await answer(self, name, policy, default)

    def has_copy(self, name: HostName) -> bool:
        """Say whether this node has a last-good copy for ``name``, without I/O.

        The wildcard's, which has answered for other names, counts: in memory or kept.
        """
        return self._memory.has_copy(name)

    async def copy(self, name: HostName) -> Credential | None:
        """Return the last-good copy for ``name``, and answer with it until the store does.

        It is what this node served for the name before, or for others that share its
        wildcard; the store is asked behind.
        """
        recalled = await self._memory.recall(name)
        if recalled is None:
            return None
        place, found = recalled
        credential = found.credential
        if isinstance(found, Entry):
            return credential
        self._resolver.remember_copy(place, credential)
        self._counters.looked_up("last-good")
        self.tell(Recalled(name, credential.key))
        return credential

    async def reload(self, name: HostName) -> Credential:
        """Look ``name`` up anew now, remembered or not, and return what it gets.

        If that fails for a remembered name, it keeps what it has; ``findings`` says why.

        Raises:
            CentcertError: as ``credential``, for a name that is not remembered.
        """
        self._cache.forget_absent(name)
        for candidate in candidates(name):  # notifications come late, and reads may be old
            self._loader.index.add(candidate.key)
            self._loader.detach(candidate.key)
        if name in self._look_ups:  # it may have begun before the change
            with suppress(CentcertError):
                await self._look_ups.join(name, self._look_up)
        if name.wildcard is not None:
            self._renewals.note(name.wildcard)  # others share it
        try:
            return await self._look_ups.join(name, self._look_up)
        except CentcertError:
            entry = self._memory.peek(name)  # a copy, of which others are not told
            if entry is None:
                raise
            return entry.credential

    def reload_all(self) -> int:
        """Begin to look up every remembered name anew; return how many they are."""
        self._cache.forget_absences()
        names = self._renewals.names()
        for name in names:
            self._renewals.note(name)
        return len(names)

    @property
    def usage(self) -> tuple[int, int]:
        """How many names are remembered, and the estimated bytes that takes."""
        return len(self._cache), self._cache.used_bytes

    def follow(self, changed: Callable[[HostName], None]) -> None:
        """Call ``changed`` whenever ``held`` may answer otherwise for a name than before.

        With a ``HostName.wildcard`` for all names that may share what that gets.
        A copy of what the store once held is no such change: whoever holds something
        else for the name has it from the store, too.
        """
        self._changed = changed

    def _tell_changed(self, name: HostName) -> None:
        self._changed(name)

    def _renew(self, name: HostName) -> None:
        self._renewals.note(name)

    def note_used(self, names: Iterable[HostName]) -> None:
        """Note that ``names`` were answered elsewhere, by what was held for them here."""
        now = self._clock.monotonic()
        for name in names:
            entry = self._memory.touch(name)
            if entry is not None and entry.fresh_until <= now:
                self._renew(self._memory.place_of(name))

    @property
    def max_bytes(self) -> int:
        """What the memory of remembered names may come to."""
        return int(self._limits.max_bytes)  # not the kind that settings are made of

    async def expiry(self) -> Expiry:
        """Return when the certificates expire that names in memory are answered with."""
        return await expiry_of(self._cache.credentials(), self._clock.wall())

    def source(self, name: HostName) -> str | None:
        """Return the key of the file that answers ``name`` from memory, if one does."""
        entry = self._memory.peek(name)
        return None if entry is None else entry.key

    def held(self, name: HostName) -> Credential | None:
        """Return what the store gave for ``name``, if it is in memory; no use of it."""
        entry = self._memory.peek(name)
        return None if entry is None or entry.is_copy else entry.credential

    @property
    def store_url(self) -> str:
        """Where the certificates come from."""
        return self._store.url

    @property
    def is_busy(self) -> bool:
        """Whether so many look-ups are under way that a copy should answer where there is one."""
        return len(self._look_ups) >= BUSY_LOOK_UPS

    def wall(self) -> float:
        """Return the seconds since the epoch, by the provider's clock."""
        return self._clock.wall()

    def findings(self) -> tuple[Finding, ...]:
        """Return what is wrong now, by code and subject."""
        return self._findings.now()

    # --- one look-up -----------------------------------------------------------

    def _check_worth_asking(self, name: HostName) -> None:
        """Refuse a look-up whose answer is known, or that would be one too many."""
        # Not its candidates: a stranger can make up names that take milliseconds to spell.
        listed = any(self._loader.index.may_hold_spelling(key) for key in ascii_keys(name))
        now = self._clock.monotonic()
        certainly_not = self._loader.index.fresh and not listed and not self.has_copy(name)
        if certainly_not or self._cache.is_absent(name, now):
            raise self._refused(name, UnknownName(name))
        if len(self._look_ups) >= MAX_LOOK_UPS:
            sentence = f"{MAX_LOOK_UPS} look-ups are under way: {name} was refused."
            raise self._refused(name, Overloaded(sentence))
        if not listed and not self._unlisted.take(now):
            sentence = (
                f"{name} is in no listing of the store, and more than {UNLISTED_PER_S} such names"
                " were asked for within a second: it was refused."
            )
            raise self._refused(name, Overloaded(sentence))

    # --- telling ---------------------------------------------------------------

    def _refused(self, name: HostName, error: CentcertError) -> CentcertError:
        self.tell(Refused(name, error))
        return error

    def tell(self, event: Event) -> None:
        """Note what a part of the node, the store for one, has to tell; tell the listener."""
        now = self._clock.wall()
        self._findings.note(event, now)
        self.health.note(event, now)
        tally(event, self._counters)
        self._audience(event)
