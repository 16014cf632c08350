"""The parts of a chaos run: file servers, a node, its sites, and what each handshake must get.

Everything is real and on loopback: two Sambas that show one folder, a ``centcert serve``
with a state folder of its own, a backend, and clients that verify. Only here is decided
what is right; ``faults`` only does damage and mends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from centcert.control import NodeStatus, Status, ask
from centcert.demo.backend import backend
from centcert.demo.samba import PrivateSamba
from centcert.demo.visitor import Visit, visit
from centcert.errors import CentcertError
from centcert.names import HostName
from centcert.testing import Authority
from tests.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from centcert.testing import Issued, KeyType

T = TypeVar("T")

UNRECOGNIZED_NAME: Final = "TLSV1_UNRECOGNIZED_NAME"
INTERNAL_ERROR: Final = "TLSV1_ALERT_INTERNAL_ERROR"

NOTICED_S: Final = 15.0
"""A replaced file is served within so long while the store is well: a fraction of a second, but
the machine may be busy. Polling, every 300 s, cannot be what found it."""

RECOVERED_S: Final = 75.0
"""All is well within so long after a fault: the longest rest of a server is 36 s, that of a
watch likewise, and they may follow each other."""

STARTED_S: Final = 30.0
WRITTEN_S: Final = 0.5
"""What was served is on the disk a few ms later; without this pause a kill might be faster."""

DISK_BYTES: Final = 4 * 1024 * 1024
MOST_TENANTS: Final = 40
POLL_S: Final = 0.05


class Unrecovered(Exception):
    """It did not come to what must come by itself."""


@dataclass(slots=True, eq=False)
class Name:
    """A name that clients ask for.

    Attributes:
        name: as in the ClientHello.
        file: what answers it.
        right: the serial numbers of the certificates that it may get now.
        known: whether the node has served it, so that it must never fail again.
    """

    name: HostName
    file: File
    right: set[int]
    known: bool = False


@dataclass(slots=True, eq=False)
class File:
    """A file of the store.

    Attributes:
        key: its name.
        pattern: what its certificate covers.
        key_type: of its private key.
        locked: whether it has a password.
        names: those that it answers.
        serial: of its latest certificate.
        blob: its content, if it is as it should be.
        refusals: the alerts that its names may get now though they are known.
    """

    key: str
    pattern: str
    key_type: KeyType = "ec-p256"
    locked: bool = False
    names: list[Name] = field(default_factory=list)
    serial: int = 0
    blob: bytes = b""
    refusals: frozenset[str] = frozenset()


def make_files() -> list[File]:
    """Describe some dozens of names: exact, wildcard and IDN, EC and RSA, PKCS#12 and PEM."""
    files = [
        File(f"shop{number}.contoso.example.pfx", f"shop{number}.contoso.example")
        for number in range(10)
    ]
    files += [
        File(f"rsa{number}.contoso.example.pfx", f"rsa{number}.contoso.example", "rsa-2048")
        for number in range(3)
    ]
    files += [
        File(f"bank{number}.contoso.example.pfx", f"bank{number}.contoso.example", locked=True)
        for number in range(3)
    ]
    files += [
        File("linux.contoso.example.pem", "linux.contoso.example"),
        File("bücher.example.pfx", "bücher.example"),
        File("xn--caf-dma.example.pfx", "café.example"),
    ]
    for file in files:
        file.names.append(Name(HostName.from_unicode(file.pattern), file, set()))
    wildcards = [
        File("_.tenants.example.pfx", "*.tenants.example"),
        File("_.old.example.pfx", "*.old.example", "rsa-2048"),
        File("_.müller.example.pfx", "*.müller.example"),
    ]
    for file in wildcards:
        names = [HostName.from_unicode(f"t{i}.{file.pattern[2:]}") for i in range(4)]
        file.names += [Name(name, file, set()) for name in names]
    return files + wildcards


class Node:
    """A ``centcert serve``, started again and again on the same port.

    Attributes:
        address: where it serves.
        lives: how often it was started or ended: a visit across a change may be cut off.
        up: whether it said that it serves, and was not killed since.
        lines: the last that it said.
    """

    def __init__(self, arguments: list[str], port: int, state: Path, home: Path) -> None:
        self.address = ("127.0.0.1", port)
        self.lives = 0
        self.up = False
        self.lines: deque[str] = deque(maxlen=200)
        self._control = home / "control" / "socket"
        self._arguments = [
            *arguments,
            *("--listen", "{}:{}".format(*self.address)),
            *("--control", str(self._control), "--grace", "0 s"),
        ]
        self._environment = {**os.environ, "STATE_DIRECTORY": str(state)}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it says that it serves."""
        ready, ended = asyncio.Event(), asyncio.Event()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "centcert", "serve", *self._arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._environment, **(environment or {})},
        )
        self._reader = asyncio.create_task(self._read(self._process, ready, ended))
        try:
            async with asyncio.timeout(STARTED_S):
                await ready.wait()
        except TimeoutError:
            raise Unrecovered("the node does not start: " + " | ".join(self.lines)) from None
        if ended.is_set():
            raise Unrecovered("the node ended at its start: " + " | ".join(self.lines))
        self.lives += 1
        self.up = True

    async def kill(self) -> None:
        """Kill -9, as a crash or the kernel would."""
        self.up = False
        self.lives += 1
        if self._process is not None:
            processes = self.processes()
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            async with asyncio.timeout(STARTED_S):  # the others follow by themselves
                while any(map(_lives, processes)):
                    await asyncio.sleep(POLL_S)
        if self._reader is not None:
            await self._reader

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def rss_bytes(self) -> int:
        """Return the resident memory of all its processes, in bytes."""
        return sum(map(_rss_bytes, self.processes()))

    def processes(self) -> list[int]:
        """Return its process and all that come from it."""
        found = [self.pid]
        for pid in found:  # it grows meanwhile
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    async def findings(self) -> set[tuple[str, str]]:
        """Return the codes and subjects of what it says is wrong."""
        status = await ask(self._control, Status(), NodeStatus)
        return {(finding.code, finding.subject) for finding in status.findings}

    async def _read(
        self, process: asyncio.subprocess.Process, ready: asyncio.Event, ended: asyncio.Event
    ) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            if b"Serving certificates" in line:
                ready.set()
        self.up = False
        ended.set()
        ready.set()


@dataclass(slots=True)
class Tally:
    """What came of all handshakes.

    Attributes:
        right: the certificate of the name, in its present version.
        refused: ended with the alert that is stated for the case.
        cut: cut off or not taken while the node itself was killed.
        wrong: a certificate of another site, or one that was replaced; in words.
        failed: a name that had to be served was not, or the wrong alert; in words.
        lost: the names among them that had been served before.
    """

    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lost: set[HostName] = field(default_factory=set)
    slowest_s: float = 0.0

    @property
    def handshakes(self) -> int:
        """All of them."""
        refused = self.refused.total()
        return self.right + refused + self.cut + len(self.wrong) + len(self.failed)


class World:
    """All parts of a run. Use it as an async context manager.

    Attributes:
        dice: decides everything that is left to chance.
        folder: the store's, on the file servers' side.
        files: what belongs into it.
        servers: the file servers; both show ``folder``.
        node: the node under test.
        state: the node's own folder.
        tally: what came of the handshakes.
        trouble: whether the store may be away now, so that names which this node has
            never served may be refused.
        hold_s: how long a fault lasts.
        workers: how many worker processes the node has.
    """

    def __init__(
        self, home: Path, dice: random.Random, *, hold_s: float, workers: str = "1"
    ) -> None:
        self.dice = dice
        self.hold_s = hold_s
        self.workers = workers
        self.home = home
        self.files = make_files()
        self.tally = Tally()
        self.trouble = False
        self.injecting = "the start"
        self.state = home / "state"
        self.disk_is_mounted = False
        self._authority = Authority()
        self._crowd = random.Random(dice.random())  # noqa: S311  apart, so that faults repeat
        self._password = secrets.token_urlsafe(12).encode()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        home = self.home
        home.chmod(0o711)  # Samba's account must come through
        self.ca_file = home / "ca.pem"
        self.ca_file.write_bytes(self._authority.root_pem)
        self.servers: list[PrivateSamba] = []
        for number in range(2):
            root = home / f"smb{number}"
            root.mkdir()
            first = self.servers[0] if self.servers else None
            server = PrivateSamba(
                root,
                folder=first.folder if first else None,
                password=first.password if first else None,
            )
            self.servers.append(server)
            stack.callback(server.stop)
            server.start()
        self.folder = self.servers[0].folder
        self.state.mkdir(mode=0o700)
        # A disk of its own, to be filled; only root may give it one.
        if os.geteuid() == 0 and _quiet(
            *("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "none", self.state)
        ):
            self.disk_is_mounted = True
            stack.callback(_quiet, "umount", "--lazy", self.state)
        for file in self.files:
            await self.publish(file)
        for name in self.names():
            name.right = {name.file.serial}
        self.password_file = _secret(home / "password", self.servers[0].password)
        key_password_file = _secret(home / "key-password", self._password.decode())
        await stack.enter_async_context(backend(home / "backend"))
        hosts = ",".join(f"{server.host}:{server.port}" for server in self.servers)
        self.node = Node(
            [
                *("--store", f"smb://{hosts}/{self.servers[0].share}"),
                *("--username", self.servers[0].username),
                *("--password-file", str(self.password_file)),
                *("--key-password-file", str(key_password_file)),
                *("--to", f"unix:{home}/backend", "--proxy-protocol"),
                *("--workers", self.workers),
            ],
            stack.enter_context(reserved_port()),
            self.state,
            home,
        )
        stack.push_async_callback(self.node.kill)
        await self.node.start()

    # --- the store --------------------------------------------------------------

    def names(self) -> list[Name]:
        """Return the names that clients ask for again and again."""
        return [name for file in self.files for name in file.names]

    async def publish(self, file: File) -> None:
        """Put a new certificate into ``file``; both are right until the new one is seen."""
        issued = await self.issue(file)
        locked = self._password if file.locked else None
        file.blob = issued.pem() if file.key.endswith(".pem") else issued.pfx(locked)
        file.serial = issued.certificate.serial_number
        for name in file.names:
            name.right.add(file.serial)
        self.write(file, file.blob)

    async def issue(self, file: File) -> Issued:
        """Issue a certificate for ``file``."""
        return await asyncio.to_thread(self._authority.issue, file.pattern, key_type=file.key_type)

    def write(self, file: File, blob: bytes) -> None:
        """Replace the content of ``file``, by temporary name and rename."""
        temporary = self.folder / f"{file.key}.new"
        temporary.write_bytes(blob)
        temporary.rename(self.folder / file.key)

    def remove(self, file: File) -> None:
        """Take ``file`` out of the store; its names may be refused from now on."""
        file.refusals = frozenset({UNRECOGNIZED_NAME})
        (self.folder / file.key).unlink()

    async def put_back(self, file: File) -> None:
        """Publish a file that was removed, and wait until it is served again."""
        await self.publish(file)
        await self.served(file, NOTICED_S)
        file.refusals = frozenset()

    async def served(self, file: File, within_s: float) -> None:
        """Wait until every name of ``file`` gets its latest certificate, and nothing older."""
        serial = file.serial
        waiting = list(file.names)

        async def all_served() -> bool:
            for name in tuple(waiting):
                made = await self.visit(name)
                if made.certificate is not None and made.certificate.serial_number == serial:
                    name.right = {serial}
                    waiting.remove(name)
            return not waiting

        await until(all_served, f"the new {file.key} is not served", within_s)

    async def withdrawn(self, file: File, within_s: float) -> None:
        """Wait until every name of ``file`` is refused, and no certificate of it is right."""
        waiting = list(file.names)

        async def all_refused() -> bool:
            for name in tuple(waiting):
                if (await self.visit(name)).refusal == UNRECOGNIZED_NAME:
                    name.right = set()
                    name.known = False
                    waiting.remove(name)
            return not waiting

        await until(all_refused, f"the removed {file.key} is still served", within_s)

    async def warm(self) -> None:
        """Have every name served, so that all are in the node's memory and none may be lost."""
        waiting = self.names()

        async def all_served() -> bool:
            for name in tuple(waiting):
                if (await self.visit(name)).certificate is not None:
                    waiting.remove(name)
            return not waiting

        await until(all_served, "not every name is served", STARTED_S)

    async def recovered(self) -> None:
        """Wait until all is well: a new file is served, and nothing is found wrong."""
        file = self.dice.choice(self.files)
        await self.publish(file)
        await self.served(file, RECOVERED_S)
        await self.found_no_more()
        self.trouble = False

    async def found(self, code: str, subject: str) -> None:
        """Wait until the node finds that."""

        async def there() -> bool:
            return (code, subject) in await self.node.findings()

        await until(there, f"{subject}: {code} is not found", RECOVERED_S)

    async def found_no_more(self) -> None:
        """Wait until the node finds nothing wrong."""
        left: set[tuple[str, str]] = set()

        async def none() -> bool:
            nonlocal left
            left = await self.node.findings()
            return not left

        try:
            await until(none, "", RECOVERED_S)
        except Unrecovered:
            raise Unrecovered(f"these findings stay: {sorted(left)}") from None

    # --- the visitors -----------------------------------------------------------

    async def visits(self, per_s: float) -> None:
        """Visit at a steady rate until cancelled."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._visit_any())
                next_at = max(next_at + 1 / per_s, loop.time() - 1.0)
                await asyncio.sleep(next_at - loop.time())

    async def _visit_any(self) -> None:
        chance = self._crowd.random()
        if chance < 0.1:
            await self._visit_unknown()
        elif chance < 0.15:
            await self._visit_newcomer()
        else:
            await self.visit(self._crowd.choice(self.names()))

    async def _visit_unknown(self) -> None:
        parent = self._crowd.choice(["contoso.example", "nowhere.example", "a.tenants.example"])
        name = HostName.parse(f"u{self._crowd.getrandbits(40):x}.{parent}")
        await self._visit(name, set, lambda: {UNRECOGNIZED_NAME} | self._of_trouble())

    async def _visit_newcomer(self) -> None:
        """Visit a name under a wildcard that nobody has asked for; it is known from then on."""
        file = self._crowd.choice([file for file in self.files if file.pattern.startswith("*.")])
        parent = HostName.from_unicode(file.pattern[2:])
        name = HostName.parse(f"n{self._crowd.getrandbits(40):x}.{parent}")
        of = file.names[0]
        made = await self._visit(name, lambda: of.right, lambda: file.refusals | self._of_trouble())
        if made.certificate is not None and len(file.names) < MOST_TENANTS:
            file.names.append(Name(name, file, set(of.right), known=True))

    async def visit(self, name: Name) -> Visit:
        """Visit a site of the store, and judge what comes."""

        def refusals() -> set[str]:
            unserved = set() if name.known else self._of_trouble()
            return unserved | name.file.refusals

        made = await self._visit(name.name, lambda: name.right, refusals, name)
        if made.certificate is not None and not name.file.refusals:
            name.known = True
        return made

    async def _visit(
        self,
        asked: HostName,
        right: Callable[[], set[int]],
        refusals: Callable[[], set[str] | frozenset[str]],
        name: Name | None = None,
    ) -> Visit:
        # What was right when it began is right, and what is right when it ends.
        serials, alerts = set(right()), set(refusals())
        lives, was_up, began = self.node.lives, self.node.up, time.monotonic()
        made = await visit(self.node.address, asked, self.ca_file)
        serials |= right()
        alerts |= refusals()
        tally, took_s = self.tally, time.monotonic() - began
        case = f"{asked} during {self.injecting}"
        cut = not was_up or not self.node.up or self.node.lives != lives
        if made.certificate is not None:
            if made.certificate.serial_number not in serials:
                tally.wrong.append(f"{case}: a certificate that is not, or no longer, its own")
            elif not made.status.endswith(" 200 OK") and not cut:
                tally.failed.append(f"{case}: no page, {made.status!r}")
            else:
                tally.right += 1
        elif made.refusal == "CERTIFICATE_VERIFY_FAILED":
            tally.wrong.append(f"{case}: {made.refusal}")
        elif made.refusal in alerts:
            tally.refused[made.refusal] += 1
        elif cut:
            tally.cut += 1
            return made
        else:
            if name is not None and name.known:
                tally.lost.add(asked)
            tally.failed.append(f"{case}: {made.refusal} after {took_s:.2f} s")
        tally.slowest_s = max(tally.slowest_s, took_s)
        return made

    def _of_trouble(self) -> set[str]:
        return {INTERNAL_ERROR} if self.trouble else set()

    # --- the node's disk ----------------------------------------------------------

    def fill_disk(self) -> None:
        """Leave no byte for the node on its disk."""
        if not self.disk_is_mounted:  # the next best thing: no file may grow (EFBIG)
            for pid in self.node.processes():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with contextlib.suppress(OSError), (self.state / "filler").open("wb", 0) as filler:
            for size in (65_536, 4_096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def free_disk(self) -> None:
        """Give the room back."""
        if not self.disk_is_mounted:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            for pid in self.node.processes():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
            return
        (self.state / "filler").unlink()


async def until(condition: Callable[[], object], what: str, within_s: float) -> None:
    """Wait for an async condition; raise ``Unrecovered`` if it does not come in time."""
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(CentcertError):  # the node may just be down
            if await condition():  # type: ignore[misc]
                return
        if time.monotonic() > end:
            raise Unrecovered(f"{what} after {within_s:g} s")
        await asyncio.sleep(POLL_S)


async def in_thread(call: Callable[..., T], *arguments: object) -> T:
    """Let the clients go on while something blocks."""
    return await asyncio.to_thread(partial(call, *arguments))


def _rss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def _secret(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text + "\n")
    return file


def _quiet(*command: object) -> bool:
    arguments = [str(word) for word in command]
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0
