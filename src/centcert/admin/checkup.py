"""Is the set-up sound? Each check says what was found and, if it needs a hand, what to do.

Nothing is changed by looking, neither here nor in the store.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from centcert.admin.secrets import read_secret
from centcert.errors import CentcertError, SettingsError, StoreError
from centcert.frontend.addresses import TcpAddress, reason_of
from centcert.names import pattern_of
from centcert.stores import FolderStore, open_store
from centcert.stores.events import SmbStep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from centcert.admin.settings import Settings, StoreSettings
    from centcert.frontend import Backend, Limits
    from centcert.stores import Store
    from centcert.stores.events import Event

WATCH_S: Final = 3.0
"""How long a store may take to say that it is being watched."""

CONNECT_S: Final = 3.0
SKEW_S: Final = 60.0
"""Kerberos stops at 300 s; certificates issued just now fail long before."""

COPIES_BYTES: Final = 64 * 1024**2
"""Free space for last-good copies: 1 to 4 KB each, so 16,000 of them or more."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        what: stable, for machines: ``settings``, ``secret``, ``store``, ``account``,
            ``case``, ``changes``, ``clock``, ``connection``, ``copies``, ``descriptors``,
            ``port``, ``backend``, ``node``.
        subject: the file, server or address looked at.
        state: ``good``; ``wrong``: it needs a hand; ``unknown``: it could not be seen.
        sentence: what was found, and what to do.
    """

    what: str
    subject: str
    state: Literal["good", "wrong", "unknown"]
    sentence: str


async def check_up(
    store: StoreSettings, settings: Settings | None, *, node_runs: bool
) -> AsyncIterator[Check]:
    """Look at everything that can be seen from here, one thing after the other.

    Args:
        store: the store's settings.
        settings: the node's; ``None``: there are none, only a store.
        node_runs: whether a node runs with them.
    """
    for check in _secrets(store):
        yield check
    for url in _each_server(store.url):
        async for check in _store(url, store):
            yield check
    if settings is None:
        return
    if store.last_good:
        yield _copies(settings.state_folder())
    yield _descriptors(settings.limits.limits())
    for one in settings.listen:
        yield _port(TcpAddress.parse(one.address), node_runs=node_runs)
    backends = {
        site.backend
        for listener in settings.listeners()
        for site in (listener.site, *listener.sites.values())
    }
    for backend in sorted(backends, key=str):
        yield await _backend(backend)


def _secrets(store: StoreSettings) -> Iterator[Check]:
    for file in (store.password_file, *store.key_password_files):
        if file is None:
            continue
        try:
            read_secret(file)
        except SettingsError as error:
            yield Check("secret", str(file), "wrong", str(error))
        else:
            yield Check("secret", str(file), "good", "It can be read, and by nobody else.")


def _each_server(url: str) -> list[str]:
    """Return the store's URL, or one for each of its servers."""
    if not url.startswith("smb://"):
        return [url]
    from centcert.stores.smb import Location  # noqa: PLC0415  as in open_store

    location = Location.parse(url)
    return [location.on(server) for server in location.servers]


# --- the store ------------------------------------------------------------------


async def _store(url: str, settings: StoreSettings) -> AsyncIterator[Check]:
    events: list[Event] = []
    try:
        opened = open_store(url, account=settings.account(), listener=events.append)
    except SettingsError as error:
        yield Check("store", url, "wrong", str(error))
        return
    async with opened as store:
        try:
            files = await store.list()
        except StoreError as error:
            yield Check("store", url, "wrong", str(error))
            return
        keys = [file.key for file in files if pattern_of(file.key) is not None]
        noun = "file" if len(files) == 1 else "files"
        said = f"{len(files)} {noun}, {len(keys)} of them by host names."
        yield Check("store", url, "good", said)
        for check in _connection(url, events):
            yield check
        if keys:
            yield await _readable(store, url, keys[0])
            yield await _case(store, url, keys)
        for check in await _openness(store, url, keys):
            yield check
        yield await _changes(store, url)


def _connection(url: str, events: Iterable[Event]) -> Iterator[Check]:
    from centcert.smb3 import ProtocolAgreed  # noqa: PLC0415  as in open_store

    steps = [event.step for event in events if isinstance(event, SmbStep)]
    for step in steps:
        if isinstance(step, ProtocolAgreed):
            sealed = f"SMB {step.dialect}, sealed with {step.cipher.replace('_', '-')}."
            yield Check("connection", url, "good", sealed)
            if step.server_time is not None:
                yield _clock(url, step.server_time - time.time())
            return


def _clock(url: str, ahead_s: float) -> Check:
    if abs(ahead_s) <= SKEW_S:
        return Check("clock", url, "good", "The server's clock and this one agree.")
    than = "ahead of" if ahead_s > 0 else "behind"
    sentence = (
        f"The server's clock is {abs(ahead_s):.0f} s {than} this one: let both be set by NTP, or"
        " certificates are taken for expired, or for not yet valid, and Kerberos fails."
    )
    return Check("clock", url, "wrong", sentence)


async def _readable(store: Store, url: str, key: str) -> Check:
    try:
        await store.fetch(key)
    except CentcertError as error:
        return Check("store", url, "wrong", str(error))
    return Check("store", url, "good", f"{key} can be read.")


async def _case(store: Store, url: str, keys: list[str]) -> Check:
    """Find out by a file's own name in upper case: no attribute tells."""
    listed = set(keys)
    key = next((key for key in keys if key != key.upper() and key.upper() not in listed), None)
    if key is None:
        return Check("case", url, "unknown", "There is no file to find it out by.")
    try:
        folds = await store.fetch(key.upper()) is not None
    except CentcertError as error:
        return Check("case", url, "unknown", str(error))
    if folds:
        return Check("case", url, "good", "File names are found in any case, as on Windows.")
    return Check("case", url, "good", "Case matters in file names: only lower-case ones are found.")


async def _openness(store: Store, url: str, keys: list[str]) -> list[Check]:
    """Look at who else may do what with the store."""
    if isinstance(store, FolderStore):
        return [await asyncio.to_thread(_open_to_others, Path(store.url), keys)]
    from centcert.stores.smb import SmbStore  # noqa: PLC0415  as in open_store

    weaknesses = await store.inspect() if isinstance(store, SmbStore) else store.weaknesses
    found = [Check("account", one.subject, "wrong", one.sentence) for one in weaknesses]
    return found or [Check("account", url, "good", "It may read and no more, and nobody else may.")]


def _open_to_others(folder: Path, keys: list[str]) -> Check:
    others = [key for key in keys if (folder / key).stat().st_mode & 0o007]
    if folder.stat().st_mode & 0o001 and others:
        sentence = (
            f"Every user of this machine can open {len(others)} of its files, {others[0]} is one:"
            f" chmod o-rwx {folder}"
        )
        return Check("account", str(folder), "wrong", sentence)
    return Check("account", str(folder), "good", "No other user of this machine can read keys.")


async def _changes(store: Store, url: str) -> Check:
    polled = "new files are seen by polling, within refresh."
    try:
        async with asyncio.timeout(WATCH_S), aclosing(store.watch()) as changes:
            await anext(changes)
    except TimeoutError:
        told = [weakness.sentence for weakness in store.weaknesses if "change" in weakness.code]
        sentence = told[0] if told else f"The store tells of no changes: {polled}"
        return Check("changes", url, "wrong", sentence)
    except StoreError as error:
        return Check("changes", url, "wrong", f"{error} Until then {polled}")
    return Check("changes", url, "good", "The store tells of changes as they happen.")


# --- the node -------------------------------------------------------------------


def _copies(folder: Path) -> Check:
    """Look where last-good copies go, or would be made."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        sentence = (
            f"{there} cannot be written by this user: make {folder} and give it to the node's user."
        )
        return Check("copies", str(folder), "wrong", sentence)
    space = os.statvfs(there)
    free = space.f_bavail * space.f_frsize
    if free < COPIES_BYTES:
        sentence = (
            f"Only {free // 1024**2} MiB are free for last-good copies: free"
            f" {COPIES_BYTES // 1024**2} MiB, or name another place by state_folder."
        )
        return Check("copies", str(folder), "wrong", sentence)
    return Check("copies", str(folder), "good", f"{free // 1024**2} MiB are free for copies.")


def _descriptors(limits: Limits) -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.connections
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sentence = (
            f"{hard} files may be open, {wanted} are needed for {limits.connections} connections:"
            " raise LimitNOFILE (ulimit -Hn), or lower limits.connections."
        )
        return Check("descriptors", "RLIMIT_NOFILE", "wrong", sentence)
    return Check("descriptors", "RLIMIT_NOFILE", "good", f"{wanted} files may be open.")


def _port(address: TcpAddress, *, node_runs: bool) -> Check:
    subject = str(address)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address.host, address.port))
        except PermissionError:
            sentence = (
                f"This user may not listen on port {address.port}: give the service"
                " CAP_NET_BIND_SERVICE, or a socket of systemd."
            )
            return Check("port", subject, "wrong", sentence)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if node_runs:
                    return Check("port", subject, "good", "In use, while the node runs.")
                sentence = f"Another program listens there: ss -ltnp 'sport = {address.port}'."
                return Check("port", subject, "wrong", sentence)
            sentence = f"{subject} cannot be listened on: {reason_of(error)}."
            return Check("port", subject, "wrong", sentence)
    return Check("port", subject, "good", "Free to listen on.")


async def _backend(backend: Backend) -> Check:
    subject = str(backend)
    try:
        async with asyncio.timeout(CONNECT_S):
            if isinstance(backend.where, str):
                _, writer = await asyncio.open_unix_connection(backend.where)
            else:
                _, writer = await asyncio.open_connection(backend.where.host, backend.where.port)
    except TimeoutError:
        sentence = f"{subject} does not answer within {CONNECT_S:g} s: is a firewall between?"
        return Check("backend", subject, "wrong", sentence)
    except OSError as error:
        sentence = f"{subject} accepts no connections: {reason_of(error)}: start it."
        return Check("backend", subject, "wrong", sentence)
    writer.close()
    return Check("backend", subject, "good", "It accepts connections.")
