"""What answers a name without the store: its own entry, the one it shares, or a last-good copy.

All names that have no file of their own share one entry and one copy, those of their wildcard
(``HostName.wildcard``): whatever strangers make up below it takes no room, asks the store for
nothing and pushes nobody out. Which names have a file of their own, the index knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from centcert.names import WILDCARD_MARK, ascii_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.provider.cache import Cache, Entry
    from centcert.provider.index import Index
    from centcert.provider.lastgood import Copy, LastGood
    from centcert.provider.lookup import Loaded

    Examined: TypeAlias = tuple[tuple[str, str | None], ...]  # as in ``LookUp``

_MARK = WILDCARD_MARK + "."


class Memory:
    """Finds and places what is remembered of names. All but ``recall`` without waiting.

    Args:
        cache: the entries.
        index: says whether a name may have a file of its own.
        last_good: the copies; ``None``: there are none.
        changed: is told which names may be answered otherwise than before.
        renew: has a name looked up anew, behind.
    """

    def __init__(
        self,
        cache: Cache,
        index: Index,
        last_good: LastGood | None,
        *,
        changed: Callable[[HostName], None],
        renew: Callable[[HostName], None],
    ) -> None:
        self._index = index
        self._cache = cache
        self._last_good = last_good
        self._changed = changed
        self.renew = renew

    def place_of(self, name: HostName) -> HostName:
        """Return under which name that is remembered which answers ``name``."""
        if self._cache.peek(name) is None and self._shared(name) is not None:
            return name.wildcard or name
        return name

    def peek(self, name: HostName) -> Entry | None:
        """Return the entry that answers ``name``, without marking it used."""
        return self._cache.peek(name) or self._shared(name)

    def own(self, name: HostName) -> Entry | None:
        """Return the entry of ``name`` itself, shared or not, without marking it used."""
        return self._cache.peek(name)

    def touch(self, name: HostName) -> Entry | None:
        """Return the entry that answers ``name``, and mark it used."""
        return self._cache.touch(name) or self.touch_shared(name)

    def touch_shared(self, name: HostName) -> Entry | None:
        """Return the entry that ``name``, which has none of its own, shares; mark it used."""
        entry = self._shared(name)
        if entry is not None and name.wildcard is not None:
            self._cache.touch(name.wildcard)
        return entry

    def has_copy(self, name: HostName) -> bool:
        """Say whether ``copy`` will have something for ``name``, as far as is known."""
        own = self._cache.peek(name)
        if own is not None and own.is_copy:
            return True
        if self._is_kept(name):
            return True
        wildcard = name.wildcard
        if wildcard is None or self._has_own(name):
            return False
        return self._cache.peek(wildcard) is not None or self._is_kept(wildcard)

    def has_copy_of_its_own(self, name: HostName) -> bool:
        """Say whether a file of its own has answered ``name`` before."""
        return self._is_kept(name)

    async def recall(self, name: HostName) -> tuple[HostName, Copy | Entry] | None:
        """Return what can answer ``name`` while the store does not, and its place.

        An entry is in memory there; a copy is not. A copy of its own is better than what it
        shares: its file may be in the store still. A name that had a file of its own when the
        store was listed shares nothing: it must not get the lesser certificate for want of
        an answer.
        """
        own = self._cache.peek(name)
        if own is not None:
            return name, own
        kept = await self._recall(name)
        if kept is not None:
            return name, kept
        wildcard = name.wildcard
        if wildcard is None or self._has_own(name):
            return None
        found = self._cache.peek(wildcard) or await self._recall(wildcard)
        return None if found is None else (wildcard, found)

    def put(self, name: HostName, entry: Entry) -> None:
        """Remember what answers ``name``: for itself, or for all that share it."""
        place = self.place(name, entry)
        if place == name:
            self._remember(name, entry)
            return
        held = self._cache.peek(place)
        if held is None or held.credential is entry.credential:
            entry.examined = _shared_part(entry.examined)
            entry.used = entry.used or (held is not None and held.used)
            self._remember(place, entry, changed=held is None)
        else:
            self.renew(place)  # which of the two is the newer, its own look-up tells
        if self._cache.forget(name):
            self._changed(name)

    def put_copy(self, name: HostName, entry: Entry) -> None:
        """Remember a last-good copy. That changes nothing for who holds something else."""
        self._remember(name, entry, changed=False)

    def keep(self, name: HostName, answer: Loaded, *, own_is_gone: bool) -> None:
        """Keep a copy of what answers ``name``, also if its own file is there and is bad.

        ``own_is_gone``: it is not there, so that ``name`` shares what answers others.
        """
        if self._last_good is None:
            return
        place = self._place_of_copy(name, answer.credential) if own_is_gone else name
        self._last_good.keep(place, answer.version, answer.credential)
        if place != name:
            self._last_good.forget(name)

    def withdraw(self, name: HostName, until: float) -> bool:
        """Remember until then that there is nothing for ``name``; say whether there was.

        Neither is there a file of its wildcard.
        """
        known = self._cache.peek(name) is not None or self.has_copy(name)
        self._cache.remember_absent(name, until)
        self._changed(name)
        if name.wildcard is not None:
            self.renew(name.wildcard)  # a copy of it may have been recalled meanwhile
        for gone in (name, name.wildcard):
            if self._last_good is not None and gone is not None:
                self._last_good.forget(gone)
        return known

    def place(self, name: HostName, entry: Entry) -> HostName:
        """Return under which name ``entry``, which answers ``name``, is to be remembered."""
        if not self._index.listed or self._may_have_own(name) or has_own_file(entry.examined):
            return name
        return self._place_of_copy(name, entry.credential)

    def _remember(self, place: HostName, entry: Entry, *, changed: bool = True) -> None:
        for forgotten in self._cache.remember(place, entry):
            self._changed(forgotten)
        if changed:
            self._changed(place)

    def _place_of_copy(self, name: HostName, credential: Credential) -> HostName:
        wildcard = name.wildcard
        if wildcard is None or not credential.key.startswith(_MARK):
            return name
        return wildcard if credential.covers(wildcard) else name

    def _shared(self, name: HostName) -> Entry | None:
        wildcard = name.wildcard
        entry = None if wildcard is None else self._cache.peek(wildcard)
        if entry is None or not (self._index.listed or entry.is_copy):
            return None
        # What the index does not hold is absent, or was when the store was listed last: it is
        # as good as any entry that is stale.
        if self._may_have_own(name) or self._is_kept(name):
            return None
        return entry

    def _may_have_own(self, name: HostName) -> bool:
        return any(self._index.may_hold_spelling(key) for key in _own_keys(name))

    def _has_own(self, name: HostName) -> bool:
        return any(self._index.was_listed_spelling(key) for key in _own_keys(name))

    def _is_kept(self, name: HostName) -> bool:
        return self._last_good is not None and self._last_good.has(name)

    async def _recall(self, name: HostName) -> Copy | None:
        return None if self._last_good is None else await self._last_good.recall(name)


def has_own_file(examined: Examined) -> bool:
    """Say whether a look-up has found that its name has a file of its own, good or bad."""
    return any(version is not None and not key.startswith(_MARK) for key, version in examined)


def _own_keys(name: HostName) -> Iterator[str]:
    return (key for key in ascii_keys(name) if not key.startswith(_MARK))


def _shared_part(examined: Examined) -> Examined:
    return tuple((key, version) for key, version in examined if key.startswith(_MARK))
