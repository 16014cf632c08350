"""The demo's visitor: an ordinary TLS client that trusts the demo's authority and nobody else."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.names import HostName

PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a visit: a verified certificate and a page, or a refusal.

    Attributes:
        certificate: the server's, verified for the name; ``None``: refused.
        status: the page's status line; empty if refused.
        refusal: the client's own words for why not, for example
            ``TLSV1_UNRECOGNIZED_NAME``; empty if all went well.
    """

    certificate: x509.Certificate | None
    status: str = ""
    refusal: str = ""


async def visit(address: tuple[str, int], name: HostName, ca_file: Path) -> Visit:
    """Ask the server at ``address`` for the page of ``name``, as a browser would."""
    context = ssl.create_default_context(cafile=ca_file)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _visit(address, name, context)
    except ssl.SSLError as error:
        return Visit(None, refusal=error.reason or str(error))
    except OSError as error:  # and TimeoutError
        return Visit(None, refusal=str(error) or f"no answer within {PATIENCE_S:g} s")


async def _visit(address: tuple[str, int], name: HostName, context: ssl.SSLContext) -> Visit:
    reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=str(name))
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        status = (await reader.readline()).decode("latin-1").strip()
        return Visit(x509.load_der_x509_certificate(certificate), status)
    finally:
        writer.close()
        with suppress(OSError):  # the rest of the page may meet our close_notify
            await writer.wait_closed()
