"""What a worker process does: it accepts clients and serves them, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from centcert.audience import Audience
from centcert.collector import settle
from centcert.frontend.entrance import Entrance, Plan
from centcert.frontend.sockets import OpenSockets
from centcert.provider.messages import Report
from centcert.provider.remote import RemoteProvider
from centcert.tracing import Tracing, traced
from centcert.workers.processes import Ready

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from socket import socket

    from centcert.admin.settings import Settings
    from centcert.frontend import Limits, TcpAddress
    from centcert.provider import CacheLimits
    from centcert.tls.contexts import ServerContexts
    from centcert.tracing import Traced
    from centcert.workers.processes import Channel, Log


@dataclass(frozen=True, slots=True)
class Place:
    """What distinguishes one worker from the others.

    Attributes:
        workers: how many there are.
        sockets: what it accepts from.
        provider: where the provider process answers.
        token: what it answers to.
    """

    workers: int
    sockets: Mapping[TcpAddress, Sequence[socket]]
    provider: bytes
    token: bytes


async def work(
    settings: Settings, place: Place, contexts: ServerContexts, log: Log, channel: Channel
) -> None:
    """Serve until SIGTERM, then let connections finish; a second one ends the process.

    Raises:
        SettingsError: a listener or an application cannot be started.
    """
    loop, audience, ending = asyncio.get_running_loop(), Audience(log), asyncio.Event()
    loop.set_exception_handler(log.fault)
    provider = RemoteProvider(
        place.provider,
        place.token,
        limits=cache_share(settings, place.workers),
        audience=audience,
    )
    plan = Plan(
        settings.listeners(),
        settings.app_listeners(),
        share(settings.limits.limits(), place.workers),
        settings.limits.grace,
    )
    entrance = Entrance(
        provider, plan, OpenSockets(place.sockets), listener=audience, contexts=contexts
    )
    async with provider, entrance:
        for sockets in place.sockets.values():  # the entrance has its own copies, and closes them
            for one in sockets:
                one.close()
        provider.report = lambda: Report(
            entrance.connection_count, entrance.waiting, audience.counters
        )
        provider.trace = lambda pattern: _encoded(traced(audience, pattern))
        loop.add_signal_handler(signal.SIGTERM, ending.set)
        channel.tell(Ready())
        settle()
        await ending.wait()
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def _encoded(
    messages: AsyncGenerator[Tracing | Traced, None],
) -> AsyncGenerator[bytes, None]:
    """Leave out what says that it begins: that is for the node to say."""
    async with aclosing(messages):
        async for message in messages:
            if not isinstance(message, Tracing):
                yield msgspec.json.encode(message)


def share(limits: Limits, workers: int) -> Limits:
    """Return what strangers may take of one of so many workers."""
    return replace(
        limits,
        connections=-(-limits.connections // workers),
        waiting=-(-limits.waiting // workers),
    )


def cache_share(settings: Settings, workers: int) -> CacheLimits:
    """Return what one of so many workers may remember.

    All workers together may take half of the memory, the provider process the other half:
    what workers hold, it holds too.
    """
    limits = settings.cache_limits()
    return replace(limits, max_bytes=limits.max_bytes // 2 // workers)
