"""The settings file and the options over it; each error is one sentence that says where."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from centcert.admin.settings_file import read_settings, settings_file, site_option
from centcert.errors import SettingsError
from centcert.frontend import Backend, Limits, Site, TcpAddress
from centcert.names import HostName

if TYPE_CHECKING:
    from centcert.admin.settings import Settings

LEAST = """
[store]
url = "/srv/certificates"
[[listen]]
address = ":443"
to = "localhost:8080"
"""


def read(tmp_path: Path, text: str, **options: dict[str, object]) -> Settings:
    path = tmp_path / "centcert.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, options)


def refusal(tmp_path: Path, text: str, **options: dict[str, object]) -> str:
    """Return what is said after the file's name."""
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text, **options)
    start = f"{tmp_path / 'centcert.toml'}: "
    sentence = str(refused.value)
    assert sentence.startswith(start)
    assert sentence.count("\n") == 0
    assert sentence.endswith(".")
    return sentence.removeprefix(start)


def test_the_least_that_must_be_said(tmp_path: Path):
    settings = read(tmp_path, LEAST)
    assert settings.limits.limits() == Limits()
    assert float(settings.limits.grace) == 30
    assert float(settings.store.refresh) == 300
    (listen,) = settings.listen
    listener = listen.listener()
    assert listener.address == TcpAddress("", 443)
    assert listener.site == Site(Backend.parse("localhost:8080"))
    assert listener.default_name is None
    assert not listener.sites


def test_everything_that_can_be_said(tmp_path: Path):
    settings = read(
        tmp_path,
        """
        [store]
        url = "certificates"
        key_password_files = ["new", "old"]
        refresh = "1 min"
        absent = "0 s"
        max_memory = "1 MiB"
        max_names = 7

        [[listen]]
        address = "[::1]:8443"
        to = "unix:/run/app.sock"
        default_name = "Bücher.example"
        alpn = ["h2", "http/1.1"]
        proxy_protocol = true
        sites = [
          {name = "a.example", to = "a:80"},
          {name = "*.BÜCHER.example", to = "b:80", alpn = [], proxy_protocol = false},
        ]

        [limits]
        connections = 1
        waiting = 2
        handshake_timeout = "3 s"
        connect_timeout = "4 s"
        idle_timeout = "5 s"
        grace = "0 s"
        """,
    )
    assert settings.store.key_password_files == (Path("new"), Path("old"))
    assert asdict(settings.limits.limits()) == {
        "connections": 1,
        "waiting": 2,
        "handshake_s": 3,
        "connect_s": 4,
        "idle_s": 5,
    }
    cache = settings.cache_limits()
    assert (cache.max_bytes, cache.max_names) == (1024**2, 7)
    listener = settings.listen[0].listener()
    assert listener.default_name == "xn--bcher-kva.example"
    assert listener.site_of(HostName.parse("a.example")) == Site(
        Backend.parse("a:80"), (b"h2", b"http/1.1"), proxy_protocol=True
    )
    assert listener.site_of(HostName.parse("a.xn--bcher-kva.example")) == Site(
        Backend.parse("b:80")
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('[store]\nurll = "x"', "store: there is no setting `urll`."),
        ("[stores]", "There is no setting `stores`."),
        ("", "The setting `store` is missing."),
        ("[store]\n", "store: the setting `url` is missing."),
        ('[store]\nurl = "x"', "The setting `listen` is missing."),
        ("[store]\nurl = 5", "store.url: it must be text in quotes, not a whole number."),
        ('store = "x"', "store: it must be a table, not text in quotes."),
    ],
)
def test_a_wrong_file(tmp_path: Path, wrong: str, sentence: str):
    assert refusal(tmp_path, wrong) == sentence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            '[limits]\ngrace = "5"',
            "limits.grace: '5' needs a unit (ms, s, min, h, d): write it like '5 min'.",
        ),
        ("[limits]\ngrace = 5", "limits.grace: it must be text in quotes, not a whole number."),
        ("[limits]\nconnections = 0", "limits.connections: it must be at least 1."),
        (
            '[limits]\nconnections = "9"',
            "limits.connections: it must be a whole number, not text in quotes.",
        ),
        ('[limits]\nidle_timeout = "0 s"', "limits: idle_timeout must be longer than 0 s."),
        (
            '[limits]\nhandshake_timeout = "0 ms"',
            "limits: handshake_timeout must be longer than 0 s.",
        ),
        ("[limits]\nhandshakes = 1", "limits: there is no setting `handshakes`."),
        (
            '[[listen]]\naddress = ":1"',
            "listen[1]: A listener has either `to`, a backend, or `app`, an application.",
        ),
        (
            '[[listen]]\naddress = ":1"\nto = "a:80"\napp = "a:b"',
            "listen[1]: A listener has either `to`, a backend, or `app`, an application.",
        ),
        (
            '[[listen]]\naddress = ":1"\napp = "a b"',
            "listen[1]: app: 'a b' is no application: write module:attribute.",
        ),
        (
            '[[listen]]\naddress = ":1"\napp = "a.b:c"\nalpn = ["h2"]',
            "listen[1]: alpn: A listener with `app` has none: it has no backend.",
        ),
        (
            '[[listen]]\naddress = ":1"\nto = ":80"',
            "listen[1]: to: ':80' is not a backend: write host:port or unix:/path.",
        ),
        (
            '[[listen]]\naddress = "1"\nto = "a:80"',
            "listen[1]: address: '1' is not an address: write host:port, [ipv6]:port or :port.",
        ),
        (
            '[[listen]]\naddress = ":443"\nto = "a:80"',
            "':443' stands 2 times in listen: once is enough.",
        ),
    ],
)
def test_a_wrong_table_beside_right_ones(tmp_path: Path, more: str, sentence: str):
    assert refusal(tmp_path, LEAST + more) == sentence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            "proxy_protocol = 1",
            "listen[0].proxy_protocol: it must be true or false, not a whole number.",
        ),
        ('alpn = "h2"', "listen[0].alpn: it must be a list, not text in quotes."),
        ('alpn = [""]', "listen[0].alpn[0]: Expected `str` of length >= 1."),
        ('default_name = "a..b"', None),
        ('sites = [{name = "a.example"}]', "listen[0].sites[0]: the setting `to` is missing."),
        (
            'sites = [{name = "a.example", to = "x"}]',
            "listen[0].sites[0]: to: 'x' is not an address: write host:port, [ipv6]:port or :port.",
        ),
        ('sites = [{name = "*", to = "a:1"}]', None),
        ('sites = [{name = "a.*.b", to = "a:1"}]', None),
        (
            'sites = [{name = "ü.example", to = "a:1"}, {name = "xn--tda.example", to = "b:1"}]',
            "listen[0]: 'xn--tda.example' stands 2 times in sites: once is enough.",
        ),
    ],
)
def test_a_wrong_listener(tmp_path: Path, more: str, sentence: str | None):
    said = refusal(tmp_path, LEAST + more)
    if sentence is None:
        assert "is not a host name" in said
        assert said.startswith("listen")
    else:
        assert said == sentence


def test_what_is_no_toml_is_said_with_its_place(tmp_path: Path):
    path = tmp_path / "centcert.toml"
    for content, reason in ((b"[store", "at end"), (b"url = \xff", "can't decode")):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=f"^{path} is not TOML: .*{reason}.*\\.$"):
            read_settings(path, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=f"^{tmp_path}/none cannot be read: No such file"):
        read_settings(tmp_path / "none", {})


# --- options ------------------------------------------------------------------------


def test_options_alone_say_everything():
    options: dict[str, dict[str, object]] = {
        "store": {"url": "/srv"},
        "listen": {"address": ["127.0.0.1:1", "[::1]:1"], "to": "a:80"},
        "limits": {"grace": "1 s"},
    }
    settings = read_settings(None, options)
    assert [one.address for one in settings.listen] == ["127.0.0.1:1", "[::1]:1"]
    assert {one.to for one in settings.listen} == {"a:80"}
    assert float(settings.limits.grace) == 1


def test_an_option_wins_over_the_file(tmp_path: Path):
    settings = read(
        tmp_path,
        LEAST + '[limits]\ngrace = "1 s"\nwaiting = 5',
        store={"refresh": "7 s"},
        limits={"grace": "2 s"},
        listen={"to": "b:80"},
    )
    assert settings.store.url == "/srv/certificates"
    assert float(settings.store.refresh) == 7
    assert (float(settings.limits.grace), settings.limits.waiting) == (2, 5)
    assert [(one.address, one.to) for one in settings.listen] == [(":443", "b:80")]


def test_addresses_among_the_options_are_all_there_are(tmp_path: Path):
    settings = read(tmp_path, LEAST, listen={"address": [":1", ":2"], "to": "b:80"})
    assert [(one.address, one.to) for one in settings.listen] == [(":1", "b:80"), (":2", "b:80")]


def test_a_wrong_option_without_a_file_is_said_without_one():
    with pytest.raises(SettingsError, match=r"^store\.refresh: '5' needs a unit"):
        read_settings(None, {"store": {"url": "x", "refresh": "5"}})


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("a.b=c:80", {"name": "a.b", "to": "c:80"}),
        (
            "a=unix:/x,alpn=h2,alpn=http/1.1",
            {"name": "a", "to": "unix:/x", "alpn": ["h2", "http/1.1"]},
        ),
        ("*.a=[::1]:80,proxy-protocol", {"name": "*.a", "to": "[::1]:80", "proxy_protocol": True}),
    ],
)
def test_a_site_as_an_option(text: str, site: dict[str, object]):
    assert site_option(text) == site


@pytest.mark.parametrize("text", ["", "a.b", "a.b=c:80,h2", "a.b=c:80,proxy_protocol"])
def test_what_is_no_site_is_refused(text: str):
    with pytest.raises(SettingsError, match=r"is not a site: write NAME=BACKEND\[,alpn="):
        site_option(text)


# --- where the file is --------------------------------------------------------------


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = tmp_path / "home" / ".config" / "centcert" / "centcert.toml"
    system = tmp_path / "etc.toml"
    monkeypatch.setattr("centcert.admin.settings_file.SYSTEM_FILE", system)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("CENTCERT_CONFIG", "")
    assert settings_file(None) is None
    own.parent.mkdir(parents=True)
    own.touch()
    assert settings_file(None) == own
    system.touch()
    assert settings_file(None) == system
    monkeypatch.setenv("CENTCERT_CONFIG", "named.toml")
    assert settings_file(None) == Path("named.toml")
    assert settings_file(Path("option.toml")) == Path("option.toml")
    monkeypatch.delenv("CENTCERT_CONFIG")
    system.unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert settings_file(None) is None


def test_an_account_without_a_home_has_no_file_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """Guards: containers run under numbers that no account has; Path.home() raised."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "CENTCERT_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 12_345_678)
    assert settings_file(None) is None


def test_passwords_are_read_in_order_and_at_each_call(tmp_path: Path):
    for name in ("new", "old"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o600)
    settings = read(
        tmp_path, LEAST, store={"key_password_files": [str(tmp_path / n) for n in ("new", "old")]}
    )
    assert settings.store.key_passwords() == [b"new", b"old"]
    (tmp_path / "new").write_text("newer")
    assert settings.store.key_passwords() == [b"newer", b"old"]
