"""Open PKCS #12 files (RFC 7292), and say why one does not open.

The library parses and decrypts. It has one answer for a wrong password, a damaged
file and an unknown cipher alike, so a look at the file's outer structure tells them
apart afterwards; nothing but a sentence ever comes out of that look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import pkcs12

from centcert.der import (
    HIGH_BIT,
    INTEGER,
    OCTETS,
    OID,
    SEQUENCE,
    TAGGED,
    Ber,
    NotDer,
    dotted,
    fields,
)
from centcert.errors import BadBlob, BlobDamaged, UnsupportedEncryption, WrongPassword
from centcert.pkcs12_rsa import open_rsa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Contents: TypeAlias = "tuple[PrivateKeyTypes | None, list[x509.Certificate]]"
"""What a file holds: its first private key, and its certificates in no certain order."""


def read_pkcs12(data: bytes, *, key: str, passwords: Sequence[bytes]) -> Contents:
    """Open a PKCS #12 file with the first of ``passwords`` that fits, else with none.

    A file without a password opens in both its forms: OpenSSL derives the MAC from an
    empty string, Windows from no string at all. A file with several private keys gives
    its first. BER is accepted where the library does (old Java and macOS write it), and
    so is what follows a whole file. The library's warnings about them are the caller's.

    Raises:
        BlobDamaged: not a whole PKCS #12 file; a writer may be at work.
        WrongPassword: whole, but no password fits.
        UnsupportedEncryption: protected by an algorithm that the library cannot read.
    """
    for password in (*filter(_is_text, passwords), None):
        if opened := open_rsa(data, password):
            return opened
        try:
            loaded = pkcs12.load_pkcs12(data, password)
        except (ValueError, UnsupportedAlgorithm):
            continue
        except x509.InvalidVersion as error:
            raise BlobDamaged(
                key, "one of its certificates cannot be read: export the file again"
            ) from error
        entries = [*([loaded.cert] if loaded.cert else []), *loaded.additional_certs]
        return loaded.key, [entry.certificate for entry in entries]
    raise _why_closed(data, key, len(passwords))


def why_wrong(passwords: int) -> str:
    """Return the sentence about a password that is needed and not among ``passwords`` ones."""
    if passwords == 0:
        return "it needs a password, and the store has no key password: set one"
    if passwords == 1:
        return "the password is wrong: the store's key password does not open it"
    return f"the password is wrong: none of the store's {passwords} key passwords opens it"


def _is_text(password: bytes) -> bool:
    """PKCS #12 passwords are text (RFC 7292 §B.1); OpenSSL's end at a NUL."""
    try:
        return "\0" not in password.decode()
    except UnicodeDecodeError:
        return False


def _why_closed(data: bytes, key: str, passwords: int) -> BadBlob:
    try:
        algorithms = _algorithms_seen(data)
    except (NotDer, ValueError, IndexError):
        return BlobDamaged(
            key, "it is not a whole PKCS #12 file: if no writer is at work, export it again"
        )
    for oid in algorithms:
        name = _ALGORITHMS.get(oid)
        if name is None or (name in _LEGACY and not _legacy_is_readable()):
            shown = name or f"an unknown algorithm ({oid})"
            return UnsupportedEncryption(
                key, f"it is protected with {shown}: export it again with AES-256"
            )
    return WrongPassword(key, why_wrong(passwords))


def _legacy_is_readable() -> bool:
    """Say whether the library's OpenSSL brings its legacy provider; the wheels' does."""
    try:
        Cipher(RC2(bytes(16)), CBC(bytes(8))).encryptor()
    except UnsupportedAlgorithm:
        return False
    return True


# --- a look at the outer structure: definite-length DER only, a fixed depth -----------

_LEGACY: Final = frozenset({"RC4-128", "RC4-40", "RC2-128", "RC2-40", "single DES"})

_ALGORITHMS: Final = {
    # RFC 7292 appendix C
    "1.2.840.113549.1.12.1.1": "RC4-128",
    "1.2.840.113549.1.12.1.2": "RC4-40",
    "1.2.840.113549.1.12.1.3": "3DES",
    "1.2.840.113549.1.12.1.4": "two-key 3DES",
    "1.2.840.113549.1.12.1.5": "RC2-128",
    "1.2.840.113549.1.12.1.6": "RC2-40",
    # RFC 8018 appendices A and B
    "1.2.840.113549.1.5.3": "single DES",
    "1.2.840.113549.1.5.6": "RC2-40",
    "1.2.840.113549.1.5.10": "single DES",
    "1.2.840.113549.1.5.11": "RC2-40",
    "1.2.840.113549.1.5.12": "PBKDF2",
    "1.2.840.113549.1.5.14": "PBMAC1",
    "1.3.6.1.4.1.11591.4.11": "scrypt",
    "1.2.840.113549.3.2": "RC2-128",
    "1.2.840.113549.3.7": "3DES",
    "1.3.14.3.2.7": "single DES",
    "2.16.840.1.101.3.4.1.2": "AES-128",
    "2.16.840.1.101.3.4.1.22": "AES-192",
    "2.16.840.1.101.3.4.1.42": "AES-256",
    "1.2.392.200011.61.1.1.1.2": "Camellia-128",
    "1.2.392.200011.61.1.1.1.3": "Camellia-192",
    "1.2.392.200011.61.1.1.1.4": "Camellia-256",
    "1.2.410.200046.1.1.2": "ARIA-128",
    "1.2.410.200046.1.1.7": "ARIA-192",
    "1.2.410.200046.1.1.12": "ARIA-256",
    # the MAC's digests
    "1.2.840.113549.2.5": "MD5",
    "1.3.14.3.2.26": "SHA-1",
    "2.16.840.1.101.3.4.2.1": "SHA-256",
    "2.16.840.1.101.3.4.2.2": "SHA-384",
    "2.16.840.1.101.3.4.2.3": "SHA-512",
    "2.16.840.1.101.3.4.2.4": "SHA-224",
    "2.16.840.1.101.3.4.2.5": "SHA-512/224",
    "2.16.840.1.101.3.4.2.6": "SHA-512/256",
    "2.16.840.1.101.3.4.2.7": "SHA3-224",
    "2.16.840.1.101.3.4.2.8": "SHA3-256",
    "2.16.840.1.101.3.4.2.9": "SHA3-384",
    "2.16.840.1.101.3.4.2.10": "SHA3-512",
}
_PBES2: Final = "1.2.840.113549.1.5.13"
_ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
_DATA: Final = "1.2.840.113549.1.7.1"
_SHROUDED_KEY_BAG: Final = "1.2.840.113549.1.12.10.1.2"


def _algorithms_seen(pfx: bytes) -> list[str]:
    """Return what ``_algorithms`` yields; of a whole file in BER, nothing."""
    try:
        return list(_algorithms(pfx))
    except Ber:
        if pfx[1] == HIGH_BIT and not pfx.endswith(b"\0\0"):  # X.690 §8.1.5: its end is missing
            raise NotDer from None
        return []


def _algorithms(pfx: bytes) -> Iterator[str]:
    """Yield the object identifiers of what protects the file, as far as one sees it."""
    (body,) = fields(pfx, SEQUENCE)
    _version, auth_safe, *mac = fields(body, INTEGER, SEQUENCE)
    for info in _sequence_of(fields(auth_safe, OID, TAGGED)[1]):
        kind, content = fields(info, OID, TAGGED)
        if dotted(kind) == _ENCRYPTED_DATA:
            (encrypted_data,) = fields(content, SEQUENCE)
            encrypted_content = fields(encrypted_data, INTEGER, SEQUENCE)[1]
            yield from _scheme(fields(encrypted_content, OID, SEQUENCE)[1])
        elif dotted(kind) == _DATA:
            for bag in _sequence_of(content):
                bag_kind, value = fields(bag, OID, TAGGED)[:2]
                if dotted(bag_kind) == _SHROUDED_KEY_BAG:
                    (shrouded,) = fields(value, SEQUENCE)
                    yield from _scheme(fields(shrouded, SEQUENCE, OCTETS)[0])
        else:
            yield dotted(kind)
    if mac:
        digest_info = fields(mac[0], SEQUENCE, OCTETS)[0]
        yield from _scheme(fields(digest_info, SEQUENCE, OCTETS)[0])


def _sequence_of(content: bytes) -> list[bytes]:
    """Open an OCTET STRING that holds a SEQUENCE OF SEQUENCE (RFC 7292 §4.1, §4.2)."""
    (octets,) = fields(content, OCTETS)
    (elements,) = fields(octets, SEQUENCE)
    return fields(elements)


def _scheme(identifier: bytes) -> Iterator[str]:
    """Yield an AlgorithmIdentifier; for PBES2 its two parts instead (RFC 8018 §A.4)."""
    oid, *parameters = fields(identifier, OID)
    if dotted(oid) != _PBES2:
        yield dotted(oid)
        return
    for part in fields(parameters[0], SEQUENCE, SEQUENCE):
        yield dotted(fields(part, OID)[0])
