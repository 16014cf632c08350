from __future__ import annotations

import errno
import socket

import pytest

from centcert.errors import SettingsError
from centcert.frontend.addresses import MAX_SOCKET_PATH_BYTES, Backend, TcpAddress, reason_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:443", "127.0.0.1", 443),
        ("app_1.internal:8080", "app_1.internal", 8080),
        ("app.internal.:8080", "app.internal.", 8080),
        ("[::1]:0", "::1", 0),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65_535),
        (":443", "", 443),
    ],
)
def test_an_address_is_read_and_shown_as_it_was_written(text: str, host: str, port: int):
    address = TcpAddress.parse(text)
    assert address == TcpAddress(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "443",
        "localhost",
        "localhost:",
        "localhost:https",
        "localhost:65536",
        "localhost:-1",
        "localhost:٤٤٣",
        "::1:443",
        "[::1]",
        "[]:443",
        "[app]:443",
        "[1.2.3.4]:443",
        "[::1:443",
        "a b:443",
        "a\0b:443",
        "bücher.example:443",
        "a..b:443",
        f"{'a' * 64}.example:443",
        " localhost:443",
        "localhost:443\n",
        "https://localhost:443",
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str):
    with pytest.raises(
        SettingsError, match=r"write host:port, \[ipv6\]:port or :port\.$"
    ) as refused:
        TcpAddress.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["app:8080", "[::1]:8080", "unix:/run/app.sock", "unix:app.sock"])
def test_a_backend_is_shown_as_it_was_written(text: str):
    assert str(Backend.parse(text)) == text


@pytest.mark.parametrize("text", [":8080", "app:0", "app", "unix:", "unix:/run/a\0b"])
def test_what_is_no_backend_is_refused(text: str):
    with pytest.raises(SettingsError, match=r"write .+\.$"):
        Backend.parse(text)


def test_a_socket_path_that_the_system_would_cut_is_refused():
    longest = "/" + "ü" * (MAX_SOCKET_PATH_BYTES // 2)
    assert len(longest.encode()) == MAX_SOCKET_PATH_BYTES
    Backend.parse(f"unix:{longest}")
    with pytest.raises(SettingsError, match="107 bytes at most"):
        Backend.parse(f"unix:{longest}/")
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as longer:
        longer.connect(longest + "/")


def test_the_reason_of_a_failed_call_is_the_systems():
    long = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 80)")
    assert reason_of(long) == "Connection refused"
    assert (
        reason_of(socket.gaierror(-2, "Name or service not known")) == "Name or service not known"
    )
    assert reason_of(OSError("Multiple exceptions: …")) == "Multiple exceptions: …"
