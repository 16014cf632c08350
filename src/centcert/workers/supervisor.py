"""The process that starts the others and sees to it that they are there.

It reads the settings, but no secret that they name and no byte of a stranger; it has one
thread and no event loop, so that it can fork at any time. What must outlive its processes
is made here: the sockets, and the TLS contexts with the keys of session tickets.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from centcert.control import control_listening
from centcert.errors import CentcertError, SettingsError
from centcert.frontend import TcpAddress
from centcert.tls.contexts import ServerContexts
from centcert.workers.processes import Child, Failed, HaveRead, ReadAgain, Ready, Signals
from centcert.workers.provider_process import Shared, provide
from centcert.workers.restarts import Restarts
from centcert.workers.signs import Alive, Rhythm, giving_signs
from centcert.workers.sockets import ListeningSockets
from centcert.workers.worker import Place, work

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from centcert.admin.settings import Settings
    from centcert.workers.processes import Channel, Closes, Log

TOKEN_BYTES: Final = 32

END_S: Final = 10.0
"""What ending takes beyond the grace of connections: the last-good copies are written."""

_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_KILLED_S: Final = 0.01


class Manager(Protocol):
    """Whoever started this service and wants to know how it does."""

    def ready(self, status: str) -> None:
        """Take that it serves."""

    def reloading(self) -> None:
        """Take that it reads its settings again; ``ready`` ends that."""

    def stopping(self, status: str, within_s: float) -> None:
        """Take that it ends, and how long that may take."""

    def alive_again(self) -> float | None:
        """Take a sign of life; return until when the next is due, if one is, by time.monotonic."""


@dataclass(slots=True, eq=False)
class _Post:
    """Something that a process has to do, one after the other if need be."""

    start: Callable[[], Child]
    child: Child | None = None
    due: float | None = None  # when the next one is to be started
    restarts: Restarts = field(default_factory=Restarts)


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A provider process, and the socket where it, or its successor, answers workers."""

    post: _Post
    listening: socket.socket


@dataclass(frozen=True, slots=True, eq=False)
class _Crew:
    """The processes that serve with the same settings."""

    settings: Settings
    source: _Source
    workers: Sequence[_Post]


class _Stopped(Exception):
    """A signal to end has come."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


class Supervisor:
    """Runs a node of several processes.

    Args:
        load: reads the settings, with what the command line says; may raise SettingsError.
        run: runs a coroutine in an event loop of its own, in a child.
        log: where sentences go, in all processes.
        manager: is told what all processes together do.
        passed: sockets that listen already, by the listener they are for.
        file: the settings file, for who asks.
        rhythm: of the signs of life that the processes give.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        run: Callable[[Coroutine[object, object, None]], None],
        log: Log,
        manager: Manager,
        *,
        passed: Mapping[TcpAddress, Sequence[socket.socket]],
        file: str | None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._load = load
        self._run = run
        self._log = log
        self._manager = manager
        self._passed = passed
        self._file = file
        self._rhythm = rhythm or Rhythm()
        self._round_ends = time.monotonic() + self._rhythm.every_s
        self._sockets = ListeningSockets(passed)
        self._contexts = ServerContexts()
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._control: socket.socket | None = None
        self._posts: list[_Post] = []
        self._leaving: list[Child] = []  # told to end
        self._sources: list[_Source] = []
        self._asked: deque[Channel] = deque()  # who waits for the settings to be read
        self._again = False

    def serve(self, settings: Settings) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP has the settings read again.

        Raises:
            CentcertError: the processes cannot start; none is left.
        """
        with ExitStack() as stack:
            self._signals = stack.enter_context(Signals())
            stack.callback(self._sockets.close)
            stack.callback(self._kill)
            self._settings = settings
            self._control = self._listen_for_commands(stack)
            try:
                self._crew = self._start(settings)
                self._log.say("serving", self._serving())
                self._manager.ready(self._serving())
                self._go_on()
            except _Stopped:
                self._stop()

    def _go_on(self) -> NoReturn:
        while True:
            self._wait([])
            while self._again or self._asked:
                self._read_again()

    # --- what happens meanwhile ------------------------------------------------------

    def _wait(self, starting: Sequence[_Post]) -> None:
        """Wait until something happens, and note it.

        Raises:
            CentcertError: one of ``starting`` cannot begin.
            _Stopped: that was a signal to end.
        """
        children = self._children()
        due = [post.due for post in self._posts if post.due is not None]
        due.append(self._round_ends)
        # Who cannot even be killed is not mended here: then it is for the manager to do.
        if not any(child.signs.is_stuck for child in children):
            due += [] if (alive := self._manager.alive_again()) is None else [alive]
        signals = self._signals.wait([child.channel for child in children], min(due))
        self._again = self._again or signal.SIGHUP in signals
        for number in signals:
            if number in _ENDS:
                raise _Stopped(number)
        for child in children:
            self._hear(child)
        self._end_round(children)
        self._reap(starting)
        self._replace()

    def _hear(self, child: Child) -> None:
        while (note := child.channel.read()) is not None:
            child.signs.heard()
            match note:
                case Ready():
                    child.is_ready = True
                    child.signs.begun()
                case Failed():
                    child.failed = note
                case ReadAgain():
                    self._asked.append(child.channel)
                case Alive() | HaveRead():
                    pass

    def _end_round(self, children: Iterable[Child]) -> None:
        """Kill whoever has given no sign of life for too long, if a round is over."""
        now = time.monotonic()
        if now < self._round_ends:
            return
        self._round_ends = now + self._rhythm.every_s
        for child in children:
            was_stuck = child.signs.is_stuck
            child.signs.count_round()
            if child.signs.is_hung:
                child.signal(signal.SIGKILL)
            if child.signs.is_stuck and not was_stuck:
                sentence = (
                    f"{child.what} (process {child.pid}) hangs and cannot be killed either:"
                    " systemd's watchdog gets no more signs of life."
                )
                self._log.say("process-stuck", sentence, "error")

    def _reap(self, starting: Sequence[_Post]) -> None:
        """Notice which processes have ended."""
        for leaving in tuple(self._leaving):
            if (code := leaving.ended()) is None:
                continue
            self._leaving.remove(leaving)
            if leaving.signs.is_hung:
                self._log.say("process-ended", f"{_what_happened(leaving, code)}.", "warning")
        for post in tuple(self._posts):
            child = post.child
            if child is None or (code := child.ended()) is None:
                continue
            post.child = None
            if post in starting:
                raise _failure(child, code)
            self._start_later(post, child.began, _what_happened(child, code))

    def _replace(self) -> None:
        for post in self._posts:
            now = time.monotonic()
            if post.due is None or post.due > now:
                continue
            post.due = None
            try:
                post.child = post.start()
            except OSError as error:
                self._start_later(post, now, f"A process cannot be started ({error.strerror})")

    def _start_later(self, post: _Post, began: float, what_happened: str) -> None:
        now = time.monotonic()
        post.due = post.restarts.after(began=began, died=now)
        when = f" in {post.due - now:.1f} s" if post.due > now else ""
        sentence = f"{what_happened}: another takes its place{when}."
        self._log.say("process-ended", sentence, "warning")

    # --- starting and ending processes -------------------------------------------------

    def _start(self, settings: Settings, old: _Crew | None = None) -> _Crew:
        """Start what serves with ``settings``, beside what serves now.

        Raises:
            CentcertError: it cannot; what was started ends, and all else is as before.
        """
        count, started = settings.workers.number(), list[_Post]()
        self._sockets.open(settings.addresses(), count)
        self._contexts.prepare()
        try:
            if old is not None and old.settings.store == settings.store:
                source = old.source
            else:
                source = self._source(settings)
                started.append(source.post)
                self._begin([source.post])
            workers = [self._worker(settings, source, number, count) for number in range(count)]
            started += workers
            self._begin(workers)
        except BaseException:
            self._retire(started)
            if old is not None:
                self._sockets.close_but(old.settings.addresses())
            raise
        return _Crew(settings, source, workers)

    def _begin(self, posts: Sequence[_Post]) -> None:
        """Start processes and wait until all are ready."""
        for post in posts:
            try:
                post.child = post.start()
            except OSError as error:
                raise CentcertError(f"No process can be started: {error.strerror}.") from error
            self._posts.append(post)
        while not all(post.child is not None and post.child.is_ready for post in posts):
            self._wait(posts)

    def _source(self, settings: Settings) -> _Source:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("")  # an abstract address that the kernel chooses: unix(7), autobind
        listening.listen()
        shared = Shared(listening, self._token, self._control, succeeds=bool(self._sources))

        def start() -> Child:
            def provider_process(channel: Channel) -> int:
                self._run_alive(provide(settings, shared, self._log, channel), channel)
                return 0

            keep = [listening] + [self._control] * (self._control is not None)
            mine = self._all_but(keep)
            return Child("The provider process", provider_process, mine, self._rhythm)

        source = _Source(_Post(start), listening)
        self._sources.append(source)
        return source

    def _worker(self, settings: Settings, source: _Source, number: int, count: int) -> _Post:
        address: bytes = source.listening.getsockname()

        def start() -> Child:
            place = Place(count, self._sockets.share(number, count), address, self._token)

            def worker_process(channel: Channel) -> int:
                worker = work(settings, place, self._contexts, self._log, channel)
                self._run_alive(worker, channel)
                return 0

            keep = [one for sockets in place.sockets.values() for one in sockets]
            mine = self._all_but(keep)
            return Child(f"Worker {number + 1}", worker_process, mine, self._rhythm)

        return _Post(start)

    def _run_alive(self, work: Coroutine[object, object, None], channel: Channel) -> None:
        self._run(giving_signs(work, channel.tell, self._rhythm.every_s))

    def _all_but(self, keep: Iterable[object]) -> list[Closes]:
        """Return what a child that needs ``keep`` must not keep open."""
        everything: list[Closes] = [self._signals, *self._sockets.all()]
        everything += [child.channel for child in self._children()]
        everything += [source.listening for source in self._sources]
        if self._control is not None:
            everything.append(self._control)
        kept = {id(one) for one in keep}
        return [one for one in everything if id(one) not in kept]

    def _children(self) -> list[Child]:
        return [post.child for post in self._posts if post.child is not None] + self._leaving

    def _retire(self, posts: Iterable[_Post]) -> None:
        """Have processes finish what they do, and not replaced."""
        for post in posts:
            if post in self._posts:
                self._posts.remove(post)
            if post.child is not None:
                post.child.signal(signal.SIGTERM)
                self._leaving.append(post.child)
        for source in tuple(self._sources):
            if source.post not in self._posts:
                source.listening.close()
                self._sources.remove(source)

    # --- settings -----------------------------------------------------------------------

    def _read_again(self) -> None:
        """Read the settings again, and tell who has asked for it what came of it."""
        asked, old = list(self._asked), self._crew
        self._asked.clear()
        self._again = False
        self._manager.reloading()
        refusal = self._reload(old)
        store = self._settings.store
        for channel in asked:
            channel.tell(HaveRead(self._file, store.url, store.enabled, refusal))
        if refusal is None:
            self._retire(old.workers)
            if old.source is not self._crew.source:
                self._retire([old.source.post])
            self._sockets.close_but(self._settings.addresses())
            self._log.say("serving", self._serving())
        self._manager.ready(self._serving())

    def _reload(self, old: _Crew) -> str | None:
        """Go on with the settings as they are now, or say why not."""
        try:
            settings = self._load()
            for address in self._passed.keys() - set(settings.addresses()):
                raise SettingsError(
                    f"No [[listen]] is for {address} any more, which systemd listens on: name it,"
                    " or take it out of the socket unit and restart the service."
                )
            self._crew = self._start(settings, old)
        except CentcertError as error:
            self._log.say("settings-refused", f"The settings stay as they are. {error}", "error")
            return str(error)
        self._settings = settings
        return None

    def _serving(self) -> str:
        where = ", ".join(str(TcpAddress(host, port)) for host, port in self._sockets.addresses)
        return f"Serving certificates from {self._settings.store.url} on {where}."

    def _listen_for_commands(self, stack: ExitStack) -> socket.socket | None:
        """Open the control socket; in its usual place it is a convenience."""
        control = self._settings.control
        try:
            return stack.enter_context(control_listening(control.path()))
        except SettingsError as error:
            if control.socket is not None:
                raise
            self._log.say("no-control-socket", f"No control socket: {error}", "warning")
            return None

    # --- the end ---------------------------------------------------------------------------

    def _stop(self) -> None:
        """Let connections finish; a second signal ends them, and this process by that signal."""
        grace = self._settings.limits.grace
        sentence = f"Stopping; connections have {grace} to finish."
        self._log.say("stopping", sentence)
        self._manager.stopping(sentence, grace + END_S)
        self._sockets.close()
        self._retire(tuple(self._posts))
        while self._leaving:
            try:
                self._wait([])
            except _Stopped as again:
                self._kill()  # not by SIGTERM: two of them may arrive as one
                signal.signal(again.number, signal.SIG_DFL)
                os.kill(os.getpid(), again.number)

    def _kill(self) -> None:
        """Leave no process behind."""
        for child in self._children():
            child.signal(signal.SIGKILL)
        while any(child.ended() is None for child in self._children()):
            time.sleep(_KILLED_S)


def _failure(child: Child, code: int) -> CentcertError:
    if child.failed is not None:
        return child.failed.error()
    return CentcertError(f"{child.what} {_end(child, code)} as it started.")


def _what_happened(child: Child, code: int) -> str:
    return f"{child.what} (process {child.pid}) {_end(child, code)}"


def _end(child: Child, code: int) -> str:
    if child.signs.is_hung:
        return f"gave no sign of life for {child.signs.limit_s:g} s and was killed"
    if child.failed is not None:
        return f"cannot go on ({child.failed.sentence.rstrip('.')})"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"has ended with exit code {code}"
