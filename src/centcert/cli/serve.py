"""``centcert serve``: run the front end until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from centcert.admin.settings_file import read_settings, settings_file, site_option
from centcert.audience import Audience
from centcert.cli import options
from centcert.cli.journal import Journal
from centcert.cli.loop import run
from centcert.cli.notify import ServiceManager
from centcert.collector import settle
from centcert.control import ReadSettings, SettingsRead, control_socket
from centcert.errors import CentcertError, SettingsError
from centcert.frontend import TcpAddress
from centcert.frontend.activation import assign, passed_sockets
from centcert.node import Node
from centcert.scrapes import metrics_page
from centcert.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from centcert.admin.settings import Settings
    from centcert.control import Reply, Request, Stream


def _workers(text: str) -> int | str:
    """Leave to the settings whether it is right."""
    return int(text) if text.isdecimal() else text


END_S: Final = 10.0
"""What ending takes beyond the grace of connections: the last-good copies are written."""


@click.command()
@options.config
@options.store
@click.option("--refresh", "store_refresh", metavar="TIME", help="Look for new files this often.")
@click.option("--absent", "store_absent", metavar="TIME", help="Remember a missing name this long.")
@click.option("--max-memory", "store_max_memory", metavar="SIZE", help="Memory for credentials.")
@click.option("--max-names", "store_max_names", type=int, help="Names to keep in memory.")
@click.option(
    "--listen",
    "listen_address",
    multiple=True,
    metavar="ADDR",
    help="Where to listen: host:port, or :port.",
)
@click.option("--to", "listen_to", metavar="BACKEND", help="The backend: host:port or unix:/path.")
@click.option(
    "--app",
    "listen_app",
    metavar="MODULE:NAME",
    help="In place of --to: an ASGI application, run in this process. Needs centcert[asgi].",
)
@click.option(
    "--site",
    "listen_sites",
    multiple=True,
    type=site_option,
    metavar="NAME=BACKEND",
    help="A backend for one name or wildcard; also NAME=BACKEND,alpn=h2,proxy-protocol.",
)
@click.option(
    "--default-name", "listen_default_name", metavar="NAME", help="Serve this to unknown names."
)
@click.option(
    "--alpn", "listen_alpn", multiple=True, metavar="PROTOCOL", help="What backends speak."
)
@click.option(
    "--proxy-protocol/--no-proxy-protocol",
    "listen_proxy_protocol",
    default=None,
    help="Tell backends the client's address by PROXY protocol v2.",
)
@click.option(
    "--last-good/--no-last-good",
    "store_last_good",
    default=None,
    help="Keep sealed copies of what was served, for when the store is away (on).",
)
@click.option(
    "--state-folder", "store_state_folder", type=options.FOLDER, help="Where those copies are kept."
)
@click.option(
    "--sealing-key-file",
    "store_sealing_key_files",
    multiple=True,
    type=options.FILE,
    help="A file with the key of the copies; made if it is not there. The first seals.",
)
@click.option(
    "--on-absent",
    "listen_on_absent",
    metavar="default|refuse",
    help="If the store holds no file for a name.",
)
@click.option(
    "--on-unavailable",
    "listen_on_unavailable",
    metavar="last-good|refuse",
    help="If the store gives no answer.",
)
@click.option(
    "--on-bad", "listen_on_bad", metavar="last-good|refuse", help="If the file cannot be used."
)
@click.option(
    "--on-expired",
    "listen_on_expired",
    metavar="serve|refuse",
    help="If the certificate is outside its dates.",
)
@click.option(
    "--on-no-name",
    "listen_on_no_name",
    metavar="default|refuse",
    help="If the client sends no server name.",
)
@click.option(
    "--control",
    "control_socket",
    type=options.FILE,
    help="The Unix socket at which `centcert status`, `reload` and `trace` reach this node.",
)
@click.option(
    "--metrics",
    "metrics_listen",
    metavar="ADDR",
    help="Answer Prometheus here: 127.0.0.1:port or unix:/path.",
)
@click.option("--log-format", metavar="text|json", help="How the log's lines are written.")
@click.option(
    "--workers",
    "workers_count",
    type=_workers,
    metavar="N|auto",
    help="Processes that serve clients; auto: one for each processor.",
)
@click.option("--connections", "limits_connections", type=int, help="Clients at once, at most.")
@click.option(
    "--waiting",
    "limits_waiting",
    type=int,
    help="Handshakes that wait for the store at once, at most.",
)
@click.option(
    "--handshake-timeout",
    "limits_handshake_timeout",
    metavar="TIME",
    help="From accepting a client until TLS stands.",
)
@click.option(
    "--connect-timeout",
    "limits_connect_timeout",
    metavar="TIME",
    help="Until the backend has accepted.",
)
@click.option(
    "--idle-timeout",
    "limits_idle_timeout",
    metavar="TIME",
    help="Without a byte in either direction.",
)
@click.option(
    "--grace", "limits_grace", metavar="TIME", help="For connections to finish at the end."
)
def serve(config: Path | None, **given: object) -> None:
    """Run the front end: a node.

    Every option stands for a setting of the file and wins over it. SIGTERM lets
    connections finish, a second one does not; SIGHUP reads the settings file again.
    TIME and SIZE have their unit: 5 min, 256 MiB.
    """

    def load() -> Settings:
        path = settings_file(config)
        needed = (
            "store_url",
            "listen_address",
            "listen_app" if given["listen_app"] else "listen_to",
        )
        if path is None and not all(given[option] for option in needed):
            raise SettingsError(
                "Give --store, --listen and --to (or --app), or a settings file with --config."
            )
        settings = read_settings(path, options.by_table(given))
        if settings.app_listeners() and "" not in sys.path:
            # Where applications are looked for first, as by python -m. Not without one:
            # whoever can write to the working directory would choose what is imported.
            sys.path.insert(0, "")
        return settings

    settings = load()
    if settings.workers.number() > 1:
        _supervise(settings, load, config)
    else:
        run(_serve(settings, load, config))


def _supervise(settings: Settings, load: Callable[[], Settings], config: Path | None) -> None:
    """Serve with several processes. Nothing here may start a thread: it forks."""
    journal = Journal(as_json=settings.log.format == "json")
    passed = passed_sockets()
    supervisor = Supervisor(
        load,
        run,
        journal,
        ServiceManager(),
        passed=asyncio.run(assign(passed, settings.addresses())) if passed else {},
        file=_absolute(settings_file(config)),
    )
    _allow_open_files(-(-settings.limits.connections // settings.workers.number()), journal)
    supervisor.serve(settings)


async def _serve(settings: Settings, load: Callable[[], Settings], config: Path | None) -> None:
    journal = Journal(as_json=settings.log.format == "json")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(journal.fault)
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    manager, one_at_a_time = ServiceManager(), asyncio.Lock()
    inherited = await assign(passed_sockets(), settings.addresses())

    async def read_again() -> None:
        nonlocal settings
        async with one_at_a_time:
            manager.reloading()
            try:
                changed = load()
                _check_inherited(inherited, changed)
                if changed.workers.number() > 1:
                    raise SettingsError("One process cannot become several: restart the service.")
                await node.reload(changed)
            except CentcertError as error:
                journal.say("settings-refused", f"The settings stay as they are. {error}", "error")
                raise
            else:
                settings = changed
                journal.say("serving", _serving(node, settings))
            finally:
                manager.ready(_serving(node, settings))

    async def answer(request: Request) -> Reply | Stream:
        if not isinstance(request, ReadSettings):
            return await node.answer(request)
        await read_again()
        file, store = _absolute(settings_file(config)), settings.store
        return SettingsRead(file, store.url, store.enabled)

    with manager.watched():
        async with (
            Node(settings, Audience(journal), inherited) as node,
            _control(answer, settings, journal),
            _metrics(node, settings, journal),
        ):
            _allow_open_files(settings.limits.connections, journal)
            journal.say("serving", _serving(node, settings))
            manager.ready(_serving(node, settings))
            settle()
            while await signals.get() is signal.SIGHUP:
                with suppress(CentcertError):
                    await read_again()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            stopping = f"Stopping; connections have {settings.limits.grace} to finish."
            journal.say("stopping", stopping)
            manager.stopping(stopping, settings.limits.grace + END_S)


@asynccontextmanager
async def _control(
    answer: Callable[[Request], Awaitable[Reply | Stream]], settings: Settings, journal: Journal
) -> AsyncIterator[None]:
    """Open the control socket. In its usual place it is a convenience: without it, it goes on."""
    async with AsyncExitStack() as stack:
        try:
            socket = control_socket(settings.control.path(), answer)
            await stack.enter_async_context(socket)
        except SettingsError as error:
            if settings.control.socket is not None:
                raise
            journal.say("no-control-socket", f"No control socket: {error}", "warning")
        yield


@asynccontextmanager
async def _metrics(node: Node, settings: Settings, journal: Journal) -> AsyncIterator[None]:
    """Answer Prometheus, if that is wanted."""
    address = settings.metrics.address()
    if address is None:
        yield
        return
    async with metrics_page(address, node.status) as where:
        journal.say("metrics", f"Metrics are at {where}.")
        yield


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.path.realpath(path)


def _serving(node: Node, settings: Settings) -> str:
    addresses = ", ".join(str(TcpAddress(host, port)) for host, port in node.addresses)
    return f"Serving certificates from {settings.store.url} on {addresses}."


def _check_inherited(inherited: Mapping[TcpAddress, object], settings: Settings) -> None:
    for address in inherited.keys() - settings.addresses():
        raise SettingsError(
            f"No [[listen]] is for {address} any more, which systemd listens on: name it, or take"
            " it out of the socket unit and restart the service."
        )


def _allow_open_files(connections: int, journal: Journal) -> None:
    """Take as many file descriptors as the system allows: a connection uses two.

    The soft limit is 1024 on most systems, for the sake of select(2) (systemd.exec(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 2 * connections:
        journal.say(
            "few-files",
            f"Only {hard} files may be open, two for each of {connections} connections:"
            " raise LimitNOFILE (ulimit -n) or lower --connections.",
            "warning",
        )
