"""The file server is gone and the node was restarted: what a client then gets, on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.smb.scene import (
    CERTIFICATE,
    CLIENT_HELLO,
    SERVER_HELLO,
    Capture,
    Packet,
    serving,
)
from tests.ports import reserved_port

if TYPE_CHECKING:
    from pathlib import Path

    from centcert.demo.samba import PrivateSamba
    from centcert.testing import Authority
    from tests.interop.smb.conftest import Start

NAME = "www.contoso.example"
VERIFIED = "Verify return code: 0 (ok)"
ALERT, FATAL, INTERNAL_ERROR = 21, 2, 80  # RFC 8446 §5.1, §6


def served_then_stopped(samba: PrivateSamba, authority: Authority, tmp_path: Path) -> bytes:
    """Serve the name once, end the node, stop the server; return the certificate."""
    issued = authority.issue(NAME)
    (samba.folder / f"{NAME}.pfx").write_bytes(issued.pfx())
    with serving(samba, tmp_path) as front_end:
        assert VERIFIED in front_end.visit(NAME), front_end.journal.seen
    samba.stop()
    return issued.certificate.public_bytes(Encoding.DER)


def visited(
    samba: PrivateSamba, tmp_path: Path, version: str, *options: str
) -> tuple[str, list[Packet]]:
    """Start the node anew and visit it once; return the client's words and the packets."""
    with (
        reserved_port() as port,
        Capture(tmp_path / "scene.pcapng", samba.port, port) as capture,
        serving(samba, tmp_path, *options, port=port) as front_end,
    ):
        said = front_end.visit(NAME, version)
    packets = capture.packets(port)
    assert not [packet for packet in packets if packet.source == samba.port], "the store was there"
    assert sum(CLIENT_HELLO in packet.tls for packet in packets) == 1
    return said, [packet for packet in packets if packet.source == port]


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_the_last_good_certificate_is_served(
    version: str, start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    leaf = served_then_stopped(samba, authority, tmp_path)
    said, sent = visited(samba, tmp_path, version)
    assert VERIFIED in said
    assert sum(SERVER_HELLO in packet.tls for packet in sent) == 1
    assert not [packet.alerts for packet in sent if str(INTERNAL_ERROR) in packet.alerts]
    if version == "-tls1_2":  # where the certificate can be read on the wire
        assert sum(CERTIFICATE in packet.tls for packet in sent) == 1
        assert leaf in b"".join(packet.data for packet in sent)


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_without_last_good_there_is_an_alert_and_no_certificate_at_all(
    version: str, start_samba: Start, authority: Authority, tmp_path: Path
):
    samba = start_samba()
    leaf = served_then_stopped(samba, authority, tmp_path)
    said, sent = visited(samba, tmp_path, version, "--no-last-good")
    assert "no peer certificate available" in said
    assert "internal error" in said
    (packet,) = sent  # an alert record and nothing else: seven bytes
    assert packet.tls == ()
    assert packet.alerts == (str(INTERNAL_ERROR),)
    assert packet.data[0] == ALERT
    assert packet.data[3:] == bytes([0, 2, FATAL, INTERNAL_ERROR])
    assert leaf not in (tmp_path / "scene.pcapng").read_bytes()
