"""What a certificate says, in the words that administrators look for it by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from centcert.credential import Credential

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class Facts(msgspec.Struct, frozen=True):
    """What a credential's certificate says. All text is printable.

    Attributes:
        issued_to: the subject's common name, else its organisation, else its first name.
        issued_by: the issuer's, likewise.
        names: the dNSNames, in lower case.
        public_key: for example ``P-256``, ``RSA 2048``.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        fingerprint: SHA-256 of the certificate, in hex.
        chain: the issuers that are sent, each by what ``issued_to`` would be.
    """

    issued_to: str
    issued_by: str
    names: tuple[str, ...]
    public_key: str
    not_before: float
    not_after: float
    fingerprint: str
    chain: tuple[str, ...]


def facts(credential: Credential) -> Facts:
    """Read what the certificate of ``credential`` says."""
    leaf = credential.certificate
    names = tuple(printable(pattern) for pattern in credential.patterns)
    return Facts(
        issued_to=called(leaf.subject) or (names[0] if names else "nobody"),
        issued_by=called(leaf.issuer) or "nobody",
        names=names,
        public_key=kind_of(leaf.public_key()),
        not_before=credential.not_before,
        not_after=credential.not_after,
        fingerprint=credential.fingerprint.hex(),
        chain=tuple(called(issuer.subject) or "nobody" for issuer in credential.issuers),
    )


def called(name: x509.Name) -> str:
    """Return what a subject or issuer is called: its common name, else its organisation.

    Empty if it has neither, or the certificate breaks RFC 5280 there.
    """
    try:
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
            for attribute in name.get_attributes_for_oid(oid):
                return printable(str(attribute.value))
    except ValueError:
        pass
    return ""


def kind_of(public_key: CertificatePublicKeyTypes) -> str:
    """Name the kind and size of a public key."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA {public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _CURVES.get(public_key.curve.name, public_key.curve.name)
    if isinstance(public_key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "Ed25519" if isinstance(public_key, ed25519.Ed25519PublicKey) else "Ed448"
    return type(public_key).__name__.removesuffix("PublicKey").lstrip("_")


def printable(text: str) -> str:
    """Escape what is not printable: a certificate may hold a terminal's commands."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
