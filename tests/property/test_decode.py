from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from centcert.credential import Credential, decode
from centcert.errors import BadBlob, BlobDamaged
from centcert.pkcs12_rsa import open_rsa
from centcert.testing import Authority

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD = b"correct horse"
ISSUED = Authority().issue("www.contoso.example", "*.contoso.example")
RSA = Authority().issue("www.contoso.example", key_type="rsa-2048")
FILES = {
    "protected": ISSUED.pfx(PASSWORD),
    "protected RSA": RSA.pfx(PASSWORD),
    "open": ISSUED.pfx(),
    "PEM": ISSUED.pem(),
}
files = pytest.mark.parametrize("data", FILES.values(), ids=FILES)


def outcome(data: bytes, passwords: Sequence[bytes] = (PASSWORD,)) -> Credential | BadBlob:
    """Decode; anything but a credential of the file's own key or a BadBlob is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            credential = decode(data, key="a.pfx", passwords=passwords)
        except BadBlob as error:
            assert len(str(error)) < 300  # noqa: PT017  one sentence
            return error
    assert credential.certificate.public_key() == credential.private_key.public_key()
    return credential


@files
@given(random=st.data())
def test_a_cut_file_is_never_a_credential(data: bytes, random: st.DataObject) -> None:
    kept = random.draw(st.integers(0, len(data.rstrip()) - 1))
    error = outcome(data[:kept])
    assert isinstance(error, BadBlob)
    if data != FILES["PEM"]:  # which, cut between two blocks, looks whole
        assert type(error) is BlobDamaged


@files
@given(random=st.data())
def test_a_flipped_byte_lets_nothing_but_findings_escape(
    data: bytes, random: st.DataObject
) -> None:
    at = random.draw(st.integers(0, len(data) - 1))
    flip = random.draw(st.integers(1, 255))
    outcome(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


@pytest.mark.parametrize("password", [PASSWORD, None])
@given(random=st.data())
def test_the_short_way_to_an_rsa_key_opens_nothing_that_the_library_does_not(
    password: bytes | None, random: st.DataObject
) -> None:
    data = RSA.pfx(password)
    at = random.draw(st.integers(0, len(data) - 1))
    flip = random.draw(st.integers(1, 255))
    data = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
    opened = open_rsa(data, password)
    if opened is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = pkcs12.load_pkcs12(data, password)
    assert loaded.key is not None
    assert loaded.key.public_key() == opened[0].public_key()
    entries = [*([loaded.cert] if loaded.cert else []), *loaded.additional_certs]
    assert {entry.certificate for entry in entries} == set(opened[1])


@files
@given(random=st.data())
def test_pieces_in_disorder_let_nothing_but_findings_escape(
    data: bytes, random: st.DataObject
) -> None:
    cuts = sorted(random.draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=6)))
    pieces = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
    garbage = random.draw(st.lists(st.binary(max_size=20), max_size=3))
    outcome(b"".join(random.draw(st.permutations([*pieces, *garbage]))))


@given(st.binary(max_size=400))
def test_garbage_is_a_finding(data: bytes) -> None:
    assert isinstance(outcome(data), BadBlob)


@given(
    st.lists(
        st.sampled_from(
            [
                *(b"-----BEGIN ", b"-----END ", b"-----", b"\n", b"\0", b"\xff", b"AAAA", b"MIIB"),
                *(b"CERTIFICATE", b"PRIVATE KEY", b"ENCRYPTED ", b"EC "),
                *(b"Proc-Type: 4,ENCRYPTED\n", b"DEK-Info: AES-256-CBC,00\n"),
            ]
        ),
        max_size=40,
    ).map(b"".join)
)
def test_garbage_in_the_form_of_pem_is_a_finding(data: bytes) -> None:
    assert isinstance(outcome(data), BadBlob)


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_no_password_lets_anything_but_findings_escape(passwords: list[bytes]) -> None:
    for data in FILES.values():
        outcome(data, passwords)
