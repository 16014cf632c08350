"""Read PEM files (RFC 7468) that hold certificates and a private key together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from centcert.errors import BlobDamaged, UnsupportedEncryption, WrongPassword
from centcert.pkcs12 import why_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from centcert.pkcs12 import Contents

BEGIN: Final = b"-----BEGIN "
_END: Final = b"-----END "
_DASHES: Final = b"-----"

_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE"})
_ENCRYPTED_KEY: Final = b"ENCRYPTED PRIVATE KEY"
_KEYS: Final = frozenset({b"PRIVATE KEY", _ENCRYPTED_KEY, b"EC PRIVATE KEY", b"RSA PRIVATE KEY"})


def read_pem(data: bytes, *, key: str, passwords: Sequence[bytes]) -> Contents:
    """Read the certificates and the first private key of a PEM file, in any order.

    The key is PKCS #8, SEC 1 or PKCS #1; if it is encrypted PKCS #8, the first of
    ``passwords`` that fits opens it. Text around the blocks and blocks of other kinds are ignored.

    Raises:
        BlobDamaged: a block is cut off or cannot be read; a writer may be at work.
        WrongPassword: the key is encrypted and no password fits.
        UnsupportedEncryption: the key is encrypted in a way that the library cannot read.
    """
    private_key: PrivateKeyTypes | None = None
    certificates: list[x509.Certificate] = []
    for label, block in _blocks(data, key):
        if label in _CERTIFICATES:
            certificates.append(_certificate(block, key))
        elif label in _KEYS and private_key is None:
            encrypted = label == _ENCRYPTED_KEY
            private_key = _private_key(block, key, passwords if encrypted else None)
    return private_key, certificates


def _blocks(data: bytes, key: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the label and the whole text of each block, in time linear in ``data``."""
    at = data.find(BEGIN)
    while at >= 0:
        following = data.find(BEGIN, at + len(BEGIN))
        label = data[at + len(BEGIN) : at + 64].partition(_DASHES)[0]
        end = _END + label + _DASHES
        stop = data.find(end, at, following if following >= 0 else len(data))
        if stop < 0:
            raise BlobDamaged(
                key, "a PEM block is cut off: if no writer is at work, export the file again"
            )
        yield label, data[at : stop + len(end)] + b"\n"
        at = following


def _certificate(block: bytes, key: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, x509.InvalidVersion) as error:
        raise BlobDamaged(
            key, "one of its certificates cannot be read: export the file again"
        ) from error


def _private_key(block: bytes, key: str, passwords: Sequence[bytes] | None) -> PrivateKeyTypes:
    """Load one key block; ``passwords`` is ``None`` for one that is not encrypted."""
    if b":" in block:
        # RFC 1421 headers. A single round of MD5 protects such a key, and the library
        # panics over a bad DEK-Info instead of raising an error.
        raise UnsupportedEncryption(
            key,
            "its private key is encrypted in the old PEM form: convert it with"
            " openssl pkcs8 -topk8",
        )
    for password in (None,) if passwords is None else filter(None, passwords):  # none is empty
        try:
            return load_pem_private_key(block, password, unsafe_skip_rsa_key_validation=True)
        except UnsupportedAlgorithm as error:
            raise UnsupportedEncryption(
                key,
                "its private key is of a kind that cannot be read: export it again as PKCS #8"
                " with AES-256",
            ) from error
        except ValueError:
            continue
    if passwords is not None:
        raise WrongPassword(key, why_wrong(len(passwords)))
    raise BlobDamaged(key, "its private key cannot be read: export the file again")
