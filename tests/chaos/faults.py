"""The faults: each does its damage, lets clients meet it for a while, and mends it.

What must hold meanwhile, ``world`` checks with every handshake; a fault checks besides what
only it can know: that a replaced file is served, a bad one found, a removed one withdrawn.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.chaos.world import NOTICED_S, RECOVERED_S, WRITTEN_S, File, World, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from centcert.demo.samba import PrivateSamba

Fault: TypeAlias = "Callable[[World], Awaitable[None]]"

DAYS: Final = 400
"""How wrong the clock is: beyond the life of every certificate of the run."""


async def hold(world: World) -> None:
    """Let clients meet the fault; one in ten lasts long, so that pauses grow meanwhile."""
    times = 10 if world.dice.random() < 0.1 else 1
    await asyncio.sleep(world.hold_s * times * world.dice.uniform(0.5, 1.5))


@asynccontextmanager
async def changes_behind(world: World) -> AsyncIterator[None]:
    """Replace a file and remove another while the node cannot see it, in the block.

    After the block both changes must take effect.
    """
    replaced, removed = world.dice.sample(world.files, 2)
    await world.publish(replaced)
    world.remove(removed)
    yield
    await world.served(replaced, RECOVERED_S)
    await world.withdrawn(removed, RECOVERED_S)
    await world.put_back(removed)


async def restart_node(world: World) -> None:
    """Kill -9 the node and start it again."""
    await asyncio.sleep(WRITTEN_S)
    await world.node.kill()
    await world.node.start()


def one(world: World) -> list[PrivateSamba]:
    """Choose one file server."""
    return [world.dice.choice(world.servers)]


# --- file servers -----------------------------------------------------------------


async def cut_one_connection(world: World) -> None:
    """Kill -9 the smbd behind one connection."""
    for server in one(world):
        pids = await in_thread(server.connections)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(world.dice.choice(pids), signal.SIGKILL)
    await hold(world)


async def _killed(world: World, servers: Sequence[PrivateSamba], sign: signal.Signals) -> None:
    for server in servers:
        await in_thread(server.stop, sign)
    async with changes_behind(world):
        await hold(world)
        for server in servers:
            await in_thread(server.start)


async def kill_one_server(world: World) -> None:
    """Kill -9 one of the two file servers; start it again."""
    await _killed(world, one(world), signal.SIGKILL)


async def kill_all_servers(world: World) -> None:
    """Kill -9 both file servers; start them again."""
    await _killed(world, world.servers, signal.SIGKILL)


async def restart_servers(world: World) -> None:
    """End both file servers in good order; start them again."""
    await _killed(world, world.servers, signal.SIGTERM)


async def _frozen(world: World, servers: Sequence[PrivateSamba]) -> None:
    for server in servers:
        await in_thread(server.freeze)
    async with changes_behind(world):
        await hold(world)
        for server in servers:
            await in_thread(server.thaw)


async def freeze_one_server(world: World) -> None:
    """Freeze one of the two file servers (SIGSTOP); thaw it."""
    await _frozen(world, one(world))


async def freeze_all_servers(world: World) -> None:
    """Freeze both file servers (SIGSTOP); thaw them."""
    await _frozen(world, world.servers)


# --- files ------------------------------------------------------------------------


async def replace_file(world: World) -> None:
    """Replace a file: the new certificate is served soon, the old one never again."""
    file = world.dice.choice(world.files)
    await world.publish(file)
    await world.served(file, NOTICED_S)


async def overwrite_in_place(world: World) -> None:
    """Overwrite a file slowly in its place, as no publisher should."""
    file = world.dice.choice(world.files)
    target = world.folder / file.key
    before = target.read_bytes()
    await world.publish(file)
    after = file.blob
    world.write(file, before)
    with target.open("wb", 0) as half:
        for start in range(0, len(after), len(after) // 3):
            half.write(after[start : start + len(after) // 3])
            await asyncio.sleep(0.05)
    await world.served(file, NOTICED_S)


async def _spoilt(world: World, file: File, blob: bytes, code: str) -> None:
    world.write(file, blob)
    await world.found(code, file.key)
    await hold(world)
    if world.dice.random() < 0.5:
        await restart_node(world)
        await hold(world)
    await world.publish(file)
    await world.served(file, NOTICED_S)


async def truncate_file(world: World) -> None:
    """Cut a file short, perhaps kill the node too; mend it."""
    file = world.dice.choice(world.files)
    cut = file.blob[: world.dice.randrange(len(file.blob))]
    await _spoilt(world, file, cut, "bad-file")


async def garble_file(world: World) -> None:
    """Fill a file with noise, perhaps kill the node too; mend it."""
    file = world.dice.choice(world.files)
    await _spoilt(world, file, world.dice.randbytes(2_000), "bad-file")


async def misname_file(world: World) -> None:
    """Put another site's certificate into a file, perhaps kill the node too; mend it."""
    plain = [file for file in world.files if not file.locked and file.key.endswith(".pfx")]
    file, other = world.dice.sample(plain, 2)
    await _spoilt(world, file, other.blob, "wrong-name")


async def lock_file(world: World) -> None:
    """Protect a file with a password nobody knows, perhaps kill the node too; mend it."""
    file = world.dice.choice([file for file in world.files if file.key.endswith(".pfx")])
    issued = await world.issue(file)
    blob = issued.pfx(secrets.token_bytes(12).hex().encode())
    await _spoilt(world, file, blob, "bad-file")


async def remove_file(world: World) -> None:
    """Remove a file: its names are refused soon; put it back: they are served again."""
    file = world.dice.choice(world.files)
    world.remove(file)
    await world.withdrawn(file, NOTICED_S)
    await hold(world)
    await world.put_back(file)


# --- rights -------------------------------------------------------------------------


async def deny_file(world: World) -> None:
    """Take the right to read a file away, and kill the node; give it back."""
    file = world.dice.choice(world.files)
    path = world.folder / file.key
    mode = path.stat().st_mode
    path.chmod(0)
    await restart_node(world)
    await hold(world)
    path.chmod(mode)


async def deny_folder(world: World) -> None:
    """Take the right to read the folder away, perhaps kill the node too; give it back."""
    mode = world.folder.stat().st_mode
    world.folder.chmod(0)
    await hold(world)
    if world.dice.random() < 0.5:
        await restart_node(world)
        await hold(world)
    world.folder.chmod(mode)


async def move_folder_away(world: World) -> None:
    """Move the whole folder elsewhere, as a disk that is not mounted; move it back."""
    elsewhere = world.folder.with_name("elsewhere")
    world.folder.rename(elsewhere)
    await hold(world)
    if world.dice.random() < 0.5:
        await restart_node(world)
        await hold(world)
    elsewhere.rename(world.folder)


async def change_password(world: World) -> None:
    """Change the account's password and cut all connections; then tell the node of it."""
    password = secrets.token_urlsafe(12)
    for server in world.servers:
        await in_thread(server.change_password, password)
        await in_thread(server.kill_connections)
    await hold(world)
    if world.dice.random() < 0.5:
        await restart_node(world)
        await hold(world)
    world.password_file.write_text(password + "\n")


# --- the node -----------------------------------------------------------------------


async def kill_node(world: World) -> None:
    """Kill -9 the node while the store is there."""
    await restart_node(world)
    await hold(world)


async def kill_node_and_servers(world: World) -> None:
    """Kill -9 the node while both file servers are down: it starts without them."""
    for server in world.servers:
        await in_thread(server.stop, signal.SIGKILL)
    async with changes_behind(world):
        await restart_node(world)
        await hold(world)
        for server in world.servers:
            await in_thread(server.start)


async def kill_node_with_frozen_servers(world: World) -> None:
    """Kill -9 the node while both file servers are frozen: it starts without them."""
    for server in world.servers:
        await in_thread(server.freeze)
    async with changes_behind(world):
        await restart_node(world)
        await hold(world)
        for server in world.servers:
            await in_thread(server.thaw)


async def fill_disk(world: World) -> None:
    """Fill the node's disk, replace a file meanwhile; then give the room back."""
    world.fill_disk()
    file = world.dice.choice(world.files)
    await world.publish(file)
    await world.served(file, NOTICED_S)
    await world.found("copies-unwritten", str(world.state / "last-good"))
    await hold(world)
    world.free_disk()
    await world.found_no_more()  # the copies are written now: what follows may count on them


async def fill_disk_and_kill_all(world: World) -> None:
    """Fill the node's disk, and kill -9 the node and both file servers: it starts so."""
    if not world.disk_is_mounted:  # the limit would die with the node
        await kill_node_and_servers(world)
        return
    await asyncio.sleep(WRITTEN_S)
    world.fill_disk()
    await kill_node_and_servers(world)
    world.free_disk()


async def turn_clock(world: World) -> None:
    """Run the node with a clock that is right, then far ahead, then far behind.

    All names are in its memory by then: far ahead, its own copies have expired and are of
    no use, so a name that it would have to look up depends on the store alone.
    """
    offset = world.home / "clock"
    offset.write_text("+0")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    await asyncio.sleep(WRITTEN_S)
    await world.node.kill()
    await world.node.start(
        {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
    )
    await world.warm()
    for days in (DAYS, -DAYS):
        offset.write_text(f"{days:+d}d")
        await asyncio.sleep(1.0)  # until the library looks again
        file = world.dice.choice(world.files)
        await world.publish(file)
        await world.served(file, NOTICED_S)
        await hold(world)
    await restart_node(world)


WELL: Final = (replace_file, overwrite_in_place, remove_file)
"""The store is there all the time: nobody may be refused because of it."""

FAULTS: Final[tuple[Fault, ...]] = (
    cut_one_connection,
    kill_one_server,
    kill_all_servers,
    restart_servers,
    freeze_one_server,
    freeze_all_servers,
    replace_file,
    overwrite_in_place,
    truncate_file,
    garble_file,
    misname_file,
    lock_file,
    remove_file,
    deny_file,
    deny_folder,
    move_folder_away,
    change_password,
    kill_node,
    kill_node_and_servers,
    kill_node_with_frozen_servers,
    fill_disk,
    fill_disk_and_kill_all,
    turn_clock,
)
