"""What a Python server asks of TLS through its transport: facts, in ``ssl``'s own forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from centcert.credential import Credential
    from centcert.names import HostName
    from centcert.tls.contexts import ServerContexts
    from centcert.tls.session import Session


class TlsObject:
    """Stands where servers look for an ``ssl.SSLObject`` whose handshake is done.

    Attributes:
        context: true, as an ``ssl.SSLContext`` is; nothing can be set on it.
        server_side: always.
        server_hostname: the name that the client was answered for. (Python's own is
            ``None`` on a server's side.)
    """

    __slots__ = ("_credential", "_session", "context", "server_hostname")

    server_side: Final = True

    def __init__(
        self, context: ServerContexts, session: Session, credential: Credential, name: HostName
    ) -> None:
        self.context = context
        self._credential = credential
        self.server_hostname = name
        self._session = session

    @property
    def certificate(self) -> Certificate:
        """The leaf that was served, parsed anew."""
        return self._credential.certificate

    def version(self) -> str:
        """Return ``TLSv1.3`` or ``TLSv1.2``."""
        return self._session.version

    def cipher(self) -> tuple[str, str, int]:
        """Return name, version and secret bits: ``("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128)``."""
        # Each of the ciphers spoken here belongs to one version.
        return self._session.cipher, self._session.version, self._session.cipher_bits

    def compression(self) -> None:
        """Return that nothing is compressed (RFC 9325 §3.3)."""

    def selected_alpn_protocol(self) -> str | None:
        """Return for example ``h2``; ``None`` if no protocol was agreed on."""
        alpn = self._session.alpn
        return None if alpn is None else alpn.decode("ascii")

    def getpeercert(self, binary_form: bool = False) -> None:  # noqa: FBT001, FBT002  as in ssl
        """Return that clients are not asked for certificates."""
        del binary_form
