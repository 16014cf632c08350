"""The settings of a node: one TOML file, read strictly into values that cannot change."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from centcert.admin.secrets import read_secret
from centcert.admin.units import Duration, Size
from centcert.errors import CentcertError, SettingsError
from centcert.frontend import AppListener, Backend, Limits, Listener, Site, TcpAddress
from centcert.frontend.addresses import UNIX
from centcert.names import HostName
from centcert.provider import CacheLimits
from centcert.provider.policy import Action, Policy
from centcert.stores import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMITS: Final = Limits()

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Protocol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]  # RFC 7301 §3.1

MAX_WORKERS: Final = 256
"""Of a node: more than machines have processors, by now."""

_APP: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

OrDefault: TypeAlias = Literal["default", "refuse"]
OrLastGood: TypeAlias = Literal["last-good", "refuse"]
OrServe: TypeAlias = Literal["serve", "refuse"]


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[store]``: where the certificates live and how long an answer holds."""

    url: str
    enabled: bool = True
    username: str | None = None
    password_file: Path | None = None
    keytab: Path | None = None
    key_password_files: tuple[Path, ...] = ()
    refresh: Duration = Duration(300)
    absent: Duration = Duration(10)
    max_memory: Size = Size(256 * 1024**2)
    max_names: Count = 200_000
    last_good: bool = True
    state_folder: Path | None = None
    sealing_key_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        _more_than_none(refresh=self.refresh)
        is_share = self.url.startswith("smb://")
        secrets = [file for file in (self.password_file, self.keytab) if file is not None]
        if is_share and (not self.username or len(secrets) != 1):
            raise ValueError(
                "A share needs an account: username, and either password_file or keytab"
            )
        if not is_share and (self.username is not None or secrets):
            raise ValueError(
                "username, password_file and keytab are for a share, smb://server/share"
            )

    def account(self) -> Account | None:
        """Return who reads the store; its password is read from its file at each use."""
        file = self.password_file
        if self.username is None:
            return None
        return Account(
            self.username, None if file is None else lambda: read_secret(file), self.keytab
        )

    def key_passwords(self) -> list[bytes]:
        """Read the key passwords from their files, now.

        Raises:
            SettingsError: one of them cannot be read or is open to others.
        """
        return [read_secret(path) for path in self.key_password_files]


class SiteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[listen]]`` ``sites``: what one name, or one wildcard, has of its own."""

    name: str
    to: str
    alpn: tuple[Protocol, ...] | None = None
    proxy_protocol: bool | None = None
    on_absent: OrDefault | None = None
    on_unavailable: OrLastGood | None = None
    on_bad: OrLastGood | None = None
    on_expired: OrServe | None = None

    def __post_init__(self) -> None:
        with as_value_error("name"):
            _pattern(self.name)
        with as_value_error("to"):
            Backend.parse(self.to)


class ListenSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[listen]]``: an address and what is behind it."""

    address: str
    to: str | None = None
    app: str | None = None
    default_name: HostName | None = None
    alpn: tuple[Protocol, ...] = ()
    proxy_protocol: bool = False
    on_absent: OrDefault = "default"
    on_unavailable: OrLastGood = "last-good"
    on_bad: OrLastGood = "last-good"
    on_expired: OrServe = "serve"
    on_no_name: OrDefault = "default"
    sites: tuple[SiteSettings, ...] = ()

    def __post_init__(self) -> None:
        with as_value_error("address"):
            TcpAddress.parse(self.address)
        if self.to is not None:
            with as_value_error("to"):
                Backend.parse(self.to)
        self._check_app()
        _each_once("sites", [_pattern(site.name) for site in self.sites])

    def _check_app(self) -> None:
        if (self.to is None) == (self.app is None):
            raise ValueError("A listener has either `to`, a backend, or `app`, an application.")
        if self.app is None:
            return
        if not _APP.fullmatch(self.app):
            raise ValueError(f"app: {self.app!r} is no application: write module:attribute.")
        for setting in ("sites", "alpn", "proxy_protocol"):
            if getattr(self, setting):
                raise ValueError(f"{setting}: A listener with `app` has none: it has no backend.")

    def app_listener(self) -> AppListener:
        """Return the listener that these settings describe; they have an ``app``."""
        assert self.app is not None  # noqa: S101
        address = TcpAddress.parse(self.address)
        return AppListener(address, self.app, self.default_name, self._policy(self))

    def listener(self) -> Listener:
        """Return the listener that these settings describe; they have a ``to``."""
        assert self.to is not None  # noqa: S101
        sites = {_pattern(site.name): self._site(site, site.to) for site in self.sites}
        address, own = TcpAddress.parse(self.address), self._site(self, self.to)
        return Listener(address, own, MappingProxyType(sites), self.default_name)

    def _site(self, of: SiteSettings | ListenSettings, to: str) -> Site:
        """Return what ``of`` says, with this listener's settings for what it leaves open."""
        alpn = self.alpn if of.alpn is None else of.alpn
        return Site(
            Backend.parse(to),
            tuple(protocol.encode() for protocol in alpn),
            self.proxy_protocol if of.proxy_protocol is None else of.proxy_protocol,
            self._policy(of),
        )

    def _policy(self, of: SiteSettings | ListenSettings) -> Policy:
        def setting(name: str) -> str:
            own = getattr(of, name)
            return str(getattr(self, name) if own is None else own)

        return Policy(
            absent=Action(setting("on_absent")),
            unavailable=Action(setting("on_unavailable")),
            bad=Action(setting("on_bad")),
            expired=Action(setting("on_expired")),
            no_name=Action(self.on_no_name),
        )


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: what strangers may take, and how long an end may take."""

    connections: Count = _LIMITS.connections
    waiting: Count = _LIMITS.waiting
    handshake_timeout: Duration = Duration(_LIMITS.handshake_s)
    connect_timeout: Duration = Duration(_LIMITS.connect_s)
    idle_timeout: Duration = Duration(_LIMITS.idle_s)
    grace: Duration = Duration(30)

    def __post_init__(self) -> None:
        _more_than_none(
            handshake_timeout=self.handshake_timeout,
            connect_timeout=self.connect_timeout,
            idle_timeout=self.idle_timeout,
        )

    def limits(self) -> Limits:
        """Return them as the front end takes them."""
        return Limits(
            connections=self.connections,
            waiting=self.waiting,
            handshake_s=self.handshake_timeout,
            connect_s=self.connect_timeout,
            idle_s=self.idle_timeout,
        )


class WorkersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[workers]``: the processes that clients are served by."""

    count: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] | Literal["auto"] = 1

    def number(self) -> int:
        """Return how many processes there are; ``auto``: one for each processor of this one."""
        if self.count != "auto":
            return self.count
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)


class ControlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[control]``: how commands reach a running node."""

    socket: Path | None = None

    def path(self) -> Path:
        """Return the socket's path: systemd's choice of folder, or the usual places."""
        if self.socket is not None:
            return self.socket
        folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # systemd.exec(5)
        if not folder:
            own = os.environ.get("XDG_RUNTIME_DIR")
            # Of /tmp, itself the folder that control.py makes and checks: what is above it, if
            # another user had made that, would be the other's to replace.
            folder = f"{own}/centcert" if own else f"/tmp/centcert-{os.geteuid()}"  # noqa: S108
            if os.geteuid() == 0:
                folder = "/run/centcert"
        return Path(folder) / "control.sock"


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[metrics]``: where Prometheus finds the node's numbers."""

    listen: str | None = None

    def __post_init__(self) -> None:
        with as_value_error("listen"):
            self.address()

    def address(self) -> TcpAddress | Path | None:
        """Return where to answer: a loopback address or a Unix socket's path; ``None``: nowhere.

        Raises:
            SettingsError: it is neither.
        """
        if self.listen is None:
            return None
        if self.listen.startswith(UNIX):
            return Path(str(Backend.parse(self.listen).where))
        address = TcpAddress.parse(self.listen)
        if address.host not in _LOOPBACK:
            raise SettingsError(
                f"{self.listen!r} can be reached from elsewhere, and metrics are for this machine:"
                " write 127.0.0.1:PORT, [::1]:PORT or unix:/path."
            )
        return address


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: how the log's lines are written."""

    format: Literal["text", "json"] = "text"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node is told."""

    store: StoreSettings
    listen: Annotated[tuple[ListenSettings, ...], Meta(min_length=1)]
    limits: LimitSettings = msgspec.field(default_factory=LimitSettings)
    workers: WorkersSettings = msgspec.field(default_factory=WorkersSettings)
    control: ControlSettings = msgspec.field(default_factory=ControlSettings)
    metrics: MetricsSettings = msgspec.field(default_factory=MetricsSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        _each_once("listen", [str(TcpAddress.parse(one.address)) for one in self.listen])

    def addresses(self) -> list[TcpAddress]:
        """Return the addresses of all listeners."""
        return [TcpAddress.parse(one.address) for one in self.listen]

    def listeners(self) -> list[Listener]:
        """Return the listeners with backends."""
        return [one.listener() for one in self.listen if one.to is not None]

    def app_listeners(self) -> list[AppListener]:
        """Return the listeners with applications."""
        return [one.app_listener() for one in self.listen if one.app is not None]

    def cache_limits(self) -> CacheLimits:
        """Return what the provider may remember."""
        store = self.store
        return CacheLimits(
            max_bytes=store.max_memory, max_names=store.max_names, absent_s=store.absent
        )

    def state_folder(self) -> Path:
        """Return where this node keeps what is its own: systemd's choice, or the usual places."""
        if self.store.state_folder is not None:
            return self.store.state_folder
        if folder := os.environ.get("STATE_DIRECTORY"):  # systemd.exec(5)
            return Path(folder.partition(":")[0])
        if os.geteuid() == 0:
            return Path("/var/lib/centcert")
        home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  as above
        return Path(home) / "centcert"


@contextmanager
def as_value_error(setting: str | None = None) -> Iterator[None]:
    """Let msgspec say where it happened; it does so for a ValueError only.

    From the value's own hook it knows the ``setting`` too, from a table's it does not.
    """
    try:
        yield
    except CentcertError as error:
        raise ValueError(str(error) if setting is None else f"{setting}: {error}") from error


def _more_than_none(**times: Duration) -> None:
    for setting, time in times.items():
        if not time:
            raise ValueError(f"{setting} must be longer than 0 s")


def _each_once(setting: str, values: list[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise ValueError(f"{value!r} stands {times} times in {setting}: once is enough")


def _pattern(text: str) -> str:
    """Read a host name or ``*.`` and a host name."""
    wildcard = text.startswith("*.")
    return "*." * wildcard + HostName.from_unicode(text[2:] if wildcard else text)
