from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from centcert.admin.intake import PASSWORD_TRIES, GivenFile, put_together, read_file
from centcert.errors import PublishRefused, SettingsError
from centcert.testing import Authority, Issued

if TYPE_CHECKING:
    from pathlib import Path

WWW = "www.contoso.example"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


class Files:
    """Files by name, read without passwords."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, data: bytes) -> GivenFile:
        (self.folder / name).write_bytes(data)
        return read_file((self.folder / name).relative_to(self.folder), (), None)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def leaf_pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.PEM)


def chain_pem(issued: Issued) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in issued.chain)


def key_pem(issued: Issued) -> bytes:
    pem = issued.pem()
    return pem[pem.index(b"-----BEGIN PRIVATE KEY") :]


# --- one file ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pfx", "pem"])
def test_one_file_with_all_of_it(files: Files, authority: Authority, form: str):
    issued = authority.issue(WWW)
    data = issued.pfx() if form == "pfx" else issued.pem()
    (given,) = put_together([files.read("site", data)])
    assert given.source == "site"
    assert given.credential.certificate == issued.certificate
    assert given.credential.issuers == issued.chain
    assert not given.is_complete


def test_the_passwords_are_tried_before_anybody_is_asked(tmp_path: Path, authority: Authority):
    file = tmp_path / "site.pfx"
    file.write_bytes(authority.issue(WWW).pfx(b"two"))

    def ask(_: str) -> bytes:
        pytest.fail("it asked")

    assert read_file(file, (b"one", b"two"), ask).private_key is not None


def test_a_person_may_mistype(tmp_path: Path, authority: Authority):
    file = tmp_path / "site.pfx"
    file.write_bytes(authority.issue(WWW).pfx(b"right"))
    typed = iter([b"wrong", b"right"])
    asked: list[str] = []

    def ask(name: str) -> bytes:
        asked.append(name)
        return next(typed)

    assert read_file(file, (b"the store's",), ask).private_key is not None
    assert asked == [str(file)] * 2
    asked.clear()
    typed = iter([b"wrong"] * 9)
    with pytest.raises(PublishRefused, match="none of those at hand"):
        read_file(file, (), ask)
    assert len(asked) == PASSWORD_TRIES


def test_each_kind_of_bad_file(files: Files, authority: Authority):
    issued = authority.issue(WWW)
    odd_key = ec.generate_private_key(ec.SECP521R1())
    cases = {
        "locked.pfx": (issued.pfx(b"unknown"), "it is protected by a password that is none of"),
        "cut.pfx": (issued.pfx()[:-9], "it is not a whole PKCS #12 file: "),
        "text.pfx": (b"hello", "it is not a whole PKCS #12 file: "),
        "empty.pfx": (b"", "it is not a whole PKCS #12 file: "),
        "cut.pem": (issued.pem()[:-9], "a PEM block is cut off: "),
        "huge.pem": (b"x" * 300_000, "it is larger than 256 KiB: is it a certificate"),
        "two.pem": (issued.pem() + authority.issue(WWW).pem(), "it holds several private keys: "),
        "keyless.pem": (leaf_pem(issued), "no private key is given: "),
        "lone-key.pem": (key_pem(issued), "its private key belongs to none of the certificates"),
        "client.pem": (authority.issue(WWW, server_auth=False).pem(), "its certificate is not for"),
        "odd.pem": (_self_signed(odd_key), "its private key is EC secp521r1: "),
    }
    for name, (data, sentence) in cases.items():
        with pytest.raises(PublishRefused) as refused:
            put_together([files.read(name, data)])
        assert str(refused.value).startswith(f"{name}: {sentence}")
        assert str(refused.value).endswith((".", "?"))
        assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path):
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a dir")):
        with pytest.raises(SettingsError, match=f"cannot be read: {why}"):
            read_file(path, (), None)


def test_no_key_is_in_a_repr(files: Files, authority: Authority):
    given = files.read("site.pem", authority.issue(WWW).pem())
    assert repr(given) == "GivenFile(name='site.pem')"


# --- several files ------------------------------------------------------------------------


def test_certificate_chain_and_key_apart_in_any_order(files: Files, authority: Authority):
    issued = authority.issue(WWW)
    parts = [
        files.read("chain.pem", chain_pem(issued)),
        files.read("key.pem", key_pem(issued)),
        files.read("cert.pem", leaf_pem(issued)),
        files.read("fullchain.pem", leaf_pem(issued) + chain_pem(issued)),  # as certbot: again
    ]
    for order in (parts, parts[::-1], parts[:3]):
        (given,) = put_together(order)
        assert given.source in {"cert.pem with key.pem", "fullchain.pem with key.pem"}
        assert given.credential.certificate == issued.certificate
        assert given.credential.issuers == issued.chain


def test_a_chain_completes_a_pfx_and_a_root_says_that_it_is_whole(
    files: Files, authority: Authority
):
    issued = authority.issue(WWW)
    bare = Issued(issued.certificate, (), issued.private_key)
    pfx = files.read("site.pfx", bare.pfx())
    assert put_together([pfx])[0].credential.issuers == ()
    chain = files.read("chain.pem", chain_pem(issued))
    (given,) = put_together([pfx, chain])
    assert (given.credential.issuers, given.is_complete) == (issued.chain, False)
    (given,) = put_together([pfx, chain, files.read("root.pem", authority.root_pem)])
    assert (given.credential.issuers, given.is_complete) == (issued.chain, True)


def test_a_root_of_that_name_is_not_enough(files: Files, authority: Authority):
    issued = authority.issue(WWW)
    impostor = _self_signed(ec.generate_private_key(ec.SECP256R1()), authority.root.subject)
    certificate = impostor[: impostor.index(b"-----BEGIN PRIVATE")]
    with pytest.raises(PublishRefused, match=r"^root.pem: its certificates belong to none of"):
        put_together([files.read("a.pem", issued.pem()), files.read("root.pem", certificate)])


def test_a_self_signed_certificate_is_a_chain_of_its_own(files: Files):
    data = _self_signed(ec.generate_private_key(ec.SECP256R1()))
    (given,) = put_together([files.read("self.pem", data)])
    assert given.is_complete


def test_several_credentials_share_a_chain(files: Files, authority: Authority):
    one, other = authority.issue("one.example"), authority.issue("other.example")
    given = put_together(
        [
            files.read("one.pem", leaf_pem(one) + key_pem(one)),
            files.read("other.pem", leaf_pem(other) + key_pem(other)),
            files.read("chain.pem", chain_pem(one)),
        ]
    )
    assert [one.credential.patterns for one in given] == [("one.example",), ("other.example",)]
    assert all(one.credential.issuers == (authority.intermediate,) for one in given)


def test_of_two_certificates_in_one_file_that_which_is_valid_longest(
    files: Files, authority: Authority
):
    old, new = renewed(authority)
    both = leaf_pem(old) + leaf_pem(new) + chain_pem(old) + key_pem(old)
    (given,) = put_together([files.read("site.pem", both)])
    assert given.credential.certificate == new.certificate


def test_what_is_not_plain_is_not_guessed(files: Files, authority: Authority):
    issued, other = authority.issue(WWW), authority.issue(WWW)
    old, new = renewed(authority)
    cases = (
        (
            {"a.pem": issued.pem(), "a.pfx": issued.pfx()},
            "a.pem and a.pfx hold the same private key: give one of them.",
        ),
        (
            {"old.pem": leaf_pem(old), "new.pem": leaf_pem(new), "key.pem": key_pem(new)},
            (
                "old.pem and new.pem hold different certificates for one private key: give the one"
                " to publish."
            ),
        ),
        (
            {"a.pem": issued.pem(), "other.pem": leaf_pem(other)},
            (
                "other.pem: its certificates belong to none of the private keys given, nor to their"
                " chains: leave it out, or add its key."
            ),
        ),
        (
            {"a.pem": leaf_pem(issued), "key.pem": key_pem(other)},
            (
                "key.pem: its private key belongs to none of the certificates given: give the"
                " certificate that was issued for it."
            ),
        ),
        (
            {"a.pem": leaf_pem(issued), "b.pem": leaf_pem(other)},
            "a.pem, b.pem: no private key is given: add the PFX, or the PEM file with the key.",
        ),
    )
    for given, sentence in cases:
        with pytest.raises(PublishRefused) as refused:
            put_together([files.read(name, data) for name, data in given.items()])
        assert str(refused.value) == sentence


def renewed(authority: Authority) -> tuple[Issued, Issued]:
    """A certificate and its successor for the same key."""
    old = authority.issue(WWW)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.certificate.subject)
        .issuer_name(old.certificate.issuer)
        .public_key(old.certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.certificate.not_valid_before_utc)
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
    )
    certificate = builder.sign(authority._intermediate_key, hashes.SHA256())
    return old, Issued(certificate, old.chain, old.private_key)


def _self_signed(key: ec.EllipticCurvePrivateKey, name: x509.Name | None = None) -> bytes:
    like = Authority().issue(WWW).certificate
    subject = name or like.subject
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    return Issued(certificate, (), key).pem()
