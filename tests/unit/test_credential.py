from __future__ import annotations

import base64
import dataclasses
import itertools
import re
import subprocess
import sys
import weakref
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from centcert.credential import (
    MAX_BLOB_BYTES,
    MAX_ISSUERS,
    MAX_VERIFICATIONS,
    Credential,
    decode,
)
from centcert.errors import (
    BadBlob,
    BlobDamaged,
    BlobTooLarge,
    CertificateMissing,
    KeyMismatch,
    KeyMissing,
    UnsupportedEncryption,
    UnsupportedKey,
    WrongPassword,
    WrongUsage,
)
from centcert.names import HostName
from centcert.testing import Authority, KeyType, make_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

KEY = "www.contoso.example.pfx"
NAME = "www.contoso.example"
PASSWORD = b"correct horse"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def read(data: bytes, *passwords: bytes) -> Credential:
    return decode(data, key=KEY, passwords=passwords)


def refusal(data: bytes, *passwords: bytes) -> BadBlob:
    with pytest.raises(BadBlob) as caught:
        read(data, *passwords)
    assert caught.value.key == KEY
    assert str(caught.value).startswith(f"{KEY}: ")
    return caught.value


class Party:
    """Someone with a name and a key, who certifies others."""

    def __init__(self, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())

    def certify(
        self, other: Party, *extensions: x509.ExtensionType, days: int = 30
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(other.name)
            .issuer_name(self.name)
            .public_key(other.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(START + timedelta(days=days))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(private_key: PrivateKeyTypes | None, *certificates: x509.Certificate) -> bytes:
    blocks = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
    if private_key is not None:
        blocks.append(private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return b"".join(blocks)


# --- what is read ---------------------------------------------------------------------


@pytest.mark.parametrize("key_type", get_args(KeyType))
def test_every_served_key_type_decodes_in_every_form(
    authority: Authority, key_type: KeyType
) -> None:
    issued = authority.issue(NAME, key_type=key_type)
    for data in (issued.pfx(PASSWORD), issued.pfx(), issued.pem()):
        credential = read(data, PASSWORD)
        assert credential.key == KEY
        assert credential.certificate == issued.certificate
        assert credential.issuers == issued.chain == (authority.intermediate,)
        assert credential.private_key.public_key() == issued.certificate.public_key()
        assert credential.patterns == (NAME,)
        assert credential.fingerprint == issued.certificate.fingerprint(hashes.SHA256())


def test_dates_are_recorded_not_judged(authority: Authority) -> None:
    end = START + timedelta(days=1)
    credential = read(authority.issue(NAME, not_before=START, not_after=end).pfx())
    start_s, end_s = START.timestamp(), end.timestamp()
    assert (credential.not_before, credential.not_after) == (start_s, end_s)
    assert [credential.within_dates(now) for now in (start_s - 1, start_s, end_s, end_s + 0.1)] == [
        False,
        True,
        True,
        False,
    ]


def test_patterns_are_the_dns_names_in_lower_case_and_nothing_else() -> None:
    party = Party("cn.example")
    san = x509.SubjectAlternativeName(
        [
            x509.DNSName("WWW.Contoso.example"),
            x509.RFC822Name("root@mail.example"),
            x509.DNSName("*.xn--bcher-kva.example"),
            x509.UniformResourceIdentifier("https://uri.example"),
        ]
    )
    credential = read(pem(party.key, party.certify(party, san)))
    assert credential.patterns == ("www.contoso.example", "*.xn--bcher-kva.example")
    for name, covered in {
        "www.contoso.example": True,
        "www.xn--bcher-kva.example": True,
        "xn--bcher-kva.example": False,
        "cn.example": False,
        "mail.example": False,
    }.items():
        assert credential.covers(HostName(name)) is covered, name


def test_a_common_name_alone_covers_nothing(authority: Authority) -> None:
    credential = read(authority.issue(common_name=NAME).pfx())
    assert credential.patterns == ()
    assert not credential.covers(HostName(NAME))


def test_the_content_says_what_a_file_is_not_its_suffix(authority: Authority) -> None:
    issued = authority.issue(NAME)
    for data, key in ((issued.pem(), "a.pfx"), (issued.pfx(), "a.pem")):
        assert decode(data, key=key, passwords=()).certificate == issued.certificate


@pytest.mark.parametrize(
    ("form", "password"),
    [
        (PrivateFormat.PKCS8, None),
        (PrivateFormat.PKCS8, PASSWORD),
        (PrivateFormat.TraditionalOpenSSL, None),
    ],
    ids=["PKCS#8", "encrypted PKCS#8", "SEC 1 or PKCS#1"],
)
@pytest.mark.parametrize("key_type", ["ec-p256", "rsa-2048"])
def test_a_pem_key_is_read_in_each_form(
    authority: Authority, key_type: KeyType, form: PrivateFormat, password: bytes | None
) -> None:
    issued = authority.issue(NAME, key_type=key_type)
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    key_block = issued.private_key.private_bytes(Encoding.PEM, form, encryption)
    for data in (
        pem(None, issued.certificate) + key_block,
        key_block + pem(None, issued.certificate),
        b"Bag Attributes\r\n  friendlyName: x\r\n"
        + (key_block + b"in between\n" + pem(None, issued.certificate)).replace(b"\n", b"\r\n"),
    ):
        assert read(data, b"wrong", PASSWORD).certificate == issued.certificate
    if password is not None:
        assert type(refusal(data, b"wrong", b"")) is WrongPassword
        assert type(refusal(data)) is WrongPassword


def test_the_old_encryption_of_pem_is_refused(authority: Authority) -> None:
    issued = authority.issue(NAME)
    key_block = issued.private_key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(PASSWORD)
    )
    # With a short vector the library would panic, which no "except Exception" catches.
    for block in (key_block, re.sub(b"(DEK-Info: [^,]*,..).*", rb"\1", key_block)):
        error = refusal(pem(None, issued.certificate) + block, PASSWORD)
        assert type(error) is UnsupportedEncryption
        assert "openssl pkcs8 -topk8" in str(error)


def test_a_certificate_of_no_known_version_is_damaged(authority: Authority) -> None:
    issued = authority.issue(NAME)
    der = issued.certificate.public_bytes(Encoding.DER)
    odd = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x42", 1)
    block = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n"
    data = block % base64.encodebytes(odd) + pem(issued.private_key)
    assert type(refusal(data)) is BlobDamaged


def test_pem_blocks_of_other_kinds_are_passed_over(authority: Authority) -> None:
    other = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert read(other + authority.issue(NAME).pem() + other).patterns == (NAME,)


def test_of_two_pem_keys_the_first_counts(authority: Authority) -> None:
    first, second = authority.issue("first.example"), authority.issue("second.example")
    assert read(first.pem() + second.pem()).patterns == ("first.example",)


# --- passwords ------------------------------------------------------------------------


def test_passwords_are_tried_in_turn(authority: Authority) -> None:
    data = authority.issue(NAME).pfx(PASSWORD)
    assert read(data, b"old", b"older", PASSWORD, b"newer").patterns == (NAME,)


def test_a_file_without_password_opens_in_a_store_with_passwords(authority: Authority) -> None:
    assert read(authority.issue(NAME).pfx(), PASSWORD).patterns == (NAME,)


def test_a_password_is_utf_8(authority: Authority) -> None:
    password = "pässwörd€".encode()
    assert read(authority.issue(NAME).pfx(password), password).patterns == (NAME,)


@pytest.mark.parametrize("unusable", [b"\xff\xfe", b"correct horse\0", b"x" * 5_000])
def test_a_password_that_no_file_can_have_is_passed_over(
    authority: Authority, unusable: bytes
) -> None:
    data = authority.issue(NAME).pfx(PASSWORD)
    assert read(data, unusable, PASSWORD).patterns == (NAME,)
    assert isinstance(refusal(data, unusable), WrongPassword)


@pytest.mark.parametrize(
    ("passwords", "words"),
    [
        ((), "needs a password"),
        ((b"guess 1",), "the store's key password does not open it"),
        ((b"guess 1", b"guess 2"), "none of the store's 2 key passwords opens it"),
    ],
)
def test_a_wrong_password_says_how_many_were_tried(
    authority: Authority, passwords: Sequence[bytes], words: str
) -> None:
    error = refusal(authority.issue(NAME).pfx(PASSWORD), *passwords)
    assert type(error) is WrongPassword
    assert words in str(error)
    assert not any(password.decode() in str(error) for password in passwords)


# --- the chain ------------------------------------------------------------------------


def test_the_chain_is_in_order_without_root_and_strangers_however_they_lie() -> None:
    root, first, second, site, stranger = map(Party, ["root", "first", "second", "site", "other"])
    leaf, issuer = second.certify(site), first.certify(second)
    upper, top = root.certify(first), root.certify(root)
    for order in itertools.permutations([leaf, issuer, upper, top, stranger.certify(stranger)]):
        assert read(pem(site.key, *order)).issuers == (issuer, upper)


def test_a_gap_ends_the_chain() -> None:
    root, first, second, site = map(Party, ["root", "first", "second", "site"])
    leaf, upper = second.certify(site), root.certify(first)
    assert read(pem(site.key, leaf, upper, root.certify(root))).issuers == ()


def test_a_self_signed_certificate_stands_alone() -> None:
    site, other = Party("site"), Party("other")
    basic = x509.BasicConstraints(ca=True, path_length=None)
    leaf = site.certify(site, basic)
    credential = read(pem(site.key, other.certify(other), leaf, site.certify(other)))
    assert (credential.certificate, credential.issuers) == (leaf, ())


def test_an_issuer_of_the_right_name_with_the_wrong_key_is_a_stranger() -> None:
    root, issuer, impostor, site = map(Party, ["root", "issuer", "issuer", "site"])
    right, wrong = root.certify(issuer), root.certify(impostor, days=60)
    for order in itertools.permutations([right, wrong, issuer.certify(site)]):
        assert read(pem(site.key, *order)).issuers == (right,)


def test_what_an_issuer_says_of_its_own_key_proves_nothing() -> None:
    root, issuer, impostor, site = map(Party, ["root", "issuer", "issuer", "site"])
    named = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    claim = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key())
    right, wrong = root.certify(issuer), root.certify(impostor, claim, days=60)
    for order in itertools.permutations([right, wrong, issuer.certify(site, named)]):
        assert read(pem(site.key, *order)).issuers == (right,)


def test_of_an_issuer_that_is_named_by_its_key_no_signature_is_checked() -> None:
    root, issuer, site = map(Party, ["root", "issuer", "site"])
    named = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    middle = root.certify(issuer)
    for extensions, chain in ([named], (middle,)), ([], ()):
        signed = issuer.certify(site, *extensions).public_bytes(Encoding.DER)
        spoilt = x509.load_der_x509_certificate(signed[:-1] + bytes([signed[-1] ^ 1]))
        assert read(pem(site.key, spoilt, middle)).issuers == chain


def test_a_root_in_the_file_beats_its_cross_signed_twin() -> None:
    old, root, issuer, site = map(Party, ["old root", "root", "issuer", "site"])
    leaf, middle, cross = issuer.certify(site), root.certify(issuer), old.certify(root, days=60)
    assert read(pem(site.key, leaf, middle, cross, root.certify(root))).issuers == (middle,)
    assert read(pem(site.key, leaf, middle, cross)).issuers == (middle, cross)


def test_the_renewed_of_two_issuers_is_sent() -> None:
    root, issuer, site = map(Party, ["root", "issuer", "site"])
    old, new = root.certify(issuer, days=1), root.certify(issuer, days=60)
    for order in itertools.permutations([old, new, issuer.certify(site)]):
        assert read(pem(site.key, *order)).issuers == (new,)


def test_a_stranger_whose_name_cannot_be_read_harms_nobody(authority: Authority) -> None:
    issued, stranger = authority.issue(NAME), Party("stranger")
    der = stranger.certify(stranger).public_bytes(Encoding.DER)
    odd = x509.load_der_x509_certificate(der.replace(b"\x0c\x08stranger", b"\x03\x08stranger"))
    with pytest.raises(TypeError):
        _ = odd.subject
    data = pem(issued.private_key, odd, issued.certificate, *issued.chain)
    assert read(data).issuers == issued.chain
    assert type(refusal(pem(stranger.key, odd))) is BlobDamaged


def test_issuers_that_sign_each_other_come_to_an_end() -> None:
    one, two, site = map(Party, ["one", "two", "site"])
    leaf, up, down = one.certify(site), two.certify(one), one.certify(two)
    assert read(pem(site.key, down, up, leaf)).issuers == (up, down)


def test_a_long_chain_is_cut_off() -> None:
    parties = [Party(f"ca {number}") for number in range(MAX_ISSUERS + 3)]
    issuers = [above.certify(below) for below, above in itertools.pairwise(parties)]
    site = Party("site")
    credential = read(pem(site.key, parties[0].certify(site), *issuers))
    assert credential.issuers == tuple(issuers[:MAX_ISSUERS])


@pytest.mark.parametrize(("impostors", "found"), [(31, True), (32, False)])
def test_the_search_for_issuers_is_bounded(impostors: int, *, found: bool) -> None:
    assert MAX_VERIFICATIONS == 32
    root, issuer, impostor, site = map(Party, ["root", "issuer", "issuer", "site"])
    right = root.certify(issuer)
    wrong = [root.certify(impostor, days=60) for _ in range(impostors)]
    credential = read(pem(site.key, issuer.certify(site), *wrong, right))
    assert credential.issuers == ((right,) if found else ())


def test_of_two_certificates_for_the_key_the_one_valid_longest_is_the_leaf() -> None:
    issuer, site = Party("issuer"), Party("site")
    old, new = issuer.certify(site, days=1), issuer.certify(site, days=60)
    for order in ((old, new), (new, old)):
        credential = read(pem(site.key, *order))
        assert (credential.certificate, credential.issuers) == (new, ())


# --- what is refused ------------------------------------------------------------------


def test_no_file_over_the_bound_is_looked_at(authority: Authority) -> None:
    data = authority.issue(NAME).pem()
    assert read(data.ljust(MAX_BLOB_BYTES, b"\n")).patterns == (NAME,)
    error = refusal(data.ljust(MAX_BLOB_BYTES + 1, b"\n"))
    assert type(error) is BlobTooLarge
    assert "256 KiB" in str(error)


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x00", b"hello", bytes(1_000)])
def test_what_is_no_certificate_file_is_damaged(data: bytes) -> None:
    assert type(refusal(data, PASSWORD)) is BlobDamaged


def test_a_half_written_file_is_damaged_not_closed(authority: Authority) -> None:
    data = authority.issue(NAME).pfx(PASSWORD)
    for kept in (0, 1, 2, 5, 200, len(data) - 1):
        assert type(refusal(data[:kept], PASSWORD)) is BlobDamaged
    # Windows' CopyFile sets the size first: what is not yet written reads as zeros.
    for kept in (0, 1, 4, 200, len(data) - 80, len(data) - 10):
        assert type(refusal(data[:kept].ljust(len(data), b"\0"), PASSWORD)) is BlobDamaged


def test_a_file_overwritten_by_a_shorter_one_reads_as_the_shorter(authority: Authority) -> None:
    data = authority.issue(NAME).pfx(PASSWORD)
    assert read(data + b"rest of the longer one", PASSWORD).patterns == (NAME,)
    assert type(refusal(data[:-9] + b"rest of the longer one", PASSWORD)) is BlobDamaged


def test_a_pem_file_cut_within_a_block_is_damaged(authority: Authority) -> None:
    data = authority.issue(NAME).pem()
    for kept in (40, 300, 900, len(data) - 5):
        error = refusal(data[:kept])
        assert type(error) is BlobDamaged
        assert "cut off" in str(error)
    first = data.index(b"-----END")
    error = refusal(data[: first - 40] + data[data.index(b"-----BEGIN", 1) :])
    assert "cut off" in str(error)


@pytest.mark.parametrize("label", ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY"])
def test_a_pem_block_of_nonsense_is_damaged(label: str) -> None:
    block = f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()
    assert type(refusal(block)) is BlobDamaged


def test_a_lonely_certificate_or_key_is_named(authority: Authority) -> None:
    issued = authority.issue(NAME)
    assert type(refusal(pem(None, issued.certificate))) is KeyMissing
    assert type(refusal(pem(issued.private_key))) is CertificateMissing


def test_a_key_of_another_certificate_is_a_mismatch(authority: Authority) -> None:
    issued, other = authority.issue(NAME), authority.issue(NAME)
    error = refusal(pem(other.private_key, issued.certificate, *issued.chain))
    assert type(error) is KeyMismatch


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rsa.generate_private_key(65_537, 1_024), "RSA of 1024 bits"),  # noqa: S505
        (lambda: rsa.generate_private_key(65_537, 4_104), "RSA of 4104 bits"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "EC secp521r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "EC secp256k1"),
        (lambda: dsa.generate_private_key(2_048), "not one for TLS"),
        (ed448.Ed448PrivateKey.generate, "not one for TLS"),
    ],
    ids=["RSA-1024", "RSA-4104", "P-521", "secp256k1", "DSA", "Ed448"],
)
def test_a_key_that_is_not_served_is_named(authority: Authority, make, words: str) -> None:  # noqa: ANN001
    error = refusal(pem(make(), authority.root))
    assert type(error) is UnsupportedKey
    assert words in str(error)


def usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.mark.parametrize(
    ("extensions", "served"),
    [
        ([], True),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])], True),
        (
            [
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                )
            ],
            True,
        ),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])], False),
        ([usage(digital_signature=True)], True),
        ([usage(digital_signature=False)], False),
    ],
    ids=["none", "any", "both", "client only", "signs", "does not sign"],
)
def test_only_certificates_for_tls_servers_are_served(
    extensions: list[x509.ExtensionType], *, served: bool
) -> None:
    site = Party("site")
    data = pem(site.key, site.certify(site, *extensions))
    if served:
        read(data)
    else:
        assert type(refusal(data)) is WrongUsage


@pytest.mark.parametrize(
    "value", [b"garbage", b"\x30\x02\xa3\x00"], ids=["not DER", "an x400Address"]
)
def test_extensions_that_cannot_be_read_are_a_finding(value: bytes) -> None:
    site = Party("site")
    broken = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value)
    error = refusal(pem(site.key, site.certify(site, broken)))
    assert type(error) is BlobDamaged
    assert "RFC 5280" in str(error)


# --- the value ------------------------------------------------------------------------


def test_no_secret_shows(authority: Authority) -> None:
    credential = read(authority.issue(NAME).pfx(PASSWORD), PASSWORD)
    parts = credential.to_parts()
    for shown in (repr(credential), repr(parts), str(credential)):
        assert "private" not in shown
        assert repr(parts.private_key)[2:20] not in shown


def test_parts_make_an_equal_credential_but_another_one(authority: Authority) -> None:
    credential = read(authority.issue(NAME, "*.contoso.example", key_type="rsa-2048").pfx())
    again = Credential.from_parts(credential.to_parts())
    assert again.to_parts() == credential.to_parts()
    for name in ("key", "patterns", "not_before", "not_after", "fingerprint", "size"):
        assert getattr(again, name) == getattr(credential, name)
    assert dataclasses.replace(again) != again
    assert weakref.ref(again)() is again


def test_credentials_may_share_their_issuers(authority: Authority) -> None:
    load = lru_cache(x509.load_der_x509_certificate)
    one, two = (
        Credential.from_parts(read(authority.issue(name).pfx()).to_parts(), load_issuer=load)
        for name in ("one.example", "two.example")
    )
    assert one.issuers[0] is two.issuers[0]


MEASURE = """
import gc, sys
from centcert.credential import Credential, decode
from centcert.testing import Authority

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

authority = Authority()
names = [f"www.site{number}.example" for number in range(int(sys.argv[1]))]
parts = decode(authority.issue(*names).pfx(), key="k", passwords=()).to_parts()
new = lambda data: bytes(bytearray(data))
fresh = lambda: Credential.from_parts(
    type(parts)(
        "k", new(parts.certificate), tuple(map(new, parts.issuers)),
        tuple("".join(list(pattern)) for pattern in parts.patterns), new(parts.private_key),
    ),
)
fresh()
gc.collect()
before = resident()
kept = [fresh() for _ in range(2000)]
gc.collect()
print((resident() - before) // len(kept), kept[0].size)
"""


@pytest.mark.parametrize(("names", "most"), [(1, 3_000), (100, 15_000)])
def test_a_warm_credential_is_small_and_its_size_is_true(names: int, most: int) -> None:
    measured, size = map(
        int, subprocess.check_output([sys.executable, "-c", MEASURE, str(names)]).split()
    )
    assert measured < most
    assert measured < size < measured * 2.2  # Python 3.13 takes less than 3.11


@pytest.mark.parametrize("key_type", get_args(KeyType)[:2])
def test_the_maker_makes_what_it_says(key_type: KeyType) -> None:
    authority = Authority(key_type=key_type)
    issued = authority.issue("bücher.example", "*.bücher.example")
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [
        "xn--bcher-kva.example",
        "*.xn--bcher-kva.example",
    ]
    issued.certificate.verify_directly_issued_by(authority.intermediate)
    authority.intermediate.verify_directly_issued_by(authority.root)
    authority.root.verify_directly_issued_by(authority.root)
    assert x509.load_pem_x509_certificate(authority.root_pem) == authority.root
    assert "key" not in repr(issued)
    with pytest.raises(ValueError, match="ec-p256"):
        make_key("dsa")  # type: ignore[arg-type]
