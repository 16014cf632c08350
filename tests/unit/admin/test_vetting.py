from __future__ import annotations

import ipaddress
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from centcert.admin.intake import Given, GivenFile, put_together
from centcert.admin.vetting import (
    CoveredNames,
    Objection,
    about_what_is_there,
    covered_names,
    covers,
    objections,
    parse_pattern,
    remarks,
)
from centcert.credential import Credential, decode
from centcert.errors import NameRefused
from centcert.testing import Authority, Issued

WWW = "www.contoso.example"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def given(issued: Issued, *more: x509.Certificate, source: str = "a.pem") -> Given:
    certificates = (issued.certificate, *issued.chain, *more)
    (one,) = put_together([GivenFile(source, issued.private_key, certificates)])
    return one


def stored(issued: Issued) -> Credential:
    return decode(issued.pem(), key=f"{WWW}.pfx", passwords=())


def spoken(one: Given, now: float | None = None) -> list[Objection]:
    return list(objections(one, time.time() if now is None else now))


def test_nothing_speaks_against_a_good_certificate(authority: Authority):
    assert spoken(given(authority.issue(WWW))) == []
    assert spoken(given(authority.issue(WWW), authority.root)) == []


def test_dates(authority: Authority):
    issued = authority.issue(WWW, not_before=NOW, not_after=NOW + timedelta(days=2))
    one = given(issued)
    for seconds, sentence in (
        (-1, f"a.pem: its certificate is not valid before {NOW:%Y-%m-%d}: publish it then, or say"),
        (0, None),
        (2 * 86_400, None),
        (2 * 86_400 + 1, f"a.pem: its certificate expired on {NOW + timedelta(days=2):%Y-%m-%d}: "),
    ):
        found = spoken(one, NOW.timestamp() + seconds)
        if sentence is None:
            assert found == []
        else:
            assert found[0].sentence.startswith(sentence)
            assert found[0].yields
            assert len(found) == 1


def test_a_chain_that_has_expired(authority: Authority):
    one = given(authority.issue(WWW, not_after=NOW + timedelta(days=36_500)))
    (objection,) = spoken(one, (NOW + timedelta(days=4_000)).timestamp())
    assert objection.sentence.startswith("a.pem: Centcert Test Intermediate ")
    assert " in its chain expired on " in objection.sentence
    assert objection.yields


def test_a_missing_intermediate(authority: Authority):
    issued = authority.issue(WWW)
    bare = Issued(issued.certificate, (), issued.private_key)
    (objection,) = spoken(given(bare))
    assert objection.sentence.startswith("a.pem: the certificate of Centcert Test Intermediate ")
    assert objection.sentence.endswith(
        " is missing, without which clients cannot verify this one: give the CA's intermediate"
        " certificate too, or, if that is the root itself, the root's."
    )
    assert not objection.yields


def test_a_root_that_issues_itself_needs_no_intermediate():
    authority = Authority()
    # The "root" of this one has issued the leaf as far as anybody can see: it has its key.
    authority._intermediate_key, authority.intermediate = authority._root_key, authority.root
    issued = authority.issue(WWW)
    bare = Issued(issued.certificate, (), issued.private_key)
    assert len(spoken(given(bare))) == 1
    complete = given(bare, authority.root)
    assert complete.credential.issuers == ()
    assert spoken(complete) == []


def test_no_names(authority: Authority):
    (objection,) = spoken(given(authority.issue(common_name=WWW)))
    assert objection.sentence.startswith("a.pem: its certificate names no host in its subjectAlt")
    assert not objection.yields


def test_names_that_are_no_host_names_are_left_out():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    san = x509.SubjectAlternativeName(
        [
            x509.DNSName("WWW.contoso.example"),
            x509.DNSName("www.contoso.example"),
            x509.DNSName("*.contoso.example"),
            x509.DNSName("xn--bcher-kva.example"),
            x509.DNSName("f*.contoso.example"),
            x509.DNSName("1.2.3.4"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.RFC822Name("a@contoso.example"),
            x509.UniformResourceIdentifier("https://contoso.example/\x1b"),
            x509.DirectoryName(name),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .add_extension(san, critical=True)
        .sign(key, hashes.SHA256())
    )
    assert covered_names(certificate) == CoveredNames(
        ("www.contoso.example", "*.contoso.example", "xn--bcher-kva.example"),
        (
            "DNS name f*.contoso.example",
            "DNS name 1.2.3.4",
            "IP address 192.0.2.1",
            "e-mail address a@contoso.example",
            "URI https://contoso.example/\\x1b",
            "a name of another kind",
        ),
    )


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("WWW.contoso.example", "www.contoso.example"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("localhost", "localhost"),
    ],
)
def test_patterns_as_people_write_them(text: str, pattern: str):
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize("text", ["", "*", "*.", "*.*.a", "a.*.b", "_.a", "1.2.3.4", "a/b"])
def test_what_is_no_pattern(text: str):
    with pytest.raises(NameRefused):
        parse_pattern(text)


def test_what_a_certificate_may_be_published_as(authority: Authority):
    credential = stored(authority.issue(WWW, "*.a.example"))
    assert [
        pattern
        for pattern in (WWW, "x.a.example", "*.a.example", "a.example", "*.contoso.example")
        if covers(credential, pattern)
    ] == [WWW, "x.a.example", "*.a.example"]


def test_older_is_what_was_issued_earlier(authority: Authority):
    """A certificate of 90 days replaces one of a year, though it ends earlier."""
    year = stored(authority.issue(WWW, not_before=NOW, not_after=NOW + timedelta(days=365)))
    earlier = given(authority.issue(WWW, not_before=NOW - timedelta(days=9)))
    (objection,) = about_what_is_there(earlier, year)
    assert objection.sentence == (
        f"a.pem: {WWW}.pfx in the store was issued later, {NOW:%Y-%m-%d}, than this one,"
        f" {NOW - timedelta(days=9):%Y-%m-%d}: publish the newer one, or say --force."
    )
    assert objection.yields
    later = given(authority.issue(WWW, not_before=NOW + timedelta(days=1)))
    assert list(about_what_is_there(later, year)) == []
    same = given(authority.issue(WWW, not_before=NOW))
    assert list(about_what_is_there(same, year)) == []
    assert list(remarks(given(authority.issue(WWW), authority.root), [year])) == [
        f"it ends earlier than {WWW}.pfx, which is good until {NOW + timedelta(days=365):%Y-%m-%d}"
    ]


def test_where_a_chain_ends_is_remarked_unless_it_is_known(authority: Authority):
    (remark,) = remarks(given(authority.issue(WWW)), [])
    assert remark.startswith("its chain ends at Centcert Test Root ")
    assert list(remarks(given(authority.issue(WWW), authority.root), [])) == []
