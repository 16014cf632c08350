"""Files that no maker at hand writes: put together here, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from centcert import pkcs12
from centcert.credential import decode
from centcert.errors import BadBlob, BlobDamaged, UnsupportedEncryption, WrongPassword
from centcert.testing import Authority

if TYPE_CHECKING:
    from centcert.testing import Issued

KEY = "www.contoso.example.pfx"
PASSWORD = b"correct horse"

AES_256_CBC = bytes.fromhex("060960864801650304012a")
PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
PBMAC1 = bytes.fromhex("06092a864886f70d01050e")
HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
SHA256 = bytes.fromhex("0609608648016503040201")
NULL = b"\x05\0"
INTEGER, OCTETS, SEQUENCE = 0x02, 0x04, 0x30


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Authority().issue("www.contoso.example")


def refusal(data: bytes, *passwords: bytes) -> BadBlob:
    with pytest.raises(BadBlob) as caught:
        decode(data, key=KEY, passwords=passwords)
    return caught.value


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    header = bytes([len(body)]) if len(body) < 0x80 else bytes([0x80 | len(size)]) + size
    return bytes([tag]) + header + body


def split(element: bytes) -> list[bytes]:
    """The elements inside of one element, each whole."""
    found, at, end = [], body_of(element)[0], len(element)
    while at < end:
        start, length = body_of(element[at:])
        found.append(element[at : at + start + length])
        at += start + length
    return found


def body_of(element: bytes) -> tuple[int, int]:
    if element[1] < 0x80:
        return 2, element[1]
    start = 2 + (element[1] & 0x7F)
    return start, int.from_bytes(element[2:start])


def octets_of(auth_safe: bytes) -> bytes:
    """The contents of a data ContentInfo: SEQUENCE, [0], OCTET STRING."""
    (octets,) = split(split(auth_safe)[1])
    return octets[body_of(octets)[0] :]


def indefinite(element: bytes) -> bytes:
    return element[:1] + b"\x80" + element[body_of(element)[0] :] + b"\0\0"


# --- what opens -----------------------------------------------------------------------


def test_a_pbmac1_file_opens(issued: Issued) -> None:  # RFC 9579
    version, auth_safe, _mac = split(issued.pfx())
    salt = b"eight by"
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, 2_048).derive(PASSWORD)
    authenticator = hmac.HMAC(key, hashes.SHA256())
    authenticator.update(octets_of(auth_safe))
    prf = der(SEQUENCE, HMAC_SHA256, NULL)
    derivation = der(
        SEQUENCE,
        der(OCTETS, salt),
        der(INTEGER, (2_048).to_bytes(2)),
        der(INTEGER, b"\x20"),
        prf,
    )
    scheme = der(SEQUENCE, PBMAC1, der(SEQUENCE, der(SEQUENCE, PBKDF2, derivation), prf))
    digest_info = der(SEQUENCE, scheme, der(OCTETS, authenticator.finalize()))
    mac = der(SEQUENCE, digest_info, der(OCTETS, b"NOT USED"), der(INTEGER, b"\1"))
    data = der(SEQUENCE, version, auth_safe, mac)
    assert decode(data, key=KEY, passwords=[PASSWORD]).certificate == issued.certificate
    assert type(refusal(data, b"wrong")) is WrongPassword


def test_a_file_in_ber_opens_as_far_as_its_end_is_there(issued: Issued) -> None:
    data = indefinite(issued.pfx(PASSWORD))
    assert decode(data, key=KEY, passwords=[PASSWORD]).certificate == issued.certificate
    assert type(refusal(data, b"wrong")) is WrongPassword
    assert type(refusal(data[:-30], PASSWORD)) is BlobDamaged


# --- why one does not -----------------------------------------------------------------


def test_an_unknown_cipher_is_named(issued: Issued) -> None:
    data = issued.pfx(PASSWORD)
    assert data.count(AES_256_CBC) == 2  # the certificates and the key
    unknown = AES_256_CBC[:-1] + b"\x7f"
    for times in (1, 2):
        error = refusal(data.replace(AES_256_CBC, unknown, times), PASSWORD)
        assert type(error) is UnsupportedEncryption
        assert "2.16.840.1.101.3.4.1.127" in str(error)
        assert "export it again with AES-256" in str(error)
    only_the_key = unknown.join(data.rsplit(AES_256_CBC, 1))
    assert type(refusal(only_the_key, PASSWORD)) is UnsupportedEncryption


def test_an_unknown_digest_of_the_mac_is_named(issued: Issued) -> None:
    data = SHA256[:-1].join(issued.pfx(PASSWORD).rsplit(SHA256[:-1], 1))
    assert data.count(SHA256) == 1
    error = refusal(data.replace(SHA256, SHA256[:-1] + b"\x7f"), PASSWORD)
    assert type(error) is UnsupportedEncryption
    assert "2.16.840.1.101.3.4.2.127" in str(error)


def test_a_library_without_old_ciphers_is_no_wrong_password(
    issued: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    rc2_40 = bytes.fromhex("060a2a864886f70d010c0106")
    version, auth_safe, mac = split(issued.pfx(PASSWORD))
    data_type, _ = split(auth_safe)
    encrypted_info = split(octets_of(auth_safe))[0]
    encrypted_type, _ = split(encrypted_info)
    content = der(SEQUENCE, data_type, der(SEQUENCE, rc2_40, der(SEQUENCE)), der(0x80, b"x" * 8))
    info = der(SEQUENCE, encrypted_type, der(0xA0, der(SEQUENCE, der(INTEGER, b"\0"), content)))
    safe = der(SEQUENCE, data_type, der(0xA0, der(OCTETS, der(SEQUENCE, info))))
    data = der(SEQUENCE, version, safe, mac)
    assert type(refusal(data, b"wrong")) is WrongPassword
    monkeypatch.setattr(pkcs12, "_legacy_is_readable", lambda: False)
    error = refusal(data, b"wrong")
    assert type(error) is UnsupportedEncryption
    assert error.sentence == "it is protected with RC2-40: export it again with AES-256"


def test_the_wheels_library_reads_old_ciphers() -> None:
    assert pkcs12._legacy_is_readable()


def test_a_file_without_a_part_of_it_is_damaged(issued: Issued) -> None:
    version, auth_safe, mac = split(issued.pfx(PASSWORD))
    for parts in ((), (version,), (auth_safe, mac), (version, mac), (version, version, version)):
        assert type(refusal(der(SEQUENCE, *parts), PASSWORD)) is BlobDamaged


def test_a_certificate_of_no_known_version_is_damaged(issued: Issued) -> None:
    version, auth_safe, _mac = split(issued.pfx())
    odd = auth_safe.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x42")
    assert odd != auth_safe
    error = refusal(der(SEQUENCE, version, odd))
    assert type(error) is BlobDamaged
    assert "certificates" in str(error)
