"""Who listens to a process of a node: some to its news, some to every step; and what it counts.

Steps are what each handshake goes through when all is well. They are only told, and their
events only made, while somebody follows them; news is told always.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from centcert.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Listener: TypeAlias = Callable[[Any], None]


class Audience:
    """Tells listeners; itself one, of news.

    What a listener raises goes to the event loop's exception handler: it ends nothing that it
    listens to.

    Args:
        news: are told what may interest a person, and no steps.

    Attributes:
        steps: tells a step to who follows; ``None``: nobody does.
        counters: where those that are listened to count what they do, told or not.
    """

    def __init__(self, *news: Listener) -> None:
        self._news = news
        self._followers: tuple[Listener, ...] = ()
        self.steps: Listener | None = None
        self.counters = Counters()

    @classmethod
    def of(cls, listener: Listener | None) -> Audience:
        """Return ``listener`` itself if it is an audience; else one of it, following."""
        if isinstance(listener, Audience):
            return listener
        audience = cls()
        if listener is not None:
            audience._follow(listener)
        return audience

    def __call__(self, event: object) -> None:
        """Tell everybody news."""
        for listener in (*self._news, *self._followers):
            _tell(listener, event)

    @contextmanager
    def following(self, listener: Listener) -> Iterator[None]:
        """Tell ``listener`` news and steps while the block runs."""
        self._follow(listener)
        try:
            yield
        finally:
            self._followers = tuple(one for one in self._followers if one is not listener)
            self.steps = self._tell_followers if self._followers else None

    def _follow(self, listener: Listener) -> None:
        self._followers += (listener,)
        self.steps = self._tell_followers

    def _tell_followers(self, event: object) -> None:
        for listener in self._followers:
            _tell(listener, event)


def _tell(listener: Listener, event: object) -> None:
    try:
        listener(event)
    except Exception as error:  # noqa: BLE001  a user's hook
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"The listener failed at {type(event).__name__}", "exception": error}
        )
