"""An ASGI application behind TLS from the store, in this very process.

HTTP/1.1 and WebSockets are uvicorn's; where Hypercorn is installed, clients that agree on
``h2`` (RFC 7301) are Hypercorn's. Both serve one application with one lifespan. Needs the
extra ``centcert[asgi]``.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import AsyncExitStack
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self, cast

from cryptography.hazmat.primitives.serialization import Encoding

from centcert.background import Background
from centcert.errors import SettingsError
from centcert.tls.hello import TlsVersion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import TracebackType

    import uvicorn
    from cryptography.x509 import Certificate
    from hypercorn.asyncio.worker_context import WorkerContext

    from centcert.frontend.tls_object import TlsObject

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HTTP_1_1: Final = "http/1.1"
_HTTP_2: Final = "h2"

_VERSIONS: Final = {"TLSv1.2": TlsVersion.TLS_1_2, "TLSv1.3": TlsVersion.TLS_1_3}

_SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
}
"""The numbers of the cipher suites that are spoken here, by OpenSSL's names (IANA's registry)."""

_CERTIFICATES_KEPT: Final = 1024  # as PEM; as many as there are warm contexts


class Application:
    """An ASGI application; entered it has started, left it has shut down.

    Serve it with ``start_server(application.protocol, provider, alpn=application.alpn)``.
    Leaving closes idle connections, lets requests under way finish for ``grace_s``
    seconds, and only then ends the application's lifespan.

    ``scope["extensions"]["tls"]`` holds the facts of the ASGI TLS extension.

    Args:
        app: the application, or where to import it from: ``module:attribute``.
        grace_s: for requests under way when it is left.

    Raises:
        SettingsError: on entering: the extra is not installed, there is no such
            application, or it does not start.
    """

    def __init__(self, app: App | str, *, grace_s: float = 30.0) -> None:
        self.name = app if isinstance(app, str) else getattr(app, "__name__", repr(app))
        self.grace_s = grace_s
        self._app = app
        self._http_2: _Http2 | None = None
        self._server: uvicorn.Server
        self._config: uvicorn.Config
        self._stack = AsyncExitStack()
        self._pem = lru_cache(_CERTIFICATES_KEPT)(_pem)

    @property
    def alpn(self) -> tuple[str, ...]:
        """The protocols that are spoken, most wanted first; known once it is entered."""
        return (_HTTP_1_1,) if self._http_2 is None else (_HTTP_2, _HTTP_1_1)

    async def __aenter__(self) -> Self:
        try:
            import uvicorn  # noqa: PLC0415  an extra
        except ImportError as error:
            raise SettingsError(
                "To run an application in this process, install centcert[asgi]."
            ) from error
        self._config = uvicorn.Config(self._load(), log_config=None, proxy_headers=False)
        self._config.load()
        self._server = uvicorn.Server(self._config)
        self._server.lifespan = self._config.lifespan_class(self._config)
        try:
            await self._server.startup(sockets=[])
        except SystemExit as error:  # which is how uvicorn says it
            raise SettingsError(f"{self.name} did not start: its own log says why.") from error
        if find_spec("hypercorn") is not None:
            self._http_2 = _Http2(self._server.lifespan.state)
        tasks = await self._stack.enter_async_context(Background())
        tasks.create_task(self._server.main_loop())  # it renews the header Date once a second
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.grace_s
        connections = self._server.server_state.connections
        for connection in tuple(connections):
            connection.shutdown()
        if self._http_2 is not None:
            await self._http_2.close(self.grace_s)
        left_s = max(deadline - loop.time(), 0.0)
        self._config.timeout_graceful_shutdown = cast("int", left_s)  # any number is taken
        await self._server.shutdown(sockets=[])
        for connection in tuple(connections):
            connection.transport.abort()
        await self._stack.aclose()

    def protocol(self) -> asyncio.BaseProtocol:
        """Make the protocol of one connection; it is chosen when TLS stands."""
        return _ByAlpn(self)

    def protocol_for(self, tls: TlsObject) -> asyncio.BaseProtocol:
        """Make the protocol for what the client has agreed on."""
        app = _WithTls(self._config.loaded_app, self._facts(tls))
        if self._http_2 is not None and tls.selected_alpn_protocol() == _HTTP_2:
            return self._http_2.protocol(app)
        # The same configuration, but for the application: also for an upgrade to WebSocket.
        config = copy.copy(self._config)
        config.loaded_app = app
        make = cast("Callable[..., asyncio.BaseProtocol]", config.http_protocol_class)
        return make(
            config=config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
        )

    def _load(self) -> App:
        if not isinstance(self._app, str):
            return self._app
        from uvicorn.importer import ImportFromStringError, import_from_string  # noqa: PLC0415

        try:
            return cast("App", import_from_string(self._app))
        except ImportFromStringError as error:
            raise SettingsError(f"{self._app} cannot be run: {error}") from error

    def _facts(self, tls: TlsObject) -> dict[str, object]:
        """Return what the ASGI TLS extension (version 0.2) tells of a connection."""
        return {
            "server_cert": self._pem(tls.certificate),
            "client_cert_chain": (),
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": int(_VERSIONS[tls.version()]),
            "cipher_suite": _SUITES.get(tls.cipher()[0]),
        }


class _ByAlpn(asyncio.Protocol):
    """Steps aside for the protocol that the client has agreed on."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._application.protocol_for(transport.get_extra_info("ssl_object"))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _WithTls:
    """The application, told the facts of one TLS connection."""

    def __init__(self, app: App, facts: dict[str, object]) -> None:
        self._app = app
        self._facts = facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})["tls"] = self._facts.copy()
        await self._app(scope, receive, send)


class _Http2:
    """Hypercorn's HTTP/2 for one application."""

    def __init__(self, state: dict[str, Any]) -> None:
        from hypercorn.asyncio.worker_context import WorkerContext  # noqa: PLC0415  an extra
        from hypercorn.config import Config  # noqa: PLC0415

        self._config = Config()
        self._context: WorkerContext = WorkerContext(None)
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()

    def protocol(self, app: _WithTls) -> asyncio.BaseProtocol:
        """Make a connection's protocol."""
        from hypercorn.app_wrappers import ASGIWrapper  # noqa: PLC0415
        from hypercorn.asyncio.tcp_server import TCPServer  # noqa: PLC0415

        loop = asyncio.get_running_loop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            wrapped = ASGIWrapper(cast("Any", app))
            await TCPServer(
                wrapped, loop, self._config, self._context, cast("Any", self._state), reader, writer
            )

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve)

    async def close(self, grace_s: float) -> None:
        """Let requests finish for ``grace_s`` seconds; then end them."""
        await self._context.terminated.set()
        tasks = tuple(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _pem(certificate: Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
