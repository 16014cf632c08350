"""Change several files of a store: all of them or none.

New content is written beside the old under keys that nobody asks for, and on the store's disk
before the first file changes; then each is moved into place in one step. What was there is kept
in memory until the last step is done, and put back if one fails. A command that is killed
leaves each file whole, old or new, and perhaps staged ones, which a later one clears away.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from centcert.admin.lease import is_staged, new_staged_key
from centcert.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from centcert.admin.lease import Lease
    from centcert.stores import Publisher, Store

LEFT_OVER_S: Final = 3_600.0
"""How old a staged file is when it is nobody's any more; none lives longer than minutes."""

_ATTEMPTS: Final = 4  # looks at one file that is to be put back; between them are the tries


@dataclass(frozen=True, slots=True)
class Change:
    """What a file shall be.

    Attributes:
        key: the file's.
        data: its content, which may hold a private key; ``None``: no file.
    """

    key: str
    data: bytes | None = field(repr=False)


async def commit(
    store: Store, publisher: Publisher, lease: Lease, changes: Sequence[Change]
) -> None:
    """Make ``changes`` in their order, each key once: all or none.

    Raises:
        StoreError: a step failed. Nothing is changed, unless the sentence says so: the
            store went away for good in between.
    """
    before = [await _now_behind(store, change.key) for change in changes]
    staged: dict[str, str] = {}
    try:
        for change in changes:
            if change.data is not None:
                await lease.renew()
                staged[change.key] = await _stage(publisher, change.data)
        await _clear_left_over(store, publisher, staged.values())
        await lease.confirm()
        begun: list[Change] = []
        try:
            for change, old in zip(changes, before, strict=True):
                await lease.renew()
                begun.append(old)  # also if the step fails: it may have been taken
                await _take(publisher, change, staged)
        except BaseException as error:
            await _put_back(store, publisher, begun, error)
            raise
    finally:
        with suppress(StoreError):
            for key in staged.values():
                await publisher.delete(key)


async def _now_behind(store: Store, key: str) -> Change:
    blob = await store.fetch(key)
    return Change(key, None if blob is None else blob.data)


async def _stage(publisher: Publisher, data: bytes) -> str:
    key = new_staged_key()
    while not await publisher.make(key, data):
        key = new_staged_key()
    return key


async def _take(publisher: Publisher, change: Change, staged: dict[str, str]) -> None:
    if change.data is None:
        await publisher.delete(change.key)
    else:
        await publisher.move(staged[change.key], change.key)
        del staged[change.key]


async def _put_back(
    store: Store, publisher: Publisher, begun: list[Change], error: BaseException
) -> None:
    """Make everything as it was, last step first; an error says what could not be."""
    stuck = [old.key for old in reversed(begun) if not await _is_put_back(store, publisher, old)]
    if stuck:
        raise StoreUnavailable(
            publisher.url,
            f"{', '.join(stuck)} could not be put back after a failure ({error}), so some names"
            " may have the new version and some the old one: run the command again.",
        ) from error


async def _is_put_back(store: Store, publisher: Publisher, old: Change) -> bool:
    for _ in range(_ATTEMPTS):
        with suppress(StoreError):
            if await _now_behind(store, old.key) == old:
                return True
            if old.data is None:
                await publisher.delete(old.key)
            else:
                await publisher.move(await _stage(publisher, old.data), old.key)
    return False


async def _clear_left_over(store: Store, publisher: Publisher, own: Collection[str]) -> None:
    """Delete what a killed command has staged; its age is by the store's own clock."""
    with suppress(StoreError):  # it can wait
        staged = [file for file in await store.list() if is_staged(file.key)]
        now = max((file.modified for file in staged if file.key in own), default=0.0)
        for file in staged:
            if now - file.modified >= LEFT_OVER_S:
                await publisher.delete(file.key)
