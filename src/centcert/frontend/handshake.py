"""A connection's way from its first byte to the moment TLS stands: no socket, no task.

The owner moves the bytes and waits for the credential; what is decided on the way (which
name is answered for, what is agreed on, with which words a client is refused) is decided
here, once for the relay and for Python servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from centcert.errors import CentcertError, Closing, NameRefused
from centcert.names import HostName
from centcert.provider.answering import answer_from_memory, name_for_none
from centcert.tls.contexts import choose_alpn
from centcert.tls.hello import ClientHello, HelloReader, alert_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential
    from centcert.provider.answering import Answer, Answers
    from centcert.provider.policy import Policy
    from centcert.tls.contexts import ServerContexts
    from centcert.tls.session import Session


class Terms(Protocol):
    """What is offered under a name, as far as a handshake is concerned."""

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """The application protocols, most wanted first; empty: ALPN is not answered."""

    @property
    def policy(self) -> Policy:
        """What a handshake gets when the name has no good answer."""


S_co = TypeVar("S_co", bound=Terms, covariant=True)


class Sites(Protocol[S_co]):
    """What a listener offers; ``centcert.frontend.Listener`` is one."""

    @property
    def site(self) -> S_co:
        """What holds for names without a site of their own."""

    @property
    def default_name(self) -> HostName | None:
        """Whose certificate a client gets that sends no name, or an unknown one."""

    def site_of(self, name: HostName) -> S_co:
        """Return what holds for ``name``."""


class Handshake(Generic[S_co]):
    """One client's hello, the name it is answered for, and its session as that begins.

    First ``read_hello`` until it says yes; then ``answer`` with what ``from_memory``
    returned, else with what ``look_up`` did; then ``go_on`` until TLS stands. Each
    raises a ``CentcertError`` if the handshake must end: the client is then sent what
    ``refusal`` returns.
    """

    __slots__ = (
        "_alpn",
        "_contexts",
        "_first",
        "_hello_sent",
        "_offered",
        "_reader",
        "_resumes",
        "_session",
        "_sites",
        "asked",
        "name",
        "site",
    )

    def __init__(self, contexts: ServerContexts, sites: Sites[S_co]) -> None:
        self._contexts = contexts
        self._sites = sites
        self._reader = HelloReader()
        self._offered: tuple[bytes, ...] = ()
        self._alpn: bytes | None = None
        self._resumes = self._first = False
        self._session: Session | None = None
        self._hello_sent = False
        self.asked: str | None = None
        """The server name as the client sent it, once it has."""
        self.name: HostName
        """The name that is answered for, once the hello is read."""
        self.site: S_co
        """What holds for that name: the two never come from two different names."""

    @property
    def session(self) -> Session:
        """The session; there is one from ``answer`` on."""
        assert self._session is not None  # noqa: S101  the owner keeps the order
        return self._session

    @property
    def hello_bytes(self) -> int:
        """How much the client has sent, until ``answer``."""
        return len(self._reader.raw)

    def read_hello(self, data: bytes | memoryview) -> bool:
        """Take what the client sent; say whether its hello is whole and ``name`` known.

        Raises:
            HelloRefused: no hello can come of it, it names nobody, or it offers none of
                the name's protocols.
            NameRefused: what it asks for is no host name.
        """
        hello = self._reader.feed(data)
        if hello is None:
            return False
        self.asked, self._offered = hello.server_name, hello.alpn
        self._resumes = hello.resumes
        self._answer_for(self._name_to_answer(hello))
        return True

    def from_memory(self, provider: Answers) -> Credential | None:
        """Return the credential of ``name`` if it is in memory.

        Raises:
            CredentialExpired: it is outside its dates, and the policy refuses that.
        """
        return answer_from_memory(provider, self.name, self.site.policy)

    async def look_up(self, provider_now: Callable[[], Answers]) -> Credential:
        """Wait for the credential of ``name``, or as the policy says of the default name.

        ``provider_now`` returns the provider to ask: a node may change it meanwhile, and
        then the new one answers in place of the one that has closed.

        Raises:
            CentcertError: there is none.
        """
        self._first = True
        name, credential = await self._ask(provider_now)
        if name != self.name:
            self._answer_for(name)
        return credential

    def answer(self, credential: Credential) -> bool:
        """Begin the session with the bytes of the hello; say whether TLS stands already.

        Raises:
            CredentialUnusable: OpenSSL will not serve with it.
            HandshakeFailed: the client's hello does not suit it.
        """
        resumable = self._resumes or not self._first
        self._session = self._contexts.session(credential, self._alpn, resumable=resumable)
        raw = self._reader.raw
        self._reader = HelloReader()  # the hello is TLS's now
        return self.go_on(raw)

    def go_on(self, data: bytes | memoryview) -> bool:
        """Take what the client sent; say whether TLS stands. ``session`` has the answer.

        Raises:
            HandshakeFailed: it cannot be done.
        """
        return self.session.handshake(data)

    def note_flight(self, size: int) -> bool:
        """Take note that ``size`` bytes leave; say whether they are the first.

        A HelloRetryRequest (RFC 8446 §4.1.4) makes one flight more, no other ServerHello.
        """
        first = size > 0 and not self._hello_sent
        self._hello_sent = self._hello_sent or first
        return first

    def refusal(self, error: CentcertError) -> bytes:
        """Return what tells the client of ``error``: an alert, by TLS itself where it can."""
        return alert_record(error.alert) if self._session is None else self._session.outgoing()

    def _name_to_answer(self, hello: ClientHello) -> HostName:
        policy, default = self._sites.site.policy, self._sites.default_name
        if hello.server_name is None:
            return name_for_none(None, policy, default)
        try:
            return HostName.parse(hello.server_name)
        except NameRefused as error:
            return name_for_none(error, policy, default)

    def _answer_for(self, name: HostName) -> None:
        self.name = name
        self.site = self._sites.site_of(name)
        self._alpn = choose_alpn(self._offered, self.site.alpn)

    async def _ask(self, provider_now: Callable[[], Answers]) -> Answer:
        policy, default = self.site.policy, self._sites.default_name
        while True:
            provider = provider_now()
            try:
                return await provider.answer(self.name, policy, default)
            except Closing:
                if provider is provider_now():
                    raise
                # The settings have changed meanwhile: the new store answers.
