"""From the files that an administrator gives to the credentials in them.

A PFX holds one. In PEM the certificate, its chain and its key may come in one file or in
several; which belong together, the keys say. Where that is not plain, nothing is guessed.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from centcert.admin.facts import printable
from centcert.credential import MAX_BLOB_BYTES, Credential, decode
from centcert.errors import BadBlob, PublishRefused, SettingsError, WrongPassword
from centcert.pem import BEGIN, read_pem
from centcert.pkcs12 import read_pkcs12

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PASSWORD_TRIES: Final = 3

_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")


@dataclass(frozen=True, slots=True)
class GivenFile:
    """What one file holds.

    Attributes:
        name: its path as it was given, printable.
        private_key: if there is one.
        certificates: in the file's order.
    """

    name: str
    private_key: PrivateKeyTypes | None = field(repr=False)
    certificates: tuple[x509.Certificate, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Given:
    """A credential, put together from what was given.

    Attributes:
        source: the files it came from, for people.
        credential: checked as the files of a store are; its chain is in order.
        is_complete: whether the chain is known to end at a root: its last certificate is
            self-signed, or the root that signed it is among the files.
    """

    source: str
    credential: Credential
    is_complete: bool


def read_file(
    path: Path, passwords: Sequence[bytes], ask: Callable[[str], bytes] | None
) -> GivenFile:
    """Read a PFX or a PEM file; its content says which of the two it is.

    Args:
        path: of the file.
        passwords: are tried first.
        ask: asks a person for the password of the file, by its name; ``None``: nobody is
            there to be asked.

    Raises:
        SettingsError: the file cannot be read.
        PublishRefused: it cannot be used, needs a password that is not given, or holds
            several keys.
    """
    name = printable(str(path))  # of a folder's files, anybody may have named one
    data = _bytes_of(path)
    is_pem = BEGIN in data
    if is_pem and len(_PRIVATE_KEY.findall(data)) > 1:
        raise PublishRefused(f"{name}: it holds several private keys: give one credential a file.")
    read = read_pem if is_pem else read_pkcs12
    for attempt in _attempts(passwords, ask, name):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # serial numbers of private CAs; BER
                private_key, certificates = read(data, key=name, passwords=attempt)
        except WrongPassword:
            continue
        except BadBlob as error:
            raise PublishRefused(f"{error}.") from error
        return GivenFile(name, private_key, tuple(certificates))
    raise PublishRefused(
        f"{name}: it is protected by a password that is none of those at hand: name the file that"
        " has it by --input-password-file."
    )


def put_together(files: Sequence[GivenFile]) -> list[Given]:
    """Return the credentials in ``files``, one for each private key.

    A chain may come from any of the files. Everything given has to be of use.

    Raises:
        PublishRefused: it is not plain what belongs together, a file is of no use, or a
            credential is not one for a TLS server.
    """
    keys = _keys(files)
    if not keys:
        raise PublishRefused(
            f"{_names(files)}: no private key is given: add the PFX, or the PEM file with the key."
        )
    given = []
    used: set[x509.Certificate] = set()
    for public_key, key_file in keys.items():
        leaf, leaf_file = _leaf(public_key, key_file, files)
        others = [
            certificate
            for file in files
            for certificate in file.certificates
            if _public_key_of(certificate) not in keys
        ]
        source = leaf_file.name + ("" if leaf_file is key_file else f" with {key_file.name}")
        credential = _decoded(key_file, [leaf, *dict.fromkeys(others)], source)
        last = (leaf, *credential.issuers)[-1]
        roots = [root for root in others if root.subject == root.issuer and _signed(last, root)]
        used |= {leaf, *credential.issuers, *roots}
        is_complete = last.subject == last.issuer or bool(roots)
        given.append(Given(source, credential, is_complete))
    for file in files:
        if file.private_key is None and not used & set(file.certificates):
            raise PublishRefused(
                f"{file.name}: its certificates belong to none of the private keys given, nor to"
                " their chains: leave it out, or add its key."
            )
    return given


def _attempts(
    passwords: Sequence[bytes], ask: Callable[[str], bytes] | None, name: str
) -> Iterator[Sequence[bytes]]:
    yield passwords
    if ask is not None:
        for _ in range(PASSWORD_TRIES):
            yield (ask(name),)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BLOB_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BLOB_BYTES:
        raise PublishRefused(
            f"{path}: it is larger than {MAX_BLOB_BYTES // 1024} KiB: is it a certificate at all?"
        )
    return data


def _keys(files: Sequence[GivenFile]) -> dict[bytes, GivenFile]:
    keys: dict[bytes, GivenFile] = {}
    for file in files:
        if file.private_key is None:
            continue
        public_key = _spki(file.private_key)
        other = keys.setdefault(public_key, file)
        if other is not file:
            raise PublishRefused(
                f"{other.name} and {file.name} hold the same private key: give one of them."
            )
    return keys


def _leaf(
    public_key: bytes, key_file: GivenFile, files: Sequence[GivenFile]
) -> tuple[x509.Certificate, GivenFile]:
    """Find the certificate of a key; of several in one file, the one that is valid longest."""
    found: dict[x509.Certificate, GivenFile] = {}
    for file in (key_file, *files):
        own = [one for one in file.certificates if _public_key_of(one) == public_key]
        if own:
            found.setdefault(max(own, key=lambda one: one.not_valid_after_utc), file)
    if not found:
        raise PublishRefused(
            f"{key_file.name}: its private key belongs to none of the certificates given: give the"
            " certificate that was issued for it."
        )
    if len(found) > 1:
        raise PublishRefused(
            f"{' and '.join(file.name for file in found.values())} hold different certificates"
            " for one private key: give the one to publish."
        )
    return next(iter(found.items()))


def _decoded(
    key_file: GivenFile, certificates: Iterable[x509.Certificate], source: str
) -> Credential:
    """Have the judge of the store's files look at it: as one PEM file, never written."""
    if key_file.private_key is None:
        raise AssertionError(key_file.name)  # it is here for its key
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    key = key_file.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        return decode(pem + key, key=source, passwords=())
    except BadBlob as error:
        raise PublishRefused(f"{error}.") from error


def _public_key_of(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return None


def _spki(private_key: PrivateKeyTypes) -> bytes:
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(files: Sequence[GivenFile]) -> str:
    return ", ".join(file.name for file in files)
