"""A TLS client in memory, by Python's ``ssl`` or by pyOpenSSL, against a ``Session``."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest
from OpenSSL import SSL

from centcert import credential as credentials
from centcert.testing import Authority
from centcert.tls.contexts import ServerContexts
from centcert.tls.direct import DirectSessions
from centcert.tls.hello import HelloReader
from centcert.tls.session import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.credential import Credential
    from centcert.testing import KeyType
    from centcert.tls.session import Session

NAME = "www.contoso.example"


class Client(Protocol):
    """One step at a time; ``handshake``, ``read`` and ``write`` raise as their library does."""

    def receive(self, data: bytes) -> None: ...
    def handshake(self) -> bool: ...
    def read(self) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> bool: ...
    def outgoing(self) -> bytes: ...


class PythonClient:
    """Python's own ``ssl``: checks chain and name; sees whether it resumed."""

    def __init__(
        self,
        context: ssl.SSLContext,
        name: str | None = NAME,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=session
        )

    def receive(self, data: bytes) -> None:
        self._incoming.write(data)

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> bytes:
        chunks = []
        try:
            while chunk := self.tls.read(65536):
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        return b"".join(chunks)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]

    def close(self) -> bool:
        """Send close_notify; say whether the server's has come too."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return False
        return True

    def outgoing(self) -> bytes:
        return self._outgoing.read()


class OpenSslClient:
    """pyOpenSSL: as new an OpenSSL as the server's; sees the chain as it was sent."""

    def __init__(self, context: SSL.Context, name: str = NAME) -> None:
        self.tls = SSL.Connection(context, None)
        self.tls.set_tlsext_host_name(name.encode())
        self.tls.set_connect_state()

    def receive(self, data: bytes) -> None:
        if data:
            self.tls.bio_write(data)

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def read(self) -> bytes:
        chunks = []
        try:
            while True:
                chunks.append(self.tls.recv(65536))
        except SSL.WantReadError:
            return b"".join(chunks)

    def write(self, data: bytes) -> None:
        self.tls.sendall(data)

    def close(self) -> bool:
        return self.tls.shutdown()

    def outgoing(self) -> bytes:
        try:
            return self.tls.bio_read(1 << 24)
        except SSL.WantReadError:
            return b""


@dataclass(slots=True)
class Ends:
    """A client and the server's session, and the wire between them.

    ``cut`` is how many bytes arrive at once at either end; all of a flight unless told.
    """

    client: Client
    session: Session
    cut: int = 1 << 24

    def handshake(self) -> None:
        """Run until both ends are done; what either raises, it raises."""
        reader = HelloReader()
        done = self.client.handshake()
        hello = None
        for piece in self._pieces(self.client.outgoing()):
            hello = reader.feed(piece)
        assert hello is not None
        served = self.session.handshake(reader.raw)
        self.to_client()
        while not (done and served):
            before = done, served
            done = self.client.handshake()
            moved = False
            for piece in self._pieces(self.client.outgoing()):
                served = served or self.session.handshake(piece)
                moved = True
            moved = self.to_client() or moved
            assert moved or before != (done, served), "both ends wait for the other"

    def to_client(self) -> bool:
        """Deliver what the session has to send; say whether there was something."""
        data = self.session.outgoing()
        for piece in self._pieces(data):
            self.client.receive(piece)
        return bool(data)

    def to_server(self) -> bytes:
        """Deliver what the client has to send; return what the session reads."""
        return b"".join(map(self.session.read, self._pieces(self.client.outgoing())))

    def _pieces(self, data: bytes) -> list[bytes]:
        return [data[at : at + self.cut] for at in range(0, len(data), self.cut)]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def issue(authority: Authority) -> Callable[..., Credential]:
    """``issue(name, key_type)``: a new credential at each call."""

    def issue(name: str = NAME, key_type: KeyType = "ec-p256") -> Credential:
        issued = authority.issue(name, key_type=key_type)
        return credentials.decode(issued.pem(), key=f"{name}.pem", passwords=())

    return issue


@pytest.fixture(scope="session")
def credential_of(issue: Callable[..., Credential]) -> Callable[[KeyType], Credential]:
    """``credential_of(key_type)``: the same credential at each call."""
    return functools.cache(lambda key_type: issue(NAME, key_type))


@pytest.fixture(scope="session")
def credential(credential_of: Callable[[KeyType], Credential]) -> Credential:
    return credential_of("ec-p256")


@pytest.fixture(params=[DirectSessions, Sessions])
def contexts(request: pytest.FixtureRequest) -> ServerContexts:
    """With both kinds of sessions: whichever a pyOpenSSL allows must do the same."""
    return ServerContexts(sessions=request.param())


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """A client's context that trusts the test CA alone."""
    return ssl.create_default_context(cadata=authority.root_pem.decode())


@pytest.fixture
def python_client() -> type[PythonClient]:
    return PythonClient


@pytest.fixture
def openssl_client() -> type[OpenSslClient]:
    return OpenSslClient


@pytest.fixture
def meet(contexts: ServerContexts) -> Callable[..., Ends]:
    """``meet(client, credential)``: a client and a new session, before their handshake."""

    def meet(
        client: Client,
        credential: Credential,
        alpn: bytes | None = None,
        *,
        contexts: ServerContexts = contexts,
        resumable: bool = True,
        cut: int = 1 << 24,
    ) -> Ends:
        return Ends(client, contexts.session(credential, alpn, resumable=resumable), cut)

    return meet
