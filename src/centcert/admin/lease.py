"""One publisher at a time: a file in the store says who is at work.

Each file is replaced in one step anyway. This is for what belongs together: of two commands
that publish the same names at once, the one must not end up behind some of them and the other
behind the rest.

The file also says which process that is, and on which machine: where a command finds itself on the
same one, it asks the system whether that process lives, whatever kind of store it is. From anywhere
else a publisher can only be seen to live, by its lock that changes. Nothing the lock depends on may
fall with a connection: a publisher whose connection broke off connects anew, and puts back under
this very lock what it had begun.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import re
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from centcert.errors import StoreBusy, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from centcert.stores import Blob, Publisher, Store

LOCK: Final = "centcert.lock"
"""The file's key. No look-up asks for it, and IIS takes no notice of it either."""

STALE_S: Final = 30.0
"""A lock that stays the same for so long is that of a command that was killed on another machine.
Longer than the two longest steps of a publisher, as the lock is renewed between steps."""

RENEW_S: Final = 5.0
"""How old a lock becomes before its holder renews it."""

PATIENCE_S: Final = 120.0
"""How long to wait for other publishers that are alive."""

_POLL_S: Final = 0.2
_SHOWN: Final = 80
_PROCESS: Final = re.compile(rb"^process ([0-9a-f]{32}) ([0-9]{1,9})$", re.MULTILINE)


class Lease:
    """The right to publish, as long as it is renewed; made by ``lease``."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._mark = _mark()
        self._renewals = 0
        self._renewed_at = 0.0

    async def renew(self) -> None:
        """Say that this command lives; to be called between any two steps.

        Raises:
            StoreBusy: another publisher has taken this one for dead.
            StoreError: the store gave no answer.
        """
        if self._now() - self._renewed_at >= RENEW_S:
            await self.confirm()
            renewed = new_staged_key()
            self._renewals += 1  # other bytes, so another version in every kind of store
            await self._publisher.make(renewed, b"%b%d\n" % (self._mark, self._renewals))
            await self._publisher.move(renewed, LOCK)
            self._renewed_at = self._now()

    async def confirm(self) -> None:
        """Make sure that the lock is still this command's; raises as ``renew``."""
        held = await self._store.fetch(LOCK)
        if held is None or not held.data.startswith(self._mark):
            raise StoreBusy(
                self._store.url,
                f"Another publisher went to work in {self._store.url}, as this one took too long:"
                " run the command again.",
            )

    async def acquire(self, stale_s: float, on_wait: Callable[[str], None]) -> None:
        """Wait until the lock is this command's; see ``lease``."""
        began = same_since = self._now()
        version: str | None = None
        while not await self._publisher.make(LOCK, self._mark):
            held = await self._look()
            now = self._now()
            if held is not None and _has_ended(held) and await self._clear_away(held):
                continue
            if held is not None and held.version != version:
                if version is None:
                    on_wait(
                        f"{_shown(held)} is publishing into {self._store.url}: waiting for it, and"
                        f" if it shows no life for {stale_s:g} s, going on without."
                    )
                version, same_since = held.version, now
            elif held is not None and now - same_since >= stale_s:
                await self._take_away(held)
                continue
            if now - began >= PATIENCE_S:
                raise StoreBusy(
                    self._store.url,
                    f"Others have been publishing into {self._store.url} for {PATIENCE_S:g} s: run"
                    " the command again.",
                )
            await asyncio.sleep(_POLL_S)
        self._renewed_at = self._now()

    async def release(self) -> None:
        """Give the lock away, if it is this command's and the store lets it."""
        with suppress(StoreError):
            await self.confirm()
            await self._publisher.delete(LOCK)

    async def _look(self, key: str = LOCK) -> Blob | None:
        with suppress(StoreBusy):  # it is being renewed at this moment
            return await self._store.fetch(key)
        return None

    async def _clear_away(self, held: Blob) -> bool:
        """Delete the lock of a process that has ended; whether it was for this command to do.

        Of several that find it one at a time may, so that none deletes the next one's lock in its
        place. If that one is killed over it, its turn is cleared away too.
        """
        turn = f"centcert-{hashlib.sha256(held.data).hexdigest()[:16]}.staged"
        if not await self._publisher.make(turn, self._mark):
            other = await self._look(turn)
            if other is not None and _has_ended(other):
                await self._publisher.delete(turn)
            return False
        try:
            there = await self._look()
            if there is not None and there.data == held.data:
                await self._publisher.delete(LOCK)
        finally:
            await self._publisher.delete(turn)
        return True

    async def _take_away(self, held: Blob) -> None:
        """Remove a dead command's lock, and no other that has taken its place meanwhile."""
        aside = new_staged_key()
        try:
            await self._publisher.move(LOCK, aside)
        except StoreError:  # somebody else was faster; or not, and the next step says so
            return
        taken = await self._store.fetch(aside)
        if taken is not None and taken.data != held.data:
            await self._publisher.move(aside, LOCK)
        else:
            await self._publisher.delete(aside)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def lease(
    store: Store,
    publisher: Publisher,
    *,
    stale_s: float = STALE_S,
    on_wait: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Lease]:
    """Be the only publisher of a store, as far as the others ask for the lease too.

    Args:
        store: to read from.
        publisher: of the same store.
        stale_s: how long a lock may stay as it is before its holder on another machine is taken
            for dead.
        on_wait: is told for whom this waits, in a sentence.

    Raises:
        StoreBusy: others do not come to an end.
        StoreError: the lock cannot be made: the store is away, or refuses to be written to.
    """
    held = Lease(store, publisher)
    await held.acquire(stale_s, on_wait)
    try:
        yield held
    finally:
        await held.release()


def new_staged_key() -> str:
    """Make up the key of a file that is to be moved into place; see ``is_staged``."""
    return f"centcert-{secrets.token_hex(8)}.staged"


def is_staged(key: str) -> bool:
    """Say whether a key is one that ``new_staged_key`` makes up."""
    return key.startswith("centcert-") and key.endswith(".staged")


def _mark() -> bytes:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = str(os.getuid())
    who = f"{user}@{socket.gethostname()}, process {os.getpid()}"
    space = _space()
    process = "" if space is None else f"process {space} {os.getpid()}\n"
    return f"{who}\n{secrets.token_hex(16)}\n{process}".encode()


def _has_ended(held: Blob) -> bool:
    """Say whether a lock's process is known to be gone: it was one of this machine's.

    A number that another process has by now reads as life, and the lock falls by its age.
    """
    found = _PROCESS.search(held.data)
    if found is None or found[1].decode() != _space():
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _space() -> str | None:
    """Return what no two sets of process numbers share; ``None`` where the system has no such.

    Linux: this start of the machine, and the namespace (pid_namespaces(7)), of which a
    container has one to itself.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = os.stat("/proc/self/ns/pid")  # noqa: PTH116
    except OSError:
        return None
    told = f"{boot} {namespace.st_dev} {namespace.st_ino}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _shown(held: Blob) -> str:
    who = held.data.partition(b"\n")[0][:_SHOWN].decode(errors="replace")
    return who if who.isprintable() and who else "Somebody"
