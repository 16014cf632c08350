"""A running front end, put together from its settings."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self, TypeAlias

from centcert import __version__
from centcert.audience import Audience
from centcert.control import (
    Finding,
    Holding,
    Look,
    NodeStatus,
    ReadSettings,
    Reload,
    ReloadAll,
    Reloaded,
    Status,
    Trace,
)
from centcert.errors import CentcertError, SettingsError
from centcert.frontend.entrance import Entrance, Plan
from centcert.frontend.sockets import OpenSockets
from centcert.names import HostName, candidates
from centcert.provider import Provider
from centcert.provider.lastgood import LastGood
from centcert.provider.seal import sealing_key
from centcert.stores import open_store
from centcert.stores.disabled import DisabledStore
from centcert.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from socket import socket
    from types import TracebackType

    from centcert.admin.settings import Settings, StoreSettings
    from centcert.control import Reply, Request, Stream
    from centcert.frontend import TcpAddress
    from centcert.frontend.events import Event as FrontEndEvent
    from centcert.provider.events import Event as ProviderEvent
    from centcert.stores.base import Store
    from centcert.stores.events import Event as StoreEvent

    Event: TypeAlias = ProviderEvent | FrontEndEvent | StoreEvent


class Node:
    """Store, provider and front end; entered it serves, left it lets connections finish.

    Args:
        settings: what to serve; see ``centcert.admin.settings``.
        listener: is told every step of store, provider and front end; what it raises goes to the
            event loop's exception handler. An ``Audience`` of news is not told every step.
        inherited: sockets that listen already, by the listener they are for; they stay the
            caller's to close.

    Raises:
        SettingsError: on entering and on ``reload``: a listener cannot be opened, the
            store's URL is wrong, or a password file cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        listener: Callable[[Event], None] | None = None,
        inherited: Mapping[TcpAddress, Sequence[socket]] | None = None,
    ) -> None:
        self._settings = settings
        self._inherited = inherited or {}
        self._audience = Audience.of(listener)
        self._began = time.monotonic()
        self._stack = AsyncExitStack()
        self._source = AsyncExitStack()  # the store and its provider

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._source, self._provider = await self._open_source(self._settings)
            stack.push_async_callback(self._close_source)
            self._entrance = Entrance(
                self._provider,
                _plan(self._settings),
                OpenSockets(self._inherited),
                listener=self._audience,
            )
            await stack.enter_async_context(self._entrance)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every open socket, with the ports that the kernel chose."""
        return self._entrance.addresses

    async def answer(self, request: Request) -> Reply | Stream:
        """Answer a command that came through the control socket.

        Raises:
            CentcertError: it cannot be carried out.
        """
        provider = self._provider
        match request:
            case ReadSettings():  # for whoever has read them: `centcert serve`
                raise CentcertError("This node was not told where its settings come from.")
            case Status():
                return await self.status()
            case Trace(pattern=pattern):
                return traced(self._audience, pattern)
            case Look(name=text):
                name = HostName.parse(text)
                held, has_copy = provider.held(name), provider.has_copy(name)
                if held is None:
                    return Holding(copy=has_copy)
                return Holding(held.key, held.fingerprint.hex(), held.not_after, has_copy)
            case ReloadAll():
                return Reloaded(provider.reload_all(), findings=_findings(provider))
            case Reload(name=text):
                name = HostName.parse(text)
                credential = await provider.reload(name)
                subjects = {candidate.key for candidate in candidates(name)} | {provider.store_url}
                return Reloaded(
                    1,
                    credential.key,
                    credential.not_after,
                    tuple(one for one in _findings(provider) if one.subject in subjects),
                )

    async def reload(self, settings: Settings) -> None:
        """Go on with other settings; connections go on with those they began with.

        What is in memory is kept unless the store's settings have changed. If the new
        settings cannot be carried out, nothing is changed.
        """
        source, provider = None, self._provider
        if settings.store != self._settings.store:
            source, provider = await self._open_source(settings)
        try:
            await self._entrance.change(_plan(settings), provider)
        except BaseException:
            if source is not None:
                await source.aclose()
            raise
        self._settings = settings
        if source is not None:
            self._provider = provider
            await self._close_source()
            self._source = source

    async def status(self) -> NodeStatus:
        """Tell how the node does."""
        provider, expiry = self._provider, await self._provider.expiry()
        names, used_bytes = provider.usage
        return NodeStatus(
            version=__version__,
            store=provider.store_url,
            up_s=time.monotonic() - self._began,
            connections=self._entrance.connection_count,
            names=names,
            used_bytes=used_bytes,
            findings=_findings(provider),
            max_bytes=provider.max_bytes,
            waiting=self._entrance.waiting,
            counters=self._audience.counters,
            health=provider.health,
            expiry=expiry,
        )

    async def _open_source(self, settings: Settings) -> tuple[AsyncExitStack, Provider]:
        async with AsyncExitStack() as stack:
            provider: Provider

            def tell(event: ProviderEvent) -> None:
                provider.tell(event)

            store = await stack.enter_async_context(_store(settings.store, tell))
            provider = Provider(
                store,
                passwords=settings.store.key_passwords,
                refresh_s=settings.store.refresh,
                limits=settings.cache_limits(),
                last_good=_last_good(settings, store.url, tell),
                listener=self._audience,
            )
            await stack.enter_async_context(provider)
            return stack.pop_all(), provider

    async def _close_source(self) -> None:
        await self._source.aclose()


def _plan(settings: Settings) -> Plan:
    return Plan(
        settings.listeners(),
        settings.app_listeners(),
        settings.limits.limits(),
        settings.limits.grace,
    )


def _store(settings: StoreSettings, listener: Callable[[StoreEvent], None]) -> Store:
    if not settings.enabled:
        return DisabledStore(settings.url, listener=listener)
    account = settings.account()
    # A secret that cannot be read is told now, not at the first visit.
    settings.key_passwords()
    if account is not None and account.password is not None:
        account.password()
    return open_store(settings.url, account=account, listener=listener)


def _findings(provider: Provider) -> tuple[Finding, ...]:
    return tuple(
        Finding(one.code, one.subject, one.since, one.sentence) for one in provider.findings()
    )


def _last_good(
    settings: Settings, store_url: str, tell: Callable[[ProviderEvent], None]
) -> LastGood | None:
    if not settings.store.last_good:
        return None
    folder = settings.state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder}, where this node keeps its own copies, cannot be made: {error.strerror}."
            " Name another with --state-folder, or keep none with --no-last-good."
        ) from error
    files = settings.store.sealing_key_files or (folder / "sealing-key",)
    return LastGood(
        folder / "last-good",
        [sealing_key(file) for file in files],
        store_url=store_url,
        listener=tell,
        max_names=settings.store.max_names,
    )
