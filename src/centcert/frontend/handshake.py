"""A connection's way from its first byte to the moment TLS stands: no socket, no task.

The owner moves the bytes and waits for the credential; what is decided on the way (which
name is answered for, what is agreed on, with which words a client is refused) is decided
here, once for the relay and for Python servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from centcert.errors import Alert, CentcertError, Closing, HelloRefused, NameRefused, UnknownName
from centcert.names import HostName
from centcert.tls.contexts import choose_alpn
from centcert.tls.hello import ClientHello, HelloReader, alert_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from centcert.credential import Credential
    from centcert.provider import Provider
    from centcert.tls.contexts import ServerContexts
    from centcert.tls.session import Session


class Handshake:
    """One client's hello, the name it is answered for, and its session as that begins.

    First ``read_hello`` until it says yes, then ``answer`` with a credential of ``name``
    (what ``Provider.known`` returned, else what ``credential`` did), then ``go_on`` until
    TLS stands. Each raises a ``CentcertError`` if the handshake must end: the client is
    then sent what ``refusal`` returns.

    Args:
        contexts: makes the session.
        default_name: whose certificate a client gets that sends no host name, or one the
            store has no file for; ``None``: it is refused.
        alpn_of: returns the protocols to offer under a name, most wanted first.
    """

    __slots__ = (
        "_alpn",
        "_alpn_of",
        "_contexts",
        "_default_name",
        "_offered",
        "_reader",
        "_session",
        "asked",
        "name",
    )

    def __init__(
        self,
        contexts: ServerContexts,
        default_name: HostName | None,
        alpn_of: Callable[[HostName], Sequence[bytes]],
    ) -> None:
        self._contexts = contexts
        self._default_name = default_name
        self._alpn_of = alpn_of
        self._reader = HelloReader()
        self._offered: tuple[bytes, ...] = ()
        self._alpn: bytes | None = None
        self._session: Session | None = None
        self.asked: str | None = None
        """The server name as the client sent it, once it has."""
        self.name: HostName
        """The name that is answered for, once the hello is read."""

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
        self._answer_for(self._name_to_answer(hello))
        return True

    async def credential(self, provider_now: Callable[[], Provider]) -> Credential:
        """Ask for the credential of ``name``; on its absence for the default name's.

        ``provider_now`` returns the provider to ask: a node may change it meanwhile, and
        then the new one answers for the old one that has closed.

        Raises:
            CentcertError: as ``Provider.credential``.
        """
        try:
            return await self._credential(provider_now)
        except UnknownName:
            if self._default_name is None:
                raise
            self._answer_for(self._default_name)
            return await self._credential(provider_now)

    def answer(self, credential: Credential) -> bool:
        """Begin the session with the bytes of the hello; say whether TLS stands already.

        Raises:
            CredentialUnusable: OpenSSL will not serve with it.
            HandshakeFailed: the client's hello does not suit it.
        """
        self._session = self._contexts.session(credential, self._alpn)
        raw = self._reader.raw
        self._reader = HelloReader()  # the hello is TLS's now
        return self.go_on(raw)

    def go_on(self, data: bytes | memoryview) -> bool:
        """Take what the client sent; say whether TLS stands. ``session`` has the answer.

        Raises:
            HandshakeFailed: it cannot be done.
        """
        session = self.session
        session.receive(data)
        return session.handshake()

    def refusal(self, error: CentcertError) -> bytes:
        """Return what tells the client of ``error``: an alert, by TLS itself where it can."""
        return alert_record(error.alert) if self._session is None else self._session.outgoing()

    def _name_to_answer(self, hello: ClientHello) -> HostName:
        default = self._default_name
        if hello.server_name is None:
            if default is None:
                # RFC 8446 §9.2: a server that needs the extension says so with this alert.
                raise HelloRefused(Alert.MISSING_EXTENSION, "The client sent no server name.")
            return default
        try:
            return HostName.parse(hello.server_name)
        except NameRefused:
            if default is None:
                raise
            return default

    def _answer_for(self, name: HostName) -> None:
        self.name = name
        self._alpn = choose_alpn(self._offered, self._alpn_of(name))

    async def _credential(self, provider_now: Callable[[], Provider]) -> Credential:
        while True:
            provider = provider_now()
            try:
                return await provider.credential(self.name)
            except Closing:
                if provider is provider_now():
                    raise
