"""Who may resume: the same certificate, on any process; nobody else."""

from __future__ import annotations

import dataclasses
import os
import ssl
from copy import copy
from typing import TYPE_CHECKING

import pytest

from centcert.tls import contexts as tls_contexts
from centcert.tls.contexts import BASE_S, ServerContexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential
    from tests.handshake.conftest import Ends, PythonClient

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def visit(
    request: pytest.FixtureRequest,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    meet: Callable[..., Ends],
) -> Callable[..., tuple[bool, ssl.SSLSession]]:
    """``visit(credential, ticket, contexts=…)``: did it resume, and a new ticket."""
    trusting.minimum_version = trusting.maximum_version = request.param

    def visit(
        credential: Credential, ticket: ssl.SSLSession | None = None, **options: object
    ) -> tuple[bool, ssl.SSLSession]:
        client = python_client(trusting, session=ticket)
        pair = meet(client, credential, **options)
        pair.handshake()
        pair.session.write(b"served")
        pair.to_client()
        assert client.read() == b"served"  # takes the tickets of TLS 1.3 in too
        session = client.tls.session
        assert session is not None
        return bool(client.tls.session_reused), session

    return visit


def test_same_credential_resumes(visit: Callable[..., tuple[bool, object]], credential: Credential):
    resumed, ticket = visit(credential)
    assert not resumed
    resumed, ticket = visit(credential, ticket)
    assert resumed
    assert visit(credential, ticket)[0]


def test_protocol_is_agreed_on_anew_when_resuming(
    visit: Callable[..., tuple[bool, object]], credential: Credential, trusting: ssl.SSLContext
):
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    _, ticket = visit(credential, alpn=b"h2")
    assert visit(credential, ticket, alpn=b"http/1.1")[0]


@pytest.mark.parametrize(("first", "then"), [(None, b"h2"), (b"h2", None)])
def test_a_session_resumes_whether_alpn_is_answered_or_not(
    visit: Callable[..., tuple[bool, object]],
    credential: Credential,
    trusting: ssl.SSLContext,
    first: bytes | None,
    then: bytes | None,
):
    trusting.set_alpn_protocols(["h2"])
    _, ticket = visit(credential, alpn=first)
    assert visit(credential, ticket, alpn=then)[0]


def test_other_credential_does_not_resume(
    visit: Callable[..., tuple[bool, object]],
    credential: Credential,
    issue: Callable[..., Credential],
):
    _, ticket = visit(credential)
    assert not visit(issue(), ticket)[0]  # for the same name: as after a renewal


def test_a_session_that_is_not_to_resume_takes_no_ticket_and_gives_none(
    visit: Callable[..., tuple[bool, ssl.SSLSession]],
    credential: Credential,
    issue: Callable[..., Credential],
    contexts: ServerContexts,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(tls_contexts, "MAX_CHAINS", 1)
    _, ticket = visit(credential)
    assert not visit(issue(), ticket, resumable=False)[0]
    resumed, ticket = visit(issue(), ticket, resumable=False)
    assert not resumed
    assert not visit(issue(), ticket, resumable=False)[0], "of the same chain, so the same context"
    visit(dataclasses.replace(issue(), issuers=credential.issuers * 2), resumable=False)
    resumed, ticket = visit(issue(), ticket, resumable=False)
    assert not resumed
    assert len(contexts._chains) == 1
    assert not visit(credential, ticket)[0]
    assert visit(credential, visit(credential)[1], resumable=False)[0], "it has a leaf context"


def test_same_certificate_decoded_again_resumes(
    visit: Callable[..., tuple[bool, object]], credential: Credential
):
    _, ticket = visit(credential)
    assert visit(dataclasses.replace(credential), ticket)[0]


def test_ticket_outlives_its_leaf_context(
    visit: Callable[..., tuple[bool, object]],
    credential: Credential,
    issue: Callable[..., Credential],
):
    contexts = ServerContexts(max_leaves=1)
    _, ticket = visit(credential, contexts=contexts)
    visit(issue(), contexts=contexts)
    assert visit(credential, ticket, contexts=contexts)[0]


def test_ticket_of_other_contexts_does_not_resume(
    visit: Callable[..., tuple[bool, object]], credential: Credential
):
    _, ticket = visit(credential)
    assert not visit(credential, ticket, contexts=ServerContexts())[0]


def test_tickets_end_with_the_base_that_gave_them(
    visit: Callable[..., tuple[bool, object]], credential: Credential
):
    clock = [0.0]
    contexts = ServerContexts(clock=lambda: clock[0])
    _, ticket = visit(credential, contexts=contexts)
    clock[0] = BASE_S - 1
    assert visit(credential, ticket, contexts=contexts)[0]
    clock[0] = BASE_S
    resumed, newer = visit(credential, ticket, contexts=contexts)
    assert not resumed
    assert visit(credential, newer, contexts=contexts)[0]
    clock[0] = 2 * BASE_S - 1
    assert visit(credential, newer, contexts=contexts)[0]
    clock[0] = 2 * BASE_S
    assert not visit(credential, newer, contexts=contexts)[0]


def test_prepared_bases_follow_each_other_alike_in_every_process(
    visit: Callable[..., tuple[bool, object]], credential: Credential
):
    clock = [0.0]
    contexts = ServerContexts(clock=lambda: clock[0])
    contexts.prepare()
    other = copy(contexts)  # as a fork leaves it: the same contexts, but their own turn
    other._prepared = contexts._prepared.copy()
    for clock[0] in (0.0, BASE_S + 1, 3 * BASE_S + 2):
        _, ticket = visit(credential, contexts=contexts)
    resumed, ticket = visit(credential, ticket, contexts=other)
    assert resumed, "it was not asked for anything meanwhile"
    clock[0] = 4 * BASE_S
    assert not visit(credential, ticket, contexts=other)[0]


def test_ticket_resumes_in_another_process(
    visit: Callable[..., tuple[bool, object]], credential: Credential
):
    _, ticket = visit(credential)
    child = os.fork()
    if not child:
        # Nothing of pytest may run in the child: it ends here, whatever happens.
        try:
            os._exit(0 if visit(credential, ticket)[0] else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
