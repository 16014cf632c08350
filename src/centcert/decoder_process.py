"""The process that decodes files for ``provider.decoder``: its messages and its main loop.

It reads requests from standard input and answers on standard output, one at a time,
until the pipe closes. What a stranger wrote into a file meets OpenSSL here, in a process
that holds no other secret, writes no file and leaves no core. It lies beside
``credential`` so that it imports nothing of the rest.
"""

from __future__ import annotations

import ctypes
import math
import resource
import signal
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from centcert.credential import Parts, decode_parts
from centcert.errors import BadBlob

if TYPE_CHECKING:
    from typing import BinaryIO

HEADER_BYTES: Final = 4
"""Each message is preceded by its length, big-endian. An empty one says: ready."""

MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Address space. Python and OpenSSL take a tenth of it, a decoding a few megabytes."""

_PR_SET_DUMPABLE: Final = 4


class Request(msgspec.Struct, frozen=True):
    """A file to decode, as ``credential.decode`` takes it, in ``cpu_s`` seconds at most."""

    key: str
    data: bytes
    passwords: tuple[bytes, ...]
    cpu_s: float

    def __repr__(self) -> str:
        return f"Request(key={self.key!r}, {len(self.data)} bytes)"


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """The file is a credential."""

    parts: Parts


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The file is none: the name of a subclass of ``BadBlob``, and its sentence."""

    error: str
    sentence: str


Reply: TypeAlias = Decoded | Refused


def frame(message: bytes) -> bytes:
    """Return ``message`` with its length before it."""
    return len(message).to_bytes(HEADER_BYTES) + message


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until ``source`` ends."""
    requests = msgspec.msgpack.Decoder(Request)
    _write(sink, b"")
    while header := source.read(HEADER_BYTES):
        request = requests.decode(source.read(int.from_bytes(header)))
        _allow_cpu(request.cpu_s)
        _write(sink, msgspec.msgpack.encode(_answer(request)))


def confine() -> None:
    """Give up what decoding does not need; a later exploit or a crash finds it gone.

    No core file and no ptrace by the same user, as the memory holds keys; no file is
    written, ever; memory is bounded. The signals that end a service are ignored: the
    parent goes on serving for its grace period, and the closing pipe says when it is over.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit(kind: int, value: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(kind, (value, value))


def _allow_cpu(seconds: float) -> None:
    """End this process when the next file takes longer, also if the parent has gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = math.ceil(used.ru_utime + used.ru_stime + seconds)
    if hard == resource.RLIM_INFINITY or allowed < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


def _answer(request: Request) -> Reply:
    try:
        parts = decode_parts(request.data, key=request.key, passwords=request.passwords)
    except BadBlob as error:
        return Refused(type(error).__name__, error.sentence)
    return Decoded(parts)


def _write(sink: BinaryIO, message: bytes) -> None:
    sink.write(frame(message))
    sink.flush()


if __name__ == "__main__":
    confine()
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # the parent has gone; there is nobody to tell
        sys.stdout = None
