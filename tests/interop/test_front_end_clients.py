"""Real clients against ``centcert serve`` over files that OpenSSL and keytool made."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.interop.conftest import BY_KEYTOOL, KEYS, hello_http, running_backend
from tests.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import RealStore

VISITS = {name: name.replace("*", "adventure") for name in (*KEYS, BY_KEYTOOL)}
UNKNOWN = "nobody.contoso.example"


@pytest.fixture(scope="module")
def served(real_store: RealStore) -> Iterator[Served]:
    options = ("--key-password-file", real_store.password_file, "--listen", "127.0.0.1:0")
    with (
        running_backend(hello_http) as to,
        Served("--store", real_store.folder, "--to", to, "--alpn", "http/1.1", *options) as served,
    ):
        yield served


def s_client(served: Served, root: object, name: str, *options: str) -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", served.where, "-servername", name, "-CAfile", str(root),
         "-verify_return_error", "-verify_hostname", name, "-showcerts", *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("site", VISITS)
def test_openssl_gets_the_right_chain_in_order(
    served: Served, real_store: RealStore, site: str, version: str
):
    said = s_client(served, real_store.root, VISITS[site], version)
    assert "Verify return code: 0 (ok)" in said
    sent = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said, re.DOTALL)
    assert len(sent) == 2
    assert sent[0] in real_store.certificate(site)
    assert sent[1] in real_store.intermediate


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_gets_alert_112_for_an_unknown_name(
    served: Served, real_store: RealStore, version: str
):
    said = s_client(served, real_store.root, UNKNOWN, version)
    assert "SSL alert number 112" in said
    assert "-----BEGIN CERTIFICATE-----" not in said
    served.line(
        rf"^refused 127\.0\.0\.1:\d+, which asked for {UNKNOWN}:"
        rf" The store holds no certificate for {UNKNOWN}\.$"
    )


def test_openssl_gets_alert_120_for_protocols_nobody_speaks(served: Served, real_store: RealStore):
    said = s_client(served, real_store.root, "ec256.contoso.example", "-alpn", "smtp")
    assert "SSL alert number 120" in said


def test_curl_trusts_and_is_refused(served: Served, real_store: RealStore):
    def curl(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", real_store.root,
             "--connect-to", f"::{served.where}", *options, f"https://{name}/a/path"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    for name in VISITS.values():
        got = curl(name)
        assert (got.stdout, got.stderr) == ("/a/path", "")
    refused = curl(UNKNOWN)
    assert refused.returncode == 35
    assert "unrecognized name" in refused.stderr
    distrusted = curl("ec256.contoso.example", "--cacert", "/etc/ssl/certs/ca-certificates.crt")
    assert distrusted.returncode == 60


def test_curl_that_speaks_plain_http_is_refused(served: Served):
    plain = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "--noproxy", "*", f"http://{served.where}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.returncode != 0
    served.line(r"^refused 127\.0\.0\.1:\d+, which asked for no name: ")


def test_python_verifies_and_keeps_the_connection(served: Served, real_store: RealStore):
    context = ssl.create_default_context(cafile=str(real_store.root))
    for name in VISITS.values():
        tcp = socket.create_connection(served.address)
        client = http.client.HTTPSConnection(name)
        client.sock = context.wrap_socket(tcp, server_hostname=name)
        for path in ("/one", "/two"):
            client.request("GET", path)
            assert client.getresponse().read() == path.encode()
        client.close()
    with (
        socket.create_connection(served.address) as tcp,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        context.wrap_socket(tcp, server_hostname=UNKNOWN)
