"""A forked process, as its parent sees it and as it begins itself.

Linux only: a child dies with its parent (PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, Self, TypeAlias

import msgspec

from centcert.errors import CentcertError, SettingsError
from centcert.workers.signs import Alive, Rhythm, Signs

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Collection
    from typing import Any

    from centcert.lines import Level

WATCHED: Final = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_PR_SET_PDEATHSIG: Final = 1
_NOTE_BYTES: Final = 64 * 1024


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process does what it is there for."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The process cannot begin; ``sentence`` says why; ``is_setting``: a setting is wrong."""

    sentence: str
    is_setting: bool

    def error(self) -> CentcertError:
        """Return the error that it is to the supervisor."""
        return SettingsError(self.sentence) if self.is_setting else CentcertError(self.sentence)


class ReadAgain(msgspec.Struct, frozen=True, tag="read-again"):
    """Somebody asks, through the control socket, for the settings to be read again."""


class HaveRead(msgspec.Struct, frozen=True, tag="have-read"):
    """The answer to ``ReadAgain``; ``refusal``: why the settings stay as they are."""

    file: str | None = None
    store: str = ""
    enabled: bool = True
    refusal: str | None = None


Note: TypeAlias = Ready | Alive | Failed | ReadAgain | HaveRead
"""What a process and its supervisor say to each other, one datagram each."""


class Channel:
    """One end of what a process and its supervisor talk over."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.close = end.close
        end.setblocking(False)

    def tell(self, note: Note) -> None:
        """Send a note; whoever has gone, or does not read, misses it."""
        with suppress(OSError):
            self.end.send(msgspec.json.encode(note)[:_NOTE_BYTES])

    def read(self) -> Note | None:
        """Return a note, if there is one."""
        try:
            note: Note = msgspec.json.decode(self.end.recv(_NOTE_BYTES), type=Note)
        except (OSError, msgspec.MsgspecError):
            return None
        return note


class Log(Protocol):
    """Where a process says what a person may want to know."""

    def __call__(self, event: object) -> None:
        """Take an event."""

    def say(self, event: str, sentence: str, level: Level = "info") -> None:
        """Take a sentence; ``event`` names its kind for machines."""

    def fault(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what went wrong in Centcert itself; the event loop's exception handler."""


class Closes(Protocol):
    """What has ``close``."""

    def close(self) -> object:
        """Close it in this process."""


class Child:
    """A process that was forked here.

    Attributes:
        what: names it in sentences: ``Worker 1``.
        began: when, by the monotonic clock.
        is_ready: whether it has said so.
        signs: of its life.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[Channel], int],
        mine: Collection[Closes],
        rhythm: Rhythm,
    ) -> None:
        """Fork.

        Args:
            what: for people.
            work: is done in the child, which ends with what it returns.
            mine: what the child must not keep open.
            rhythm: of the signs of life that ``work`` gives.

        Raises:
            OSError: the system has no room for one more.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.what = what
        self.began = time.monotonic()
        self.is_ready = False
        self.signs = Signs(rhythm)
        self.failed: Failed | None = None
        supervisor = os.getpid()
        gc.freeze()  # what is shared stays shared: no collection writes to it
        # A signal between fork and the child's own handlers must not count twice.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            self.pid = os.fork()
            if not self.pid:
                _begin(Channel(theirs), work, supervisor, mask, [ours, *mine])
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self.channel = Channel(ours)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> int | None:
        """Return the exit code, or minus the signal that killed it; ``None``: it lives."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if not pid:
            return None
        while (note := self.channel.read()) is not None:
            if isinstance(note, Failed):
                self.failed = note
        self.channel.close()
        return os.waitstatus_to_exitcode(status)


def _begin(
    channel: Channel,
    work: Callable[[Channel], int],
    supervisor: int,
    mask: Collection[int],
    parents: Collection[Closes],
) -> NoReturn:
    """Become a process of its own; never return into the parent's frames."""
    code = 1
    try:
        for one in parents:
            one.close()
        atexit._clear()  # noqa: SLF001  the parent's, as multiprocessing has it
        _die_with(supervisor)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGINT):  # a terminal's are for the supervisor
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work(channel)
        atexit._run_exitfuncs()  # noqa: SLF001  an application's
    except CentcertError as error:
        channel.tell(Failed(str(error), isinstance(error, SettingsError)))
    except BaseException as error:  # noqa: BLE001  the top of the process
        traceback.print_exc()
        channel.tell(Failed(f"{type(error).__name__}: {error}", is_setting=False))
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with(supervisor: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it has died before
        os._exit(1)


class Signals:
    """The watched signals and the notes of children, in one wait; a context manager."""

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = [(number, signal.signal(number, _nothing)) for number in WATCHED]
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers:
            signal.signal(number, handler)
        self.close()

    def close(self) -> None:
        """Close the pipe in this process."""
        os.close(self._read)
        os.close(self._write)

    def wait(self, channels: Collection[Channel], until: float) -> list[signal.Signals]:
        """Wait for a signal, a note, or the time ``until``; return the signals."""
        poll = select.poll()
        for fd in (self._read, *(channel.end.fileno() for channel in channels)):
            poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, until - time.monotonic()) * 1_000)
        try:
            return [signal.Signals(number) for number in os.read(self._read, 4_096)]
        except BlockingIOError:
            return []


def _nothing(number: int, frame: object) -> None:
    """Be a handler: without one, nothing is written to the pipe."""
    del number, frame
