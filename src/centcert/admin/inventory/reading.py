"""Read every certificate file of a store, with bounds; what was read before comes from a cache."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from centcert.admin.facts import Facts, called, facts
from centcert.errors import (
    BadBlob,
    BlobTooCostly,
    BlobTooLarge,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    WrongPassword,
)
from centcert.provider.decoder import Decoder
from centcert.stores import FolderStore, StoredFile

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from cryptography import x509

    from centcert.admin.inventory.cache import Cache
    from centcert.credential import Credential
    from centcert.stores import Store

FETCHES: Final = 32
"""Files fetched and decoded at once: 8 MiB of memory at 256 KiB each, and a quarter of what a node
asks of a share at once (``stores.smb.server.MAX_IN_HAND``)."""

_FILE: Final = re.compile(r"[^.~].*\.(?:pfx|p12|pem)[\s.]*", re.IGNORECASE | re.DOTALL)

_FLEETING: Final = (WrongPassword.code, BlobTooCostly.code, StoreBusy.code, StoreDenied.code)
"""What another password, another moment or another account may change."""


class Readable(msgspec.Struct, frozen=True, tag="readable"):
    """A file that is a credential.

    Attributes:
        facts: what its certificate says.
        weak_signatures: which of the certificates that are sent are signed with SHA-1 or MD5,
            by what they are called.
        has_issuer: whether its issuer is there too, or it is its own.
    """

    facts: Facts
    weak_signatures: tuple[str, ...]
    has_issuer: bool


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """A file that is none.

    Attributes:
        code: of the error: ``wrong-password``, ``blob-damaged``, ``store-denied``, ….
        sentence: why, and what to do.
    """

    code: str
    sentence: str

    @property
    def lasts(self) -> bool:
        """Whether the same file is certain to be judged so again."""
        return self.code not in _FLEETING


Reading: TypeAlias = Readable | Unreadable


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file and what it turned out to be."""

    file: StoredFile
    reading: Reading


@dataclass(frozen=True, slots=True)
class Stock:
    """What a store holds.

    Attributes:
        files: its certificate files, in no certain order.
        others: how many other files are there.
    """

    files: list[Inspected] = field(repr=False)  # asyncio writes it down when a task is done
    others: int


def is_certificate_file(key: str) -> bool:
    """Say whether a file is meant for a look-up, however its name is spelled.

    It ends in ``.pfx``, ``.p12`` or ``.pem``, and does not begin like a hidden or an
    Office program's temporary file.
    """
    return _FILE.fullmatch(key) is not None


async def read_stock(
    store: Store,
    passwords: Sequence[bytes],
    cache: Cache,
    progress: Callable[[int, int], None],
) -> Stock:
    """Read the certificate files of a store.

    A file that the store denies, or that is being written, is an ``Unreadable``; one that
    goes away meanwhile is left out.

    Args:
        store: the store.
        passwords: of the private keys, tried in order.
        cache: what earlier readings found; afterwards what this one found.
        progress: told how many of how many files are done.

    Raises:
        StoreError: the store gave no answer.
        Overloaded: no process can be started.
    """
    listed = await store.list()
    files = [file for file in listed if is_certificate_file(file.key)]
    beyond_reach = await _beyond_reach(store, {file.key for file in listed})
    known = {file.key: cache.find(file.key, file.version) for file in files}
    done = [Inspected(file, found) for file in files if (found := known[file.key]) is not None]
    unknown = [file for file in files if known[file.key] is None]
    progress(len(done), len(files))
    if unknown:
        processes = min(_cores(), len(unknown))
        async with Decoder(processes=processes, max_waiting=FETCHES) as decoder:
            rest = iter(unknown)

            async def read_rest() -> None:
                for file in rest:
                    inspected = await _inspect(file, store, decoder, passwords)
                    if inspected is not None:
                        done.append(inspected)
                        progress(len(done), len(files))

            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(min(FETCHES, len(unknown))):
                        tasks.create_task(read_rest())
            except ExceptionGroup as failures:  # one says what is wrong with the store
                raise failures.exceptions[0] from None
    cache.replace(done)
    return Stock(done + beyond_reach, len(listed) - len(files))


def examine(credential: Credential) -> Readable:
    """Read what an administrator wants to know of a credential."""
    sent = (credential.certificate, *credential.issuers)
    return Readable(
        facts(credential),
        tuple(_called(one) for one in sent if _is_weakly_signed(one)),
        bool(credential.issuers) or sent[0].issuer == sent[0].subject,
    )


async def _beyond_reach(store: Store, listed: Container[str]) -> list[Inspected]:
    """Find what a folder holds besides the files that a store lists: nobody is served it."""
    if not isinstance(store, FolderStore):
        return []
    try:
        names = await asyncio.to_thread(os.listdir, store.url)
    except OSError:  # it has gone since it was listed
        return []
    found = []
    for name in names:
        if name in listed or not is_certificate_file(name):
            continue
        reading = Unreadable("not-a-file", "it is no regular file: put one in its place")
        try:
            if await store.fetch(name) is not None:  # it has come since
                continue
        except BlobTooLarge as error:
            reading = Unreadable(error.code, error.sentence)
        except StoreDenied as error:
            reading = Unreadable(StoreDenied.code, str(error))
        except StoreBusy as error:
            reading = Unreadable(StoreBusy.code, str(error))
        shown = os.fsencode(name).decode(errors="backslashreplace")
        if shown != name:
            reading = Unreadable("bad-name", "its name is not UTF-8: rename it")
        found.append(Inspected(StoredFile(shown, "", 0, 0.0), reading))
    return found


async def _inspect(
    file: StoredFile, store: Store, decoder: Decoder, passwords: Sequence[bytes]
) -> Inspected | None:
    try:
        blob = await store.fetch(file.key)
    except StoreAuthenticationFailed:
        raise
    except BlobTooLarge as error:
        return Inspected(file, Unreadable(error.code, error.sentence))
    except (StoreDenied, StoreBusy) as error:
        code = StoreDenied.code if isinstance(error, StoreDenied) else StoreBusy.code
        return Inspected(file, Unreadable(code, str(error)))
    if blob is None:
        return None
    file = replace(file, version=blob.version)
    try:
        credential = await decoder.decode(blob, passwords)
    except BadBlob as error:
        return Inspected(file, Unreadable(error.code, error.sentence))
    return Inspected(file, examine(credential))


def _called(certificate: x509.Certificate) -> str:
    return called(certificate.subject) or "its own certificate"


def _is_weakly_signed(certificate: x509.Certificate) -> bool:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    return isinstance(digest, hashes.SHA1 | hashes.MD5)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
