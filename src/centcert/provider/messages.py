"""What a node's worker processes and its provider process say to each other.

Bytes and values only: no socket, no clock. Each message is a MessagePack array with its
length before it. Both ends are processes of one supervisor and share a token that was
made before they were; what a worker says is read strictly all the same, as strangers
talk to workers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives import hashes

from centcert.counters import Counters
from centcert.credential import MAX_BLOB_BYTES, Parts
from centcert.decoder_process import HEADER_BYTES, frame
from centcert.errors import (
    BadBlob,
    CentcertError,
    Closing,
    CredentialExpired,
    StoreDisabled,
    StoreError,
    UnknownName,
)
from centcert.names import HostName
from centcert.provider.policy import Policy  # noqa: TC001  msgspec reads it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from centcert.credential import Credential

MAX_MESSAGE_BYTES: Final = 4 * MAX_BLOB_BYTES
"""A credential is smaller than the file it came from; ``NAMES`` names are, too."""

NAMES: Final = 1_000
"""Names in one message at most: 285 KB of the longest."""

DIGEST_BYTES: Final = 32


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An array whose first element is the class's name."""


# --- a worker says ------------------------------------------------------------


class Hello(_Message, frozen=True):
    """The first message of a connection; ``token`` is the supervisor's, ``process`` the sender."""

    token: bytes
    process: int


class Holds(_Message, frozen=True):
    """What the worker holds already, by ``digest``: an earlier provider process has sent it."""

    credentials: tuple[tuple[str, bytes], ...]


class Ask(_Message, frozen=True):
    """What does a handshake for ``name`` get? As ``provider.answering.answer``.

    ``whole``: send the credential itself, also if this worker seems to hold it.
    """

    number: int
    name: str
    policy: Policy
    default: str | None
    whole: bool = False


class Used(_Message, frozen=True):
    """Names that the worker has answered from its memory since it last said so."""

    names: tuple[str, ...]


class Forgot(_Message, frozen=True):
    """Names that the worker holds no longer.

    ``read`` is how many messages it had read by then: a later one may have brought a name back.
    """

    names: tuple[str, ...]
    read: int


class Report(_Message, frozen=True):
    """How the worker does.

    Attributes:
        connections: clients that are connected.
        waiting: handshakes that wait for the store.
        counters: what has happened since the worker began.
    """

    connections: int = 0
    waiting: int = 0
    counters: Counters = msgspec.field(default_factory=Counters)


class Told(_Message, frozen=True):
    """One more message of what ``Follow`` with this number asked for."""

    number: int
    message: bytes


# --- the provider says --------------------------------------------------------


class Welcome(_Message, frozen=True):
    """The answer to ``Hello``: ``store`` is the store's URL."""

    store: str


class Answered(_Message, frozen=True):
    """The answer to ``Ask``.

    Attributes:
        number: the question's.
        name: the one asked for, or the default name.
        keep: whether the provider will tell of changes: what is not kept is for this
            handshake only.
        digest: as ``digest_of``.
        parts: the credential; ``None``: the worker holds it already.
    """

    number: int
    name: str
    keep: bool
    digest: bytes
    parts: Parts | None


class Refused(_Message, frozen=True):
    """The answer to ``Ask``: an error, by its code and what it is made of."""

    number: int
    code: str
    arguments: tuple[str, ...]


class Changed(_Message, frozen=True):
    """``name``, which the worker holds, has another credential now; as in ``Answered``."""

    name: str
    digest: bytes
    parts: Parts | None


class Withdrawn(_Message, frozen=True):
    """A name that the worker holds has no credential any more, or the provider has no room."""

    name: str


class Follow(_Message, frozen=True):
    """Somebody wants to be told what happens here, until ``Unfollow`` with the same number.

    ``pattern``: of which name, or of the names that which wildcard covers; ``None``: of all.
    """

    number: int
    pattern: str | None


class Unfollow(_Message, frozen=True):
    """Nobody wants to be told that any more."""

    number: int


class Overheard(_Message, frozen=True):
    """A step that was done for a question of the worker's about ``name``.

    As ``centcert.steps.Step``; told while somebody follows what happens.
    """

    name: str
    step: str
    text: str
    duration_s: float | None


FromWorker: TypeAlias = Hello | Holds | Ask | Used | Forgot | Report | Told
FromProvider: TypeAlias = (
    Welcome | Answered | Refused | Changed | Withdrawn | Follow | Unfollow | Overheard
)


def _plain(value: object) -> str:
    if isinstance(value, HostName):  # msgspec takes no subclasses of text
        return str(value)
    raise NotImplementedError


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)


def encode(message: FromWorker | FromProvider) -> bytes:
    """Return ``message`` as it is sent."""
    return frame(_encoder.encode(message))


class Frames:
    """Cuts a stream of bytes into messages, however it arrives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; iterate over the messages that are whole now.

        Raises:
            ValueError: one is longer than ``MAX_MESSAGE_BYTES``.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) >= start + HEADER_BYTES:
                length = int.from_bytes(buffer[start : start + HEADER_BYTES])
                if length > MAX_MESSAGE_BYTES:
                    raise ValueError(length)
                end = start + HEADER_BYTES + length
                if len(buffer) < end:
                    break
                message = bytes(buffer[start + HEADER_BYTES : end])
                start = end
                yield message
        finally:
            del buffer[:start]


def digest_of(credential: Credential) -> bytes:
    """Return what is equal for equal credentials, in any process.

    The private key is not part of it: it belongs to the leaf, or there was no credential.
    """
    digest = hashlib.sha256(credential.key.encode() + b"\0" + credential.fingerprint)
    for issuer in credential.issuers:
        digest.update(issuer.fingerprint(hashes.SHA256()))
    return digest.digest()


# --- errors -------------------------------------------------------------------


def _subclasses(kind: type[CentcertError]) -> Iterator[type[CentcertError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)


_ERRORS: Final = {kind.code: kind for kind in _subclasses(CentcertError)}


def refusal(number: int, error: CentcertError) -> Refused:
    """Return ``error`` as it is sent."""
    return Refused(number, error.code, _arguments(error))


def error_of(refused: Refused) -> CentcertError:
    """Return the error that ``refused`` was made of; of an unknown kind, its sentence."""
    kind = _ERRORS.get(refused.code, CentcertError)
    try:
        error = kind(*refused.arguments)
    except TypeError:  # one that is never sent: its arguments are not text
        error = CentcertError(*refused.arguments)
    return error


def _arguments(error: CentcertError) -> tuple[str, ...]:  # noqa: PLR0911  one for each
    match error:
        case UnknownName(name=name):
            return (name,)
        case CredentialExpired(name=name, key=key):
            return (name, key)
        case BadBlob(key=key, sentence=sentence):
            return (key, sentence)
        case StoreDisabled(store=store):
            return (store,)
        case StoreError(store=store):
            return (store, str(error))
        case Closing():
            return ()
        case _:
            return (str(error),)
