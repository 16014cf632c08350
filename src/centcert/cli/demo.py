"""``centcert demo``: a whole farm in one go, and a tour of it."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from centcert.admin.settings import ListenSettings, Settings, StoreSettings
from centcert.cli.loop import run
from centcert.cli.timeline import Recorder, timeline
from centcert.demo.backend import backend
from centcert.demo.farm import BANK, BOOKS, LEGACY, SHOP, TENANTS, DemoSite, Farm
from centcert.demo.samba import PrivateSamba, SambaFailed
from centcert.demo.visitor import Visit, visit
from centcert.errors import SettingsError
from centcert.frontend import TcpAddress
from centcert.names import HostName
from centcert.node import Node
from centcert.provider.events import Refreshed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


UNKNOWN = HostName.parse("nobody.contoso.example")
REPLACED_WITHIN_S = 10.0


@click.command(short_help="Show the whole of it in a temporary folder.")
@click.option("--tour", is_flag=True, help="End after the tour; exit code 0 if all went well.")
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, metavar="ADDR", help="Where to listen."
)
@click.option("--smb", is_flag=True, help="Put the store on a private Samba and read it by SMB.")
def demo(*, tour: bool, listen: str, smb: bool) -> None:
    """Show the whole of it: a CA, a store of sites, a backend and the front end.

    Everything lies in a temporary folder and is gone afterwards. A visitor goes on a tour
    and each of its handshakes is printed step by step; then the front end goes on serving,
    unless --tour ends it.
    """
    if not run(_demo(listen, Console(highlight=False), smb=smb, go_on=not tour)):
        raise click.exceptions.Exit(1)


async def _demo(listen: str, console: Console, *, smb: bool, go_on: bool) -> bool:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with _running(TcpAddress.parse(listen), smb=smb) as show:
        show.console = console
        well = await _tour(show)
        if go_on:
            _print_what_to_try(show)
            await stop.wait()
    return well


@dataclass(slots=True)
class _Show:
    farm: Farm
    store_url: str
    address: tuple[str, int]
    recorder: Recorder
    refreshed: asyncio.Event
    console: Console


@asynccontextmanager
async def _running(address: TcpAddress, *, smb: bool) -> AsyncIterator[_Show]:
    with tempfile.TemporaryDirectory(prefix="centcert-demo-") as folder:
        home = Path(folder)
        farm = await asyncio.to_thread(Farm, home)
        recorder, refreshed = Recorder(), asyncio.Event()

        def listener(event: object) -> None:
            recorder(event)
            if isinstance(event, Refreshed) and event.changed:
                refreshed.set()

        socket = home / "backend.sock"
        async with AsyncExitStack() as stack:
            store = StoreSettings(
                url=str(farm.store),
                key_password_files=(farm.password_file,),
                state_folder=home / "state",
            )
            if smb:
                store = await asyncio.to_thread(_share, farm, home, store, stack)
            listen = ListenSettings(str(address), f"unix:{socket}", proxy_protocol=True)
            await stack.enter_async_context(backend(socket))
            node = await stack.enter_async_context(Node(Settings(store, (listen,)), listener))
            yield _Show(farm, store.url, node.addresses[0], recorder, refreshed, Console())


def _share(farm: Farm, home: Path, local: StoreSettings, stack: AsyncExitStack) -> StoreSettings:
    """Put the farm's store on a private Samba; return the settings to read it with."""
    root = home / "samba"
    root.mkdir()
    home.chmod(0o711)  # Samba's account must come through
    try:
        samba = PrivateSamba(root, folder=farm.store)
        samba.start()
    except SambaFailed as error:
        raise SettingsError(f"--smb: {error}") from error
    stack.callback(samba.stop)
    password_file = home / "account-password"
    password_file.touch(mode=0o600)
    password_file.write_text(samba.password)
    return msgspec.structs.replace(
        local,
        url=f"smb://{samba.host}:{samba.port}/{samba.share}",
        username=samba.username,
        password_file=password_file,
    )


# --- the tour ------------------------------------------------------------------


async def _tour(show: _Show) -> bool:
    show.console.print(
        f"\n[bold]A front end that holds no certificate[/] listens on"
        f" {show.address[0]}:{show.address[1]}; its store is {show.store_url}.\n"
    )
    steps = [
        await _visit(show, "First visit: the file is fetched during the handshake", SHOP),
        await _visit(show, "Second visit: the certificate is in memory", SHOP),
        await _visit(show, "A site with an RSA key", LEGACY),
        await _visit(show, "A file with a password", BANK),
        await _visit(show, "A wildcard: one file for every tenant", TENANTS),
        await _visit(show, "An international name, its file named in Unicode", BOOKS),
        await _refused(show),
        await _replaced(show),
    ]
    failed = steps.count(False)
    verdict = (
        f"[red]{failed} of {len(steps)} steps failed[/]" if failed else "[green]All went well[/]"
    )
    show.console.print(f"[bold]{verdict}[/]: {len(steps)} steps.\n")
    return not failed


async def _visit(show: _Show, title: str, site: DemoSite, serial: int | None = None) -> bool:
    def expected(made: Visit) -> str | None:
        if made.certificate is None or made.status != "HTTP/1.1 200 OK":
            return None
        if serial not in (None, made.certificate.serial_number):
            return None
        return f"verified for {site.visit.unicode}, and the page came"

    return await _step(show, title, site.visit, expected)


async def _refused(show: _Show) -> bool:
    def expected(made: Visit) -> str | None:
        right = made.certificate is None and made.refusal == "TLSV1_UNRECOGNIZED_NAME"
        return "no certificate at all, and the client knows why" if right else None

    title = "A name that the store does not hold: never another site's certificate"
    return await _step(show, title, UNKNOWN, expected)


async def _replaced(show: _Show) -> bool:
    serial = await asyncio.to_thread(show.farm.publish, SHOP)
    try:
        async with asyncio.timeout(REPLACED_WITHIN_S):
            await show.refreshed.wait()
    except TimeoutError:
        show.console.print("[red]✗[/] the replaced file was not noticed")
        return False
    return await _visit(show, "The file was replaced: the new certificate", SHOP, serial)


async def _step(
    show: _Show, title: str, name: HostName, expected: Callable[[Visit], str | None]
) -> bool:
    made = await visit(show.address, name, show.farm.ca_file)
    outcome = expected(made)
    show.console.print(f"[bold]{title}[/]")
    show.console.print(timeline(show.recorder.take()))
    if outcome is None:
        what = made.refusal or made.status or "the connection ended"
        show.console.print(f"  [red]✗[/] it came out otherwise: {escape(what)}\n")
        return False
    show.console.print(f"  [green]✓[/] {outcome}\n")
    return True


def _print_what_to_try(show: _Show) -> None:
    host, port = show.address
    to = f"--cacert {show.farm.ca_file} --connect-to ::{host}:{port}"
    show.console.print("[bold]Try it yourself[/] (Ctrl-C ends the demo):")
    for line in (
        f"curl {to} https://{SHOP.visit}/",
        f"curl {to} https://any.tenants.example/",
        f"curl {to} https://{UNKNOWN}/",
        f"openssl s_client -connect {host}:{port} -servername {LEGACY.visit} </dev/null",
        f"ls {show.farm.store}",
    ):
        show.console.print(f"  {line}", soft_wrap=True)
