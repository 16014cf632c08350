"""Centcert: a central certificate store for any web farm.

The public names of the library. They are loaded when they are first used: the processes
that decode files import this package too, and nothing of the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centcert.asgi import Application as Application
    from centcert.credential import Credential as Credential
    from centcert.errors import BadBlob as BadBlob
    from centcert.errors import CentcertError as CentcertError
    from centcert.errors import HandshakeFailed as HandshakeFailed
    from centcert.errors import HelloRefused as HelloRefused
    from centcert.errors import NameRefused as NameRefused
    from centcert.errors import Overloaded as Overloaded
    from centcert.errors import SettingsError as SettingsError
    from centcert.errors import StoreError as StoreError
    from centcert.errors import StoreUnavailable as StoreUnavailable
    from centcert.errors import UnknownName as UnknownName
    from centcert.frontend.server import ServerLimits as ServerLimits
    from centcert.frontend.server import start_server as start_server
    from centcert.frontend.tls_object import TlsObject as TlsObject
    from centcert.frontend.transport import TlsTransport as TlsTransport
    from centcert.names import HostName as HostName
    from centcert.provider import CacheLimits as CacheLimits
    from centcert.provider import Provider as Provider
    from centcert.stores import Store as Store
    from centcert.stores import open_store as open_store

__version__ = "0.1.0"

_HOMES = {
    "Application": "asgi",
    "BadBlob": "errors",
    "CacheLimits": "provider",
    "CentcertError": "errors",
    "Credential": "credential",
    "HandshakeFailed": "errors",
    "HelloRefused": "errors",
    "HostName": "names",
    "NameRefused": "errors",
    "Overloaded": "errors",
    "Provider": "provider",
    "ServerLimits": "frontend.server",
    "SettingsError": "errors",
    "Store": "stores",
    "StoreError": "errors",
    "StoreUnavailable": "errors",
    "TlsObject": "frontend.tls_object",
    "TlsTransport": "frontend.transport",
    "UnknownName": "errors",
    "open_store": "stores",
    "start_server": "frontend.server",
}

__all__ = [
    "Application",
    "BadBlob",
    "CacheLimits",
    "CentcertError",
    "Credential",
    "HandshakeFailed",
    "HelloRefused",
    "HostName",
    "NameRefused",
    "Overloaded",
    "Provider",
    "ServerLimits",
    "SettingsError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TlsObject",
    "TlsTransport",
    "UnknownName",
    "__version__",
    "open_store",
    "start_server",
]


if not TYPE_CHECKING:  # else every name would pass for one of these

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
