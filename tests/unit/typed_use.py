"""How programs use the public names; checked by mypy and never run."""

from __future__ import annotations

import asyncio
from typing import assert_type

import centcert
from centcert import (
    Application,
    CentcertError,
    Credential,
    HostName,
    Provider,
    ServerLimits,
    Store,
    TlsObject,
    UnknownName,
    open_store,
    start_server,
)


async def look_up() -> None:
    name = HostName.parse("www.contoso.com")
    assert_type(name, HostName)
    async with open_store("/srv/certificates") as store:
        assert_type(store, Store)
        async with Provider(store, refresh_s=60) as provider:
            assert_type(provider, Provider)
            assert_type(provider.known(name), Credential | None)
            credential = await provider.credential(name)
            assert_type(credential, Credential)
            assert_type(credential.key, str)
            assert_type(credential.covers(name), bool)


async def serve(provider: Provider) -> None:
    server = await start_server(
        asyncio.Protocol,
        provider,
        "127.0.0.1",
        443,
        alpn=["h2", "http/1.1"],
        default_name=HostName.parse("www.contoso.com"),
        limits=ServerLimits(handshake_s=5),
        reuse_port=True,
    )
    assert_type(server, asyncio.Server)
    await start_server(asyncio.Protocol, provider, port="443")  # type: ignore[arg-type]
    await start_server(asyncio.Protocol, provider, backlog="many")  # type: ignore[arg-type]
    await start_server(asyncio.Protocol, provider, ssl=True)  # type: ignore[call-arg]
    async with Application("module:app", grace_s=10) as application:
        assert_type(application.alpn, tuple[str, ...])
        await start_server(application.protocol, provider, alpn=application.alpn)


def facts(tls: TlsObject) -> None:
    assert_type(tls.version(), str)
    assert_type(tls.cipher(), tuple[str, str, int])
    assert_type(tls.selected_alpn_protocol(), str | None)
    assert_type(tls.server_hostname, HostName)


def errors() -> None:
    try:
        raise UnknownName("www.contoso.com")
    except CentcertError as error:
        assert_type(error.http_status, int)
        assert_type(error.retryable, bool)


assert_type(centcert.__version__, str)
_ = centcert.get_certificate  # type: ignore[attr-defined]
