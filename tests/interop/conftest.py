"""Backends for ``centcert serve`` as a process, and a store made by openssl and keytool."""

from __future__ import annotations

import socketserver
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.ports import reserved_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Backend = Callable[[Callable[[socket.socket], None]], str]

PASSWORD = "correct horse"
EC = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
KEYS = {
    "ec256.contoso.example": EC,
    "ec384.contoso.example": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
    "rsa2048.contoso.example": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    "rsa4096.contoso.example": "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
    "ed25519.contoso.example": "-algorithm ED25519",
    "*.tenants.example": EC,
    "xn--bcher-kva.example": EC,
}
BY_KEYTOOL = "java.contoso.example"
FILES = {"*.tenants.example": "_.tenants.example", "xn--bcher-kva.example": "bücher.example"}


class RealStore:
    """A folder of PFX files as administrators make them, with OpenSSL and with keytool.

    Each file also holds the root, and before the intermediate: the chain that is to be
    sent must be put in order.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "store"
        self.root = home / "root.pem"
        self.password_file = home / "password"
        self.folder.mkdir()
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(PASSWORD + "\n", encoding="ascii")
        self._make_authority()
        for name, key in KEYS.items():
            self._make_with_openssl(name, key)
        self._make_with_keytool(BY_KEYTOOL)

    def certificate(self, name: str) -> str:
        """The leaf of ``name`` as PEM."""
        return (self.home / f"{name}.pem").read_text(encoding="ascii").strip()

    @property
    def intermediate(self) -> str:
        return (self.home / "ca.pem").read_text(encoding="ascii").strip()

    def run(self, command: str, *more: str) -> None:
        subprocess.run([*command.split(), *more], cwd=self.home, check=True, capture_output=True)

    def _make_authority(self) -> None:
        for name in ("root", "ca"):
            self.run(f"openssl genpkey {EC} -out {name}.key")
            self.run(
                f"openssl req -x509 -key {name}.key -out {name}.pem -days 30 -set_serial 1"
                " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
                + ("" if name == "root" else " -CA root.pem -CAkey root.key"),
                *("-subj", f"/CN=Real {name}"),
            )
        chain = self.root.read_text("ascii") + (self.home / "ca.pem").read_text("ascii")
        (self.home / "chain.pem").write_text(chain, encoding="ascii")

    def _make_with_openssl(self, name: str, key: str) -> None:
        self.run(f"openssl genpkey {key} -out", f"{name}.key")
        self.run(
            "openssl req -x509 -CA ca.pem -CAkey ca.key -days 30"
            " -addext extendedKeyUsage=serverAuth -addext basicConstraints=critical,CA:FALSE",
            *("-key", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}"),
        )
        self.run(
            "openssl pkcs12 -export -certfile chain.pem -name site",
            *("-inkey", f"{name}.key", "-in", f"{name}.pem", "-passout", f"pass:{PASSWORD}"),
            *("-out", f"store/{FILES.get(name, name)}.pfx"),
        )

    def _make_with_keytool(self, name: str) -> None:
        (self.home / "san").write_text(f"subjectAltName=DNS:{name}", encoding="ascii")
        keystore = ["-keystore", f"store/{name}.pfx", "-storepass", PASSWORD, "-alias", "site"]
        self.run("keytool -genkeypair -keyalg EC -groupname secp256r1 -storetype PKCS12",
                 "-dname", f"CN={name}", *keystore)  # fmt: skip
        self.run("keytool -certreq -file java.csr", *keystore)
        self.run(
            "openssl x509 -req -in java.csr -CA ca.pem -CAkey ca.key -days 30 -extfile san",
            *("-out", f"{name}.pem"),
        )
        whole = self.certificate(name) + "\n" + (self.home / "chain.pem").read_text("ascii")
        (self.home / "java.chain").write_text(whole, encoding="ascii")
        self.run("keytool -importcert -noprompt -file java.chain", *keystore)


@pytest.fixture(scope="session")
def real_store(tmp_path_factory: pytest.TempPathFactory) -> RealStore:
    return RealStore(tmp_path_factory.mktemp("real"))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024


@contextmanager
def running_backend(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """Let ``handle`` serve each connection in a thread; yield where."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            handle(self.request)

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield "{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 20):
        client.sendall(data)


def hello_http(client: socket.socket) -> None:
    """Answer each request of one connection with its path."""
    rest = b""
    while data := client.recv(1 << 16):
        rest += data
        while b"\r\n\r\n" in rest:
            request, _, rest = rest.partition(b"\r\n\r\n")
            body = request.split(b" ")[1]
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def echo_backend() -> Iterator[str]:
    with running_backend(echo) as where:
        yield where


@pytest.fixture
def http_backend() -> Iterator[str]:
    with running_backend(hello_http) as where:
        yield where


def _reserved_port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


port = pytest.fixture(_reserved_port, name="port")
other_port = pytest.fixture(_reserved_port, name="other_port")
