from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from centcert import credential as credentials
from centcert.errors import Alert, CredentialUnusable, HelloRefused
from centcert.testing import Authority
from centcert.tls.contexts import ServerContexts, choose_alpn
from centcert.tls.direct import DirectSessions
from centcert.tls.session import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential


@pytest.mark.parametrize(
    ("offered", "site", "chosen"),
    [
        ((), (), None),
        ((b"h2",), (), None),
        ((), (b"h2",), None),
        ((b"h2", b"http/1.1"), (b"http/1.1",), b"http/1.1"),
        ((b"http/1.1", b"h2"), (b"h2", b"http/1.1"), b"h2"),
        ((b"\x0a\x0a", b"h2"), (b"h2",), b"h2"),
    ],
)
def test_first_protocol_of_the_site_that_is_offered(
    offered: tuple[bytes, ...], site: tuple[bytes, ...], chosen: bytes | None
):
    assert choose_alpn(offered, site) == chosen


def test_no_protocol_in_common_is_refused():
    with pytest.raises(HelloRefused, match=r"none of this site's protocols: h2, \\xff\.") as caught:
        choose_alpn((b"http/1.1",), (b"h2", b"\xff"))
    assert caught.value.alert is Alert.NO_APPLICATION_PROTOCOL


@pytest.fixture(params=[DirectSessions, Sessions])
def sessions(request: pytest.FixtureRequest) -> Sessions:
    made: Sessions = request.param()
    return made


def test_credential_that_openssl_refuses_is_named_so_and_not_kept(sessions: Sessions):
    authority = Authority()
    credential, other = (
        credentials.decode(authority.issue("a.example").pem(), key="a.example.pem", passwords=())
        for _ in range(2)
    )
    mixed = dataclasses.replace(credential, pkcs8=other.pkcs8)
    contexts = ServerContexts(sessions=sessions)
    for resumable in (True, True, False, False):
        with pytest.raises(CredentialUnusable, match="key values mismatch"):
            contexts.session(mixed, None, resumable=resumable)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda credential: dataclasses.replace(credential, leaf=b"\x30\x03abc"),
        lambda credential: dataclasses.replace(credential, pkcs8=b"\x30\x03abc"),
    ],
    ids=["certificate", "key"],
)
@pytest.mark.parametrize("resumable", [True, False])
def test_what_is_no_certificate_or_no_key_is_refused(
    sessions: Sessions,
    spoil: Callable[[Credential], Credential],
    resumable: bool,  # noqa: FBT001  a parameter of the test
):
    pem = Authority().issue("a.example").pem()
    credential = credentials.decode(pem, key="a.example.pem", passwords=())
    contexts = ServerContexts(sessions=sessions)
    with pytest.raises(CredentialUnusable):
        contexts.session(spoil(credential), None, resumable=resumable)
    contexts.session(credential, None, resumable=resumable)  # and OpenSSL has forgotten of it
