"""All listeners of a process: those that lead to backends and those that lead to applications."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from centcert.background import Background
from centcert.frontend.applications import Applications
from centcert.frontend.frontend import FrontEnd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from centcert.frontend.events import Listener as EventListener
    from centcert.frontend.listener import AppListener, Limits, Listener
    from centcert.frontend.sockets import OpenSockets
    from centcert.provider.answering import Answers
    from centcert.tls.contexts import ServerContexts


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be open, and within which limits.

    Attributes:
        grace_s: for connections to finish at the end.
    """

    listeners: Sequence[Listener]
    app_listeners: Sequence[AppListener]
    limits: Limits
    grace_s: float


class Entrance:
    """Open listeners; an async context manager: left, it lets connections finish.

    Args:
        provider: what answers names; entered by the caller, who also leaves it.
        plan: what is to be open at first.
        sockets: what is listened on; what it opens itself is closed in the end.
        listener: as for ``FrontEnd``, like ``contexts``.
        contexts: what TLS sessions begin on.

    Raises:
        SettingsError: on entering: a listener or an application cannot be started.
    """

    def __init__(
        self,
        provider: Answers,
        plan: Plan,
        sockets: OpenSockets,
        *,
        listener: EventListener | None = None,
        contexts: ServerContexts | None = None,
    ) -> None:
        self._provider = provider
        self._plan = plan
        self._sockets = sockets
        self._listener = listener
        self._contexts = contexts
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(Background())
            self._front_end = FrontEnd(
                self._provider,
                tasks,
                limits=self._plan.limits,
                listener=self._listener,
                contexts=self._contexts,
                inherited=self._sockets.by_address,
            )
            self._applications = Applications(
                tasks,
                self._front_end.numbers,
                self._listener,
                contexts=self._contexts,
                inherited=self._sockets.by_address,
                crowd=self._front_end.crowd,
            )
            stack.push_async_callback(self._applications.close)
            stack.callback(self._sockets.close_but, ())
            await self._open(self._plan, self._provider)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sockets.close_but(())
        try:
            async with asyncio.TaskGroup() as ends:
                ends.create_task(self._applications.close())
                await self._front_end.close(self._plan.grace_s)
        finally:
            await self._stack.aclose()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The host and port of every open socket, with the ports that the kernel chose."""
        return self._front_end.addresses + self._applications.addresses

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return self._front_end.crowd.connections

    @property
    def waiting(self) -> int:
        """How many handshakes wait for the store."""
        return self._front_end.crowd.waiting

    async def change(self, plan: Plan, provider: Answers) -> None:
        """Go on with another plan, and let ``provider`` answer clients to come.

        Connections go on with what they began with. If it cannot be done, nothing changes.

        Raises:
            SettingsError: a listener or an application cannot be started.
        """
        try:
            await self._open(plan, provider)
        except BaseException:
            await self._open(self._plan, self._provider)  # all of it is open still
            raise
        self._front_end.limits = plan.limits
        self._front_end.provider = provider
        self._plan, self._provider = plan, provider

    async def _open(self, plan: Plan, provider: Answers) -> None:
        """Open exactly the listeners of ``plan``, after all that may fail."""
        listeners, apps = plan.listeners, plan.app_listeners
        addresses = {one.address for one in listeners} | {one.address for one in apps}
        await self._applications.start([one.app for one in apps], plan.grace_s)
        await self._sockets.open(addresses)
        self._front_end.listen(listeners)
        await self._applications.listen(apps, provider, plan.limits)
        self._sockets.close_but(addresses)
