"""One change of a settings file at a time, from its reading to its writing."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_S: Final = 60.0
"""How long to wait for another command: longer than it tries a store that does not answer."""

_POLL_S: Final = 0.05


@asynccontextmanager
async def sole_change(path: Path) -> AsyncIterator[None]:
    """Be the only command that changes a settings file; others wait for their turn.

    The lock (flock(2)) is on a hidden file beside it, as the file itself is replaced, and whoever
    can read a file or folder can lock it. It falls with the process. Missing folders are made.

    Raises:
        SettingsError: the file beside cannot be made, or another command does not end.
    """
    lock = _beside(path)
    try:
        descriptor = await _locked(lock)
    except TimeoutError:
        raise SettingsError(
            f"{path} has been in the hands of another command for {PATIENCE_S:g} s: nothing was"
            " changed; run this one again when that has ended."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror} for {lock.name} beside it: nothing was"
            " changed."
        ) from error
    try:
        yield
    finally:
        _unlock(lock, descriptor)


def _beside(path: Path) -> Path:
    target = Path(os.path.realpath(path))  # where a link leads is what is replaced
    return target.with_name(f".{target.name}.lock")


async def _locked(lock: Path) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while (descriptor := _lock_now(lock)) is None:  # noqa: ASYNC110  another process has it
            await asyncio.sleep(_POLL_S)
    return descriptor


def _lock_now(lock: Path) -> int | None:
    """Return a descriptor that holds the lock; ``None`` if somebody has it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), lock.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # held; or deleted by who held it
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _unlock(lock: Path, descriptor: int) -> None:
    with suppress(OSError):
        lock.unlink()
    os.close(descriptor)  # after that: who gets the lock on this file sees that it is none any more
