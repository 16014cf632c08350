"""Chromium opens the demo's page over HTTPS, and trusts it for the demo's authority alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.served import CENTCERT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OFFLINE = [
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Demo:
    address: str
    ca_file: str


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with subprocess.Popen([*CENTCERT, "demo"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = next(line for line in process.stdout if line.startswith("  curl ")).split()
            host, port = words[words.index("--connect-to") + 1].rsplit(":", 2)[1:]
            yield Demo(f"{host}:{port}", words[words.index("--cacert") + 1])
        finally:
            process.terminate()


def chromium(demo: Demo, home: Path, url: str) -> subprocess.Popen[str]:
    """Start Chromium; it writes the page as it has it to ``page``, and leaves."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None
    with (home / "page").open("w") as page:
        return subprocess.Popen(
            [program, *OFFLINE, f"--user-data-dir={home}/profile", "--dump-dom",
             f"--host-resolver-rules=MAP * {demo.address}", url],
            stdout=page, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "HOME": str(home)},
        )  # fmt: skip


def trust(ca_file: str, home: Path) -> None:
    """Put the authority where Chromium keeps what its user trusts (NSS's shared database)."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for options in (
        ("-N", "--empty-password"),
        ("-A", "-n", "demo", "-t", "C,,", "-i", ca_file),
    ):
        subprocess.run(["certutil", "-d", f"sql:{database}", *options], check=True)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://www.contoso.example/", "www.contoso.example.pfx"),
        ("https://bücher.example/", "bücher.example.pfx"),
    ],
)
def test_the_page_opens_without_a_warning(demo: Demo, tmp_path: Path, url: str, key: str):
    trust(demo.ca_file, tmp_path)
    with chromium(demo, tmp_path, url) as browser:
        browser.communicate(timeout=50)
    page = (tmp_path / "page").read_text()
    for fact in (key, "TLSv1.3", "X25519MLKEM768"):
        assert f"<dd>{fact}</dd>" in page


def test_without_trust_it_does_not_open(demo: Demo, tmp_path: Path):
    told = ("net::ERR_CERT_AUTHORITY_INVALID", "net_error -202")  # the same, as versions spell it
    with chromium(demo, tmp_path, "https://www.contoso.example/") as browser:
        assert browser.stderr is not None
        try:
            assert any(words in line for line in browser.stderr for words in told)
        finally:
            browser.terminate()  # it does not always leave on its own then
    assert "<dd>TLSv1.3</dd>" not in (tmp_path / "page").read_text()
