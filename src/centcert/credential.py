"""Turn the bytes of a file into a credential, or say what is wrong with them. No I/O.

What decides here is the file alone. Whether its certificate covers the name that was
asked for, and whether its dates are right, is for the caller: see ``Credential.covers``
and ``Credential.within_dates``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from centcert import names
from centcert.errors import (
    BlobDamaged,
    BlobTooLarge,
    CertificateMissing,
    KeyMismatch,
    KeyMissing,
    UnsupportedKey,
    WrongUsage,
)
from centcert.pem import BEGIN, read_pem
from centcert.pkcs12 import read_pkcs12
from centcert.rsa_proof import is_sound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificatePublicKeyTypes,
        PrivateKeyTypes,
    )

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

MAX_BLOB_BYTES: Final = 256 * 1024
"""The largest file a store hands out. A chain of RSA-4096 certificates is under 16 KiB."""

MAX_ISSUERS: Final = 8
"""The longest chain that is sent. Public chains have one to three; OpenSSL's own bound is 100."""

MAX_VERIFICATIONS: Final = 32
"""Signatures checked for one chain, however many certificates a file holds."""

REMEMBERED: Final = 64
"""Certificates whose key and names are not read again: one CA has issued most of a store's files.
2 KB each as a rule; the decoder's bound on memory is theirs too."""

_ILLEGIBLE: Final = (
    ValueError,
    TypeError,  # of a name's attributes
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises over a part of a certificate that it reads when asked for it."""

_RSA_BITS: Final = range(2_048, 4_096 + 1)


@dataclass(frozen=True, slots=True)
class Parts:
    """A credential in DER, for the pipe from the process that decoded it. Never stored.

    Attributes:
        key: the store's key it came from.
        certificate: the leaf.
        issuers: as in ``Credential``.
        patterns: as in ``Credential``: reading them anew would cost the event loop 10 us each,
            and the parsed extensions, which a certificate keeps, 300 bytes each.
        private_key: PKCS #8, not encrypted.
    """

    key: str
    certificate: bytes
    issuers: tuple[bytes, ...]
    patterns: tuple[str, ...]
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Credential:
    """A certificate chain with its private key, checked to belong together.

    Compared by identity: a file decoded again is another credential. The leaf and its key are
    kept in DER, a third of the memory, as most names are seldom visited.

    Attributes:
        key: the store's key it came from.
        leaf: the leaf in DER.
        pkcs8: the private key in DER, not encrypted.
        issuers: the leaf's issuer first, each followed by its own; no root, no strangers.
        patterns: the leaf's dNSNames, in lower case. The common name is none of them
            (RFC 9525 §2), nor are IP addresses.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch, still within the dates (RFC 5280 §4.1.2.5).
        fingerprint: SHA-256 of the leaf.
        size: an estimate of the memory it takes, in bytes, as if it shared its issuers with
            nobody; bounds the cache.
    """

    key: str
    leaf: bytes = field(repr=False)
    pkcs8: bytes = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(repr=False)
    patterns: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: bytes = field(repr=False)
    size: int = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf, parsed anew: 10 us."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # serial numbers of private CAs
            return x509.load_der_x509_certificate(self.leaf)

    @property
    def private_key(self) -> PrivateKey:
        """EC P-256 or P-384, RSA of 2048 to 4096 bits, or Ed25519; loaded anew: 50 us."""
        loaded = load_der_private_key(self.pkcs8, None, unsafe_skip_rsa_key_validation=True)
        return _supported(loaded, self.key)

    def covers(self, name: names.HostName) -> bool:
        """Say whether the certificate is one for ``name`` (RFC 9525 §6.3)."""
        return any(names.covers(pattern, name) for pattern in self.patterns)

    def within_dates(self, now: float) -> bool:
        """Say whether the leaf is valid at ``now``, in seconds since the epoch."""
        return self.not_before <= now <= self.not_after

    def to_parts(self) -> Parts:
        """Return what ``from_parts`` makes an equal credential of."""
        return Parts(
            self.key,
            self.leaf,
            tuple(issuer.public_bytes(Encoding.DER) for issuer in self.issuers),
            self.patterns,
            self.pkcs8,
        )

    @classmethod
    def from_parts(
        cls,
        parts: Parts,
        *,
        load_issuer: Callable[[bytes], x509.Certificate] = x509.load_der_x509_certificate,
    ) -> Self:
        """Make a credential of what ``to_parts`` returned.

        Nothing is checked again: ``decode`` has done it. A ``load_issuer`` that remembers
        lets credentials share their issuers.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # serial numbers of private CAs
            leaf = x509.load_der_x509_certificate(parts.certificate)
            issuers = tuple(load_issuer(der) for der in parts.issuers)
        return cls(
            key=parts.key,
            leaf=parts.certificate,
            pkcs8=parts.private_key,
            issuers=issuers,
            patterns=parts.patterns,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            fingerprint=sha256(parts.certificate).digest(),
            size=_memory_of(parts),
        )


def decode(data: bytes, *, key: str, passwords: Sequence[bytes]) -> Credential:
    """Decode a PKCS #12 or PEM file and check it.

    The content says which of the two it is, not the suffix of ``key``: that only says
    which look-up finds the file, and a renamed file harms nobody. The leaf is the
    certificate of the file's private key; of several, the one that is valid longest.
    An expired certificate decodes. So does a self-signed one that is also a CA, as
    ``openssl req -x509`` makes it.

    Takes 1 to 3 ms without releasing the GIL, 50 ms for an RSA key in an unusual file
    (see ``pkcs12_rsa``), and as long as a hostile one wants (its key derivation): elsewhere
    than in a command or a test, use ``provider.decoder``.

    Args:
        data: the file, at most ``MAX_BLOB_BYTES``.
        key: the store's key of the file, for the errors.
        passwords: tried in order; a file without password opens whatever they are.

    Raises:
        BadBlob: one of its subclasses says what is wrong. Only ``BlobDamaged`` may pass
            by itself, when the file's writer is done.
    """
    return Credential.from_parts(decode_parts(data, key=key, passwords=passwords))


def decode_parts(data: bytes, *, key: str, passwords: Sequence[bytes]) -> Parts:
    """As ``decode``, for a process that hands the parts on."""
    if len(data) > MAX_BLOB_BYTES:
        raise BlobTooLarge(
            key, f"it is larger than {MAX_BLOB_BYTES // 1024} KiB: is it a certificate at all?"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what private CAs make of serial numbers and names; BER
        return _checked(data, key, passwords)


def _checked(data: bytes, key: str, passwords: Sequence[bytes]) -> Parts:
    read = read_pem if BEGIN in data else read_pkcs12
    found_key, certificates = read(data, key=key, passwords=passwords)
    if not certificates:
        raise CertificateMissing(key, "it holds no certificate: export it with its certificate")
    if found_key is None:
        raise KeyMissing(key, "it holds no private key: export it together with its private key")
    private_key = _supported(found_key, key)
    if isinstance(private_key, rsa.RSAPrivateKey) and not is_sound(private_key):
        raise BlobDamaged(key, "its private key is damaged and signs nothing: export it again")
    leaf = _leaf(certificates, private_key, key)
    try:
        _check_usage(leaf, key)
        issuers = _issuers(leaf, certificates)
        patterns = _patterns(leaf)
    except _ILLEGIBLE as error:
        raise BlobDamaged(
            key, "its certificate breaks RFC 5280 and cannot be read: have it issued again"
        ) from error
    return Parts(
        key,
        leaf.public_bytes(Encoding.DER),
        tuple(issuer.public_bytes(Encoding.DER) for issuer in issuers),
        patterns,
        private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )


def _memory_of(parts: Parts) -> int:
    """Estimate a credential's memory: a little above what 2,000 in one process took.

    With cryptography 50 and one issuer, measured/estimated: EC P-256 2.4/3.2 KB, RSA-2048
    4.2/4.5 KB, RSA-4096 5.2/5.9 KB, P-256 with 100 names 13.3/13.7 KB; 1.3 KB less each
    where the issuer is shared.
    """
    return (
        1_200
        + len(parts.certificate)
        + sum(len(der) + 850 for der in parts.issuers)
        + sum(len(pattern) + 68 for pattern in parts.patterns)
        + len(parts.private_key)
    )


def _supported(private_key: PrivateKeyTypes, key: str) -> PrivateKey:
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        if isinstance(private_key.curve, ec.SECP256R1 | ec.SECP384R1):
            return private_key
        shown = f"EC {private_key.curve.name}"
    elif isinstance(private_key, rsa.RSAPrivateKey):
        if private_key.key_size in _RSA_BITS:
            return private_key
        shown = f"RSA of {private_key.key_size} bits"
    else:
        shown = "not one for TLS certificates"
    raise UnsupportedKey(
        key,
        f"its private key is {shown}: have the certificate issued for EC P-256, EC P-384,"
        " Ed25519 or RSA of 2048 to 4096 bits",
    )


def _leaf(
    certificates: Sequence[x509.Certificate], private_key: PrivateKey, key: str
) -> x509.Certificate:
    wanted = _spki(private_key.public_key())
    own = [certificate for certificate in certificates if _public_key(certificate) == wanted]
    if not own:
        raise KeyMismatch(
            key, "its private key belongs to none of its certificates: export the pair again"
        )
    return max(own, key=lambda certificate: certificate.not_valid_after_utc)


@lru_cache(REMEMBERED)
def _public_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return _spki(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _spki(public_key: CertificatePublicKeyTypes) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _issuers(
    leaf: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Build the chain of ``leaf``: its issuers in order, up to the root, without it.

    Of several that fit (cross-signed or renewed CAs) a root wins, as it makes the chain
    short, then the one that is valid longest. Each certificate is used once, so that
    two CAs that sign each other come to an end.
    """
    last = _Link.read(leaf)
    others = (certificate for certificate in certificates if certificate != leaf)
    spare = [link for link in map(_legible, others) if link]
    spare.sort(key=lambda link: (link.is_root, link.not_after), reverse=True)
    chain: list[_Link] = []
    left = MAX_VERIFICATIONS
    while not last.is_root and len(chain) < MAX_ISSUERS:
        for candidate in spare:
            if candidate.subject != last.issuer or left == 0:
                continue
            left -= 1
            if _issued(last, candidate):
                break
        else:
            break
        spare.remove(candidate)
        chain.append(candidate)
        last = candidate
    return tuple(link.certificate for link in chain if not link.is_root)


class _Link(NamedTuple):
    """A certificate with what its place in a chain depends on, read once."""

    certificate: x509.Certificate
    subject: x509.Name
    issuer: x509.Name
    not_after: datetime

    @classmethod
    def read(cls, certificate: x509.Certificate) -> Self:
        return cls(
            certificate, certificate.subject, certificate.issuer, certificate.not_valid_after_utc
        )

    @property
    def is_root(self) -> bool:
        return self.subject == self.issuer


@lru_cache(REMEMBERED)
def _legible(certificate: x509.Certificate) -> _Link | None:
    try:
        return _Link.read(certificate)
    except _ILLEGIBLE:
        return None


def _issued(link: _Link, issuer: _Link) -> bool:
    """Say whether a certificate was issued with the key of ``issuer``, which bears the right name.

    As a rule it says so itself, by the hash of that key (RFC 5280 §4.2.1.1): then its signature
    is for the client to check, which takes a quarter of a file's time. Else the signature tells.
    """
    named = _issuing_key(link.certificate)
    if named is not None and named == _key_identifier(issuer.certificate):
        return True
    try:
        link.certificate.verify_directly_issued_by(issuer.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuing_key(certificate: x509.Certificate) -> bytes | None:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, *_ILLEGIBLE):
        return None
    return extension.value.key_identifier


@lru_cache(REMEMBERED)
def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    """Hash the key itself: what a certificate says of its own key, it could say of any."""
    try:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    except (ValueError, UnsupportedAlgorithm):
        return None


def _check_usage(leaf: x509.Certificate, key: str) -> None:
    """Refuse a certificate that clients would not take from a TLS server.

    Extended key usage: absent or any is fine (RFC 5280 §4.2.1.12). Key usage: with
    ephemeral Diffie-Hellman the key only signs (RFC 8446 §4.4.2.2); browsers insist.
    """
    extensions = leaf.extensions
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        pass
    else:
        served = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
        if served.isdisjoint(purposes):
            raise WrongUsage(
                key,
                "its certificate is not for TLS servers (extended key usage without serverAuth):"
                " have one issued for server authentication",
            )
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise WrongUsage(
            key,
            "its certificate's key must not sign (key usage without digitalSignature), as TLS"
            " needs: have it issued again with it",
        )


def _patterns(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(pattern.lower() for pattern in san.get_values_for_type(x509.DNSName))
