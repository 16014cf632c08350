"""Open a PKCS #12 file with an RSA key without proving that its primes are prime.

The library's ``load_pkcs12`` does so at each reading: 40 of the 42 ms that such a file
takes. Here the library decrypts and parses the key and the certificates one by one, the
MAC is verified (RFC 7292 §5.1), and whoever uses the key proves it otherwise: see
``rsa_proof``. Of a file that is in any way unusual nothing is said: the library decides.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12

from centcert.der import (
    INTEGER,
    NULL,
    OCTETS,
    OID,
    SEQUENCE,
    SET,
    TAGGED,
    Ber,
    NotDer,
    dotted,
    element,
    fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ITERATIONS: Final = 100_000
"""Of the MAC's derivation, 0.3 us each. Windows takes 2,000, OpenSSL 2,048, Java 10,000."""

_DATA: Final = "1.2.840.113549.1.7.1"
_KEY_BAG: Final = "1.2.840.113549.1.12.10.1.1"
_SHROUDED_KEY_BAG: Final = "1.2.840.113549.1.12.10.1.2"

_NO_BAG: Final = (
    element(OID, bytes.fromhex("2a864886f70d010c0a0106")),
    element(TAGGED, element(SEQUENCE)),
)
"""A bag of no bags (SafeContentsBag, RFC 7292 §4.2.6)."""

_DIGESTS: Final[dict[str, Callable[[bytes], hashlib._Hash]]] = {
    "1.3.14.3.2.26": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "2.16.840.1.101.3.4.2.1": hashlib.sha256,
    "2.16.840.1.101.3.4.2.2": hashlib.sha384,
    "2.16.840.1.101.3.4.2.3": hashlib.sha512,
}

_EMPTY: Final = b"\0"
"""Stands for an empty password, which the library takes for none: both key derivations fill up
with zeros (RFC 2104 §2 for PBKDF2, RFC 7292 §B.2), so that the keys are the same."""

_MAC_KEY: Final = b"\x03"  # RFC 7292 §B.3


def open_rsa(
    data: bytes, password: bytes | None
) -> tuple[rsa.RSAPrivateKey, list[x509.Certificate]] | None:
    """Return the one RSA key in ``data``, not validated, and its certificates, else ``None``.

    ``None`` says nothing about the file: neither that the password is wrong nor that
    it is damaged. What is returned, ``load_pkcs12`` with ``password`` would return too
    if the key is a good one.
    """
    try:
        pfx = _Pfx.read(data)
        private_key = _private_key(pfx, password)
        if private_key is None or not _is_authentic(pfx, password):
            return None
        rest = pkcs12.load_pkcs12(pfx.rest, password)
    except (NotDer, Ber, ValueError, IndexError, TypeError, UnsupportedAlgorithm):
        return None
    except x509.InvalidVersion:  # of a certificate
        return None
    if rest.key is not None:  # in a safe that is encrypted as a whole
        return None
    return private_key, [entry.certificate for entry in rest.additional_certs]


class _Pfx(NamedTuple):
    """A PFX with its one key bag taken out.

    Attributes:
        shrouded: whether the key is encrypted: an EncryptedPrivateKeyInfo (RFC 5958 §3).
        key: that or a PrivateKeyInfo.
        rest: a PFX of all else, without MAC.
        safe: what the MAC authenticates.
        mac: the contents of MacData.
    """

    shrouded: bool
    key: bytes
    rest: bytes
    safe: bytes
    mac: bytes

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Raise ``ValueError`` also if there is no MAC, or not exactly one key bag."""
        (body,) = fields(data, SEQUENCE)
        version, auth_safe, mac = fields(body, INTEGER, SEQUENCE, SEQUENCE)
        data_type, content = fields(auth_safe, OID, TAGGED)
        (safe,) = fields(content, OCTETS)
        (infos,) = fields(safe, SEQUENCE)
        keys: list[tuple[str, bytes]] = []
        others: list[bytes] = []
        for info in fields(infos, more=SEQUENCE):
            kind, value = fields(info, OID, TAGGED)
            if dotted(kind) == _DATA:
                found, value = _parted(value)
                keys += found
            others.append(element(SEQUENCE, element(OID, kind), element(TAGGED, value)))
        ((bag_kind, key),) = keys
        rest = element(
            SEQUENCE,
            element(INTEGER, version),
            element(
                SEQUENCE,
                element(OID, data_type),
                element(TAGGED, element(OCTETS, element(SEQUENCE, *others))),
            ),
        )
        return cls(bag_kind == _SHROUDED_KEY_BAG, key, rest, safe, mac)


def _parted(content: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Part a safe's contents (RFC 7292 §4.2): its keys with their kinds, and all but these.

    In a key's place stays what its bag says of it, for the library to look at.
    """
    (octets,) = fields(content, OCTETS)
    (bags,) = fields(octets, SEQUENCE)
    keys: list[tuple[str, bytes]] = []
    others: list[bytes] = []
    for bag in fields(bags, more=SEQUENCE):
        bag_kind, value, *attributes = fields(bag, OID, TAGGED, SET)
        kind = dotted(bag_kind)
        if kind in {_KEY_BAG, _SHROUDED_KEY_BAG}:
            keys.append((kind, value))
            bag = b"".join((*_NO_BAG, *(element(SET, one) for one in attributes)))  # noqa: PLW2901
        others.append(element(SEQUENCE, bag))
    return keys, element(OCTETS, element(SEQUENCE, *others))


def _private_key(pfx: _Pfx, password: bytes | None) -> rsa.RSAPrivateKey | None:
    private_key = load_der_private_key(
        pfx.key,
        (password or _EMPTY) if pfx.shrouded else None,
        unsafe_skip_rsa_key_validation=True,
    )
    return private_key if isinstance(private_key, rsa.RSAPrivateKey) else None


def _is_authentic(pfx: _Pfx, password: bytes | None) -> bool:
    """Verify the MAC in password integrity mode (RFC 7292 §4, §A; RFC 2104)."""
    digest_info, salt, *iterations = fields(pfx.mac, SEQUENCE, OCTETS, INTEGER)
    algorithm, expected = fields(digest_info, SEQUENCE, OCTETS)
    digest_oid, *parameters = fields(algorithm, OID, NULL)
    digest = _DIGESTS.get(dotted(digest_oid))
    count = int.from_bytes(iterations[0]) if iterations else 1
    if digest is None or any(parameters) or not 1 <= count <= MAX_ITERATIONS:
        return False
    # Of no password, OpenSSL makes an empty text with its end mark, Windows nothing at all.
    texts = (password.decode().encode("utf-16-be") + b"\0\0",) if password else (b"\0\0", b"")
    return any(
        hmac.compare_digest(
            hmac.digest(_derived(digest, text, salt, count), pfx.safe, digest(b"").name), expected
        )
        for text in texts
    )


def _derived(
    digest: Callable[[bytes], hashlib._Hash], text: bytes, salt: bytes, count: int
) -> bytes:
    """Derive a MAC's key, which is as long as one digest (RFC 7292 §B.2)."""
    block = digest(b"").block_size
    derived = _MAC_KEY * block + _filled(salt, block) + _filled(text, block)
    for _ in range(count):
        derived = digest(derived).digest()
    return derived


def _filled(text: bytes, block: int) -> bytes:
    """Repeat ``text`` up to a whole number of blocks."""
    size = block * math.ceil(len(text) / block)
    return (text * (size // len(text) + 1))[:size] if text else b""
