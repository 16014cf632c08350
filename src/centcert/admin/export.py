"""Take a credential out of a store, into files of this machine's."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from centcert.errors import PublishRefused, UnknownName
from centcert.names import HostName, candidates, keys_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from centcert.credential import Credential
    from centcert.provider.decoder import Decoder
    from centcert.stores import Store


async def take_out(
    store: Store, decoder: Decoder, pattern: str, passwords: Sequence[bytes]
) -> Credential:
    """Return what the store holds for a name or wildcard: the first of its files that is there.

    Unlike a node, which passes over a bad file: whoever exports wants to know of it.

    Raises:
        UnknownName: there is none.
        BadBlob: the file cannot be used.
        StoreError: the store gave no answer.
        Overloaded: no process can be started to decode it in.
    """
    if pattern.startswith("*."):
        keys: Sequence[str] = keys_of(pattern)
    else:
        keys = [candidate.key for candidate in candidates(HostName(pattern))]
    for key in keys:
        blob = await store.fetch(key)
        if blob is not None:
            return await decoder.decode(blob, passwords)
    raise UnknownName(pattern)


def certificates_pem(credential: Credential) -> bytes:
    """Return the certificate and its issuers, in the order that TLS sends them (RFC 7468)."""
    chain = (credential.certificate, *credential.issuers)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def private_key_pem(credential: Credential) -> bytes:
    """Return the private key, not encrypted, as PKCS #8 in PEM (RFC 5958)."""
    return credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_new_files(files: Mapping[Path, bytes]) -> None:
    """Write files that must not be there, with mode 0600: all of them or none.

    Raises:
        PublishRefused: one is there already, or cannot be written.
    """
    written: list[Path] = []
    try:
        for path, data in files.items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            written.append(path)
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
                file.write(data)
    except OSError as error:
        for made in written:
            with suppress(OSError):
                made.unlink()
        if isinstance(error, FileExistsError):
            raise PublishRefused(
                f"{path} is there already and is not overwritten: name another file by --output."
            ) from error
        raise PublishRefused(f"{path} cannot be written: {error.strerror}.") from error
