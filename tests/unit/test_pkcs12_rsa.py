"""The short way to an RSA key, and that it says nothing where the library must decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from centcert import pkcs12_rsa
from centcert.credential import decode
from centcert.der import INTEGER, OCTETS, OID, SEQUENCE, TAGGED, dotted, element, fields
from centcert.errors import BadBlob, BlobDamaged, WrongPassword
from centcert.pkcs12_rsa import MAX_ITERATIONS, open_rsa
from centcert.testing import Authority

if TYPE_CHECKING:
    from centcert.testing import Issued

KEY = "www.contoso.example.pfx"
PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("www.contoso.example", key_type="rsa-2048")


def refusal(data: bytes, *passwords: bytes) -> BadBlob:
    with pytest.raises(BadBlob) as caught:
        decode(data, key=KEY, passwords=passwords)
    return caught.value


def with_mac(data: bytes, **changes: bytes) -> bytes:
    """Change the ``salt``, ``count`` or ``expected`` of a file's MAC."""
    (body,) = fields(data, SEQUENCE)
    version, auth_safe, mac = fields(body)
    digest_info, salt, count = fields(mac)
    algorithm, expected = fields(digest_info)
    changed = {"salt": salt, "count": count, "expected": expected, **changes}
    return element(
        SEQUENCE,
        element(INTEGER, version),
        element(SEQUENCE, auth_safe),
        element(
            SEQUENCE,
            element(SEQUENCE, element(SEQUENCE, algorithm), element(OCTETS, changed["expected"])),
            element(OCTETS, changed["salt"]),
            element(INTEGER, changed["count"]),
        ),
    )


@pytest.mark.parametrize("password", [PASSWORD, "Grüße €".encode(), "𝄞".encode(), None])
@pytest.mark.parametrize("rounds", [1, 2_048])
@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA256(), hashes.SHA512()])
@pytest.mark.parametrize(
    "cipher",
    [pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, pkcs12.PBES.PBESv2SHA256AndAES256CBC],
)
def test_it_is_what_the_library_finds(
    issued: Issued,
    password: bytes | None,
    rounds: int,
    digest: hashes.HashAlgorithm,
    cipher: pkcs12.PBES,
):
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(rounds)
        .key_cert_algorithm(cipher)
        .hmac_hash(digest)
    )
    data = pkcs12.serialize_key_and_certificates(
        None,
        issued.private_key,
        issued.certificate,
        issued.chain,
        encryption.build(password) if password else NoEncryption(),
    )
    opened = open_rsa(data, password)
    assert opened is not None
    private_key, certificates = opened
    assert isinstance(issued.private_key, rsa.RSAPrivateKey)
    assert private_key.private_numbers() == issued.private_key.private_numbers()
    assert set(certificates) == {issued.certificate, *issued.chain}


def test_the_library_is_not_asked_to_prove_primes(issued: Issued, monkeypatch: pytest.MonkeyPatch):
    loaded_keys = []
    load_pkcs12 = pkcs12.load_pkcs12

    def load(data: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates:
        loaded = load_pkcs12(data, password)
        loaded_keys.append(loaded.key)
        return loaded

    monkeypatch.setattr(pkcs12, "load_pkcs12", load)
    decode(issued.pfx(PASSWORD), key=KEY, passwords=[PASSWORD])
    assert loaded_keys == [None]


def test_a_mac_that_is_wrong_is_seen(issued: Issued):
    data = issued.pfx(PASSWORD)
    for changed in ({"expected": bytes(32)}, {"salt": bytes(8)}, {"count": b"\x08\x01"}):
        forged = with_mac(data, **changed)
        assert open_rsa(forged, PASSWORD) is None
        assert type(refusal(forged, PASSWORD)) is WrongPassword
    assert open_rsa(with_mac(data), PASSWORD) is not None


def test_a_mac_that_takes_long_is_left_to_the_library(
    issued: Issued, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pkcs12_rsa, "MAX_ITERATIONS", 2_047)
    assert open_rsa(issued.pfx(PASSWORD), PASSWORD) is None
    monkeypatch.undo()
    endless = with_mac(issued.pfx(PASSWORD), count=(MAX_ITERATIONS + 1).to_bytes(4))
    assert open_rsa(endless, PASSWORD) is None


def test_a_certificate_put_in_later_is_seen(issued: Issued, authority: Authority):
    """Guards: without its MAC the rest of the file would be anybody's."""
    ours, theirs = fields(issued.pfx(PASSWORD))[0], fields(authority.issue("x").pfx(PASSWORD))[0]
    (version, ours_safe, mac), their_safe = fields(ours), fields(theirs)[1]
    infos = [
        fields(fields(fields(fields(safe)[1])[0])[0])[index]
        for safe, index in ((their_safe, 0), (ours_safe, 1))
    ]
    mixed = element(
        SEQUENCE,
        element(INTEGER, version),
        element(
            SEQUENCE,
            element(OID, fields(ours_safe)[0]),
            element(
                TAGGED,
                element(OCTETS, element(SEQUENCE, *(element(SEQUENCE, one) for one in infos))),
            ),
        ),
        element(SEQUENCE, mac),
    )
    assert open_rsa(mixed, PASSWORD) is None


def test_of_two_keys_the_library_chooses(issued: Issued, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pkcs12_rsa, "_is_authentic", lambda *_: True)
    version, auth_safe, mac = fields(fields(issued.pfx(PASSWORD))[0])
    data_type, content = fields(auth_safe)
    infos = [element(SEQUENCE, info) for info in fields(fields(fields(content)[0])[0])]
    for given, opens in ((infos, True), ([*infos, infos[-1]], False)):
        safe = element(OCTETS, element(SEQUENCE, *given))
        data = element(
            SEQUENCE,
            element(INTEGER, version),
            element(SEQUENCE, element(OID, data_type), element(TAGGED, safe)),
            element(SEQUENCE, mac),
        )
        assert (open_rsa(data, PASSWORD) is not None) is opens


@pytest.mark.parametrize("password", [b"wrong", None])
def test_a_wrong_password_says_nothing(issued: Issued, password: bytes | None):
    assert open_rsa(issued.pfx(PASSWORD), password) is None


def test_other_keys_and_what_follows_a_file_are_the_librarys(issued: Issued, authority: Authority):
    assert open_rsa(authority.issue("x").pfx(PASSWORD), PASSWORD) is None
    assert open_rsa(issued.pfx(PASSWORD) + b"rest", PASSWORD) is None
    assert open_rsa(b"", PASSWORD) is None
    lonely = pkcs12.serialize_key_and_certificates(
        None, None, None, [issued.certificate], BestAvailableEncryption(PASSWORD)
    )
    assert open_rsa(lonely, PASSWORD) is None


def test_a_damaged_key_is_no_wrong_password(issued: Issued):
    """The library finds it too, and ``decode`` could only call it a wrong password."""
    private_key = issued.private_key
    assert isinstance(private_key, rsa.RSAPrivateKey)
    numbers = private_key.private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        numbers.p,
        numbers.q,
        numbers.d,
        numbers.dmp1 ^ 2,
        numbers.dmq1,
        numbers.iqmp,
        numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    data = pkcs12.serialize_key_and_certificates(
        None, damaged, issued.certificate, None, BestAvailableEncryption(PASSWORD)
    )
    with pytest.raises(ValueError, match="Invalid private key"):
        pkcs12.load_pkcs12(data, PASSWORD)
    error = refusal(data, PASSWORD)
    assert type(error) is BlobDamaged
    assert error.sentence == "its private key is damaged and signs nothing: export it again"


def test_der_is_put_together_as_it_was_taken_apart(issued: Issued):
    data = issued.pfx(PASSWORD)
    assert element(SEQUENCE, *fields(data, SEQUENCE)) == data
    for size in (0, 127, 128, 255, 256, 65_536):
        assert fields(element(OCTETS, bytes(size)), OCTETS) == [bytes(size)]
    assert dotted(bytes.fromhex("2a864886f70d010701")) == "1.2.840.113549.1.7.1"


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        # The key's localKeyId goes on behind its end, with what is no element whatever the digest.
        (b"\x31\x16\x04\x14", b"\x31\x16\x04\x02\0\0" + b"\xff" * 18),
        (b"\x30\x23\x06\x09", b"\xa0\x23\x06\x09"),  # an attribute that is no SEQUENCE
        (b"\x05\x00\x04\x20", b"\x01\x00\x04\x20"),  # the digest's parameters are no NULL
    ],
)
def test_what_surrounds_the_key_is_the_librarys_too(
    issued: Issued, there: bytes, instead: bytes, monkeypatch: pytest.MonkeyPatch
):
    """Guards: fuzzing found files that opened here and not in the library."""
    if there[0] != 5:
        monkeypatch.setattr(pkcs12_rsa, "_is_authentic", lambda *_: True)
    data = issued.pfx(PASSWORD)
    assert data.count(there) == 1
    at = data.index(there)
    assert open_rsa(data, PASSWORD) is not None
    assert open_rsa(data[:at] + instead + data[at + len(instead) :], PASSWORD) is None


@pytest.mark.parametrize("depth", ["safe", "bag"])
def test_the_elements_of_a_list_have_its_tag(
    issued: Issued, depth: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pkcs12_rsa, "_is_authentic", lambda *_: True)
    data = issued.pfx(PASSWORD)
    _, auth_safe, _ = fields(fields(data)[0])
    infos = fields(fields(fields(auth_safe)[1])[0])[0]
    if depth == "bag":  # the key's, in the last safe
        infos = fields(fields(fields(fields(infos)[-1])[1])[0])[0]
    assert data.count(infos) == 1
    assert infos.startswith(SEQUENCE)
    assert open_rsa(data.replace(infos, OCTETS + infos[1:]), PASSWORD) is None
