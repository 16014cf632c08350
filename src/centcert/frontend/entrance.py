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
    from collections.abc import Mapping, Sequence
    from socket import socket
    from types import TracebackType

    from centcert.frontend.addresses import TcpAddress
    from centcert.frontend.events import Listener as EventListener
    from centcert.frontend.listener import AppListener, Limits, Listener
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

    Args: as for ``FrontEnd`` and ``Applications``, which it consists of.
    """

    def __init__(
        self,
        provider: Answers,
        plan: Plan,
        *,
        listener: EventListener | None = None,
        contexts: ServerContexts | None = None,
        inherited: Mapping[TcpAddress, Sequence[socket]],
    ) -> None:
        self._provider = provider
        self._plan = plan
        self._listener = listener
        self._contexts = contexts
        self._inherited = inherited
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            plan, tasks = self._plan, await stack.enter_async_context(Background())
            self._front_end = FrontEnd(
                self._provider,
                tasks,
                limits=plan.limits,
                listener=self._listener,
                contexts=self._contexts,
                inherited=self._inherited,
            )
            self._applications = Applications(
                tasks,
                self._front_end.numbers,
                self._listener,
                contexts=self._contexts,
                inherited=self._inherited,
                crowd=self._front_end.crowd,
            )
            stack.push_async_callback(self._applications.close)
            await self._applications.start([one.app for one in plan.app_listeners], plan.grace_s)
            self._front_end.listen(plan.listeners)
            await self._applications.listen(plan.app_listeners, self._provider, plan.limits)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.TaskGroup() as ends:
                ends.create_task(self._applications.close())
                await self._front_end.close(self._plan.grace_s)
        finally:
            await self._stack.aclose()

    @property
    def waiting(self) -> int:
        """How many handshakes wait for the store."""
        return self._front_end.waiting + self._applications.waiting

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return self._front_end.connection_count + self._applications.connection_count
