"""A stranger's bytes against all that reads them in the SMB client.

``exercise`` is one round of it: the property tests call it with Hypothesis' bytes, the
fuzzer (``__main__``) with its own. An error that escapes is one that
``centcert.smb3.errors`` does not declare.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from centcert.smb3 import operations, replies, requests
from centcert.smb3.core import Core
from centcert.smb3.errors import SmbError
from centcert.smb3.handshake import Handshake
from centcert.smb3.login import PasswordLogin, prove
from centcert.smb3.operations import Limits
from centcert.smb3.replies import DirectoryEntry
from centcert.smb3.wire import Command, Frames, Reply, frame, replies_in
from tests.smb3_peer import (
    Peer,
    Server,
    chain,
    data,
    folder_page,
    message,
    opened,
    session,
    setup_body,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS: Final = Limits(1 << 20, 1 << 20, 1 << 20)
FETCH: Final = (requests.create("www.pfx", 0x81), requests.read(65_536), requests.close())
READERS: Final[tuple[Callable[[Reply], object], ...]] = (
    replies.session_setup,
    replies.tree_connect,
    replies.create,
    replies.read,
    replies.write,
    replies.query_directory,
    replies.change_notify,
)


def as_a_stream(raw: bytes) -> None:
    for received in Frames().feed(raw):
        replies_in(bytes(received))


def as_a_negotiation(raw: bytes) -> None:
    handshake = Handshake("server")
    handshake.negotiate(bytes(48))
    handshake.negotiated(message(Command.NEGOTIATE, 0, raw, session_id=0))


def as_a_challenge(raw: bytes) -> None:
    handshake = Handshake("server")
    handshake.authenticate(b"")
    handshake.authenticated(raw)


def as_a_proof(raw: bytes) -> None:
    proof = prove(PasswordLogin("user", "password"), "server")

    async def step() -> None:
        await proof.step(None)
        await proof.step(b"NTLMSSP\0\2\0\0\0" + raw)

    # A coroutine that never waits: one step runs it to its end.
    with suppress(StopIteration):
        step().send(None)


def as_a_sealed_chain(raw: bytes) -> None:
    core, peer = Core(session()), Peer()
    exchange = core.submit(FETCH)
    peer.take(core.outgoing())
    core.abandon(exchange)
    core.receive(peer.seal(raw))


def as_a_frame_of_a_session(raw: bytes) -> None:
    core = Core(session())
    core.submit(FETCH)
    core.receive(frame(raw))


def as_bodies(raw: bytes) -> None:
    (reply,) = replies_in(message(Command.READ, 1, raw))
    for reader in READERS:
        with suppress(SmbError):
            reader(reply)


def as_a_listing(raw: bytes) -> None:
    listing = operations.list_folder("", LIMITS, list[DirectoryEntry]().extend)
    compound = next(listing)
    middle = len(raw) // 2
    answers = []
    for request, body in zip(compound, (raw[:middle], raw[middle:]), strict=True):
        answers += replies_in(message(request.command, 1, body))
    with suppress(StopIteration):
        listing.send(answers)
        listing.close()


WAYS: Final = (
    as_a_stream,
    as_a_negotiation,
    as_a_challenge,
    as_a_proof,
    as_a_sealed_chain,
    as_a_frame_of_a_session,
    as_bodies,
    as_a_listing,
)


GOOD: Final = (
    opened(7),
    data(b"content"),
    folder_page("a.pfx", "b.pfx"),
    Server().negotiated()[64:],
    message(Command.SESSION_SETUP, 0, setup_body(b"challenge"), status=0xC0000016),
    chain(message(5, 1, opened(7)), message(8, 2, data(b"content")), message(6, 3)),
    frame(message(5, 1, opened(7))),
)
"""What a server should send: a start for edits."""


def exercise(raw: bytes) -> None:
    """Read bytes as something that a server may send; the first one says as what."""
    if raw:
        with suppress(SmbError):
            WAYS[raw[0] % len(WAYS)](raw[1:])


def seeds() -> list[bytes]:
    """Good bytes read in each way: what a fuzzer begins with."""
    return [bytes([way]) + good for way in range(len(WAYS)) for good in GOOD]
