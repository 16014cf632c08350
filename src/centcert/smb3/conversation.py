"""The dialogue before there is a session: one frame out, one frame in."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from centcert.smb3.errors import ConnectionLost

if TYPE_CHECKING:
    from centcert.smb3.handshake import Handshake
    from centcert.smb3.link import Link
    from centcert.smb3.login import Proof
    from centcert.smb3.negotiate import Negotiated

_RANDOM_BYTES: Final = 48  # the client's id and the salt


async def open_link(link: Link, host: str, port: int) -> None:
    """Connect ``link`` to a server.

    Raises:
        ConnectionLost: nobody there.
    """
    try:
        await asyncio.get_running_loop().create_connection(lambda: link, host, port)
    except OSError as error:
        why = error.strerror or str(error) or "no answer"
        raise ConnectionLost(f"Cannot connect to {host}:{port}: {why}.") from error


async def negotiate(link: Link, handshake: Handshake) -> Negotiated:
    """Have client and server agree.

    Raises:
        SmbError: see ``connect``.
    """
    received = await link.converse(handshake.negotiate(os.urandom(_RANDOM_BYTES)))
    while (agreed := handshake.negotiated(received)) is None:
        received = await link.converse(b"")
    return agreed


async def authenticate(link: Link, handshake: Handshake, proof: Proof) -> bytes:
    """Carry the tokens of a proof to and fro until the server accepts.

    Returns:
        The key that both sides know now.

    Raises:
        SmbError: see ``connect``.
    """
    token = await proof.step(None)
    while True:
        received = await link.converse(handshake.authenticate(token))
        while (answer := handshake.authenticated(received)) is None:
            received = await link.converse(b"")
        if handshake.accepted:
            # The last token completes a Kerberos proof, and only then is there a key.
            if answer.token:
                await proof.step(answer.token)
            return proof.session_key()
        token = await proof.step(answer.token)
