"""A first visit, whose credential has just been looked up, does without tickets of its own."""

from __future__ import annotations

import dataclasses
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from centcert.frontend.handshake import Handshake
from centcert.provider.answering import Answer
from centcert.provider.policy import DEFAULT_POLICY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from centcert.credential import Credential
    from centcert.frontend.handshake import Sites
    from centcert.names import HostName
    from centcert.provider.policy import Policy
    from centcert.tls.contexts import ServerContexts
    from tests.handshake.conftest import PythonClient

    Visit = Callable[..., Awaitable[tuple[bool, ssl.SSLSession]]]

SITE = SimpleNamespace(alpn=(), policy=DEFAULT_POLICY)
SITES = cast(
    "Sites[Any]", SimpleNamespace(site=SITE, default_name=None, site_of=lambda _name: SITE)
)


class Provider:
    """Has one credential, in memory or to be looked up."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.remembers = False

    def known(self, _name: HostName, *, copies: bool = True) -> Credential | None:
        return self.credential if self.remembers and copies else None

    async def answer(self, name: HostName, _policy: Policy, _default: HostName | None) -> Answer:
        return Answer(name, self.credential)

    def source(self, _name: HostName) -> str | None:
        return None

    def wall(self) -> float:
        return 0.0


@pytest.fixture
def provider(credential: Credential) -> Provider:
    return Provider(credential)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def visit(
    request: pytest.FixtureRequest,
    trusting: ssl.SSLContext,
    python_client: type[PythonClient],
    contexts: ServerContexts,
    provider: Provider,
) -> Visit:
    """``await visit(ticket)``: did it resume, and a new ticket; the provider remembers then."""
    trusting.minimum_version = trusting.maximum_version = request.param

    async def visit(ticket: ssl.SSLSession | None = None) -> tuple[bool, ssl.SSLSession]:
        client = python_client(trusting, session=ticket)
        server = Handshake(contexts, SITES)
        client.handshake()
        assert server.read_hello(client.outgoing())
        known = server.from_memory(provider)
        done = server.answer(known or await server.look_up(lambda: provider))
        provider.remembers = True
        while not done:
            client.receive(server.session.outgoing())
            client.handshake()
            done = server.go_on(client.outgoing())
        server.session.write(b"served")
        client.receive(server.session.outgoing())
        assert client.handshake()
        assert client.read() == b"served"  # takes the tickets of TLS 1.3 in too
        session = client.tls.session
        assert session is not None
        return bool(client.tls.session_reused), session

    return visit


async def test_a_session_resumes_that_was_not_the_first(visit: Visit):
    resumed, ticket = await visit()
    assert not resumed
    resumed, ticket = await visit(ticket)
    assert not resumed, "what a first visit gives is bound to no certificate"
    assert (await visit(ticket))[0]


async def test_a_ticket_of_another_process_resumes_on_a_first_visit(
    visit: Visit, provider: Provider
):
    await visit()
    _, ticket = await visit()
    provider.remembers = False  # as in a worker that shares the contexts' keys
    provider.credential = dataclasses.replace(provider.credential)
    assert (await visit(ticket))[0]
