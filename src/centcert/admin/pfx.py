"""Write a credential as PKCS #12, so that IIS and Centcert both read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from centcert.errors import SettingsError

if TYPE_CHECKING:
    from centcert.credential import Credential

ITERATIONS: Final = 2_048
"""Rounds of PBKDF2, OpenSSL's number as Windows' is 2,000.

More would only delay each name's first visitor (100,000 rounds: 36 ms in place of 1.4): a guesser
tries passwords at the MAC, and that has 2,048 rounds whatever is chosen here. What protects a
file is a long random password, which is typed once into a file for all of the farm.
"""


def write_pfx(credential: Credential, password: bytes | None) -> bytes:
    """Return key, certificate and issuers as PKCS #12 (RFC 7292).

    With a password: PBES2 with AES-256-CBC and HMAC-SHA256 (RFC 8018 §6.2), and a SHA-256
    MAC, as Windows Server 2019 and later write it themselves by ``AES256_SHA256``.

    Args:
        credential: what to write.
        password: UTF-8; ``None``: the private key is not encrypted.

    Raises:
        SettingsError: the password is empty or no text (RFC 7292 §B.1).
    """
    encryption: KeySerializationEncryption = NoEncryption()
    if password is not None:
        _check_text(password)
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(ITERATIONS)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(password)
        )
    return pkcs12.serialize_key_and_certificates(
        None, credential.private_key, credential.certificate, credential.issuers, encryption
    )


def _check_text(password: bytes) -> None:
    try:
        text = password.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise SettingsError("The password of a PFX file is text in UTF-8, and not empty.")
