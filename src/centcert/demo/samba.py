"""A private Samba on loopback: a real file server for the demo and for the tests.

It runs as whoever starts it, root or not, keeps everything in one folder, and touches
nothing of the machine's own Samba.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_MAX_ROOT_BYTES: Final = 88
"""Beyond it smbd's sockets have names too long for AF_UNIX, and it exits without a word."""

_FOLDERS: Final = ("private", "lock", "state", "cache", "pid", "rpc", "log")
_POLL_S: Final = 0.01

# Encrypted SMB 3.1.1 or nothing, no guests, no name look-ups, no printers. `case
# sensitive`: a miss would otherwise have the server search the whole folder.
_GLOBAL: Final = {
    "server role": "standalone server",
    "workgroup": "CENTCERT",
    "netbios name": "CENTCERT",
    "disable netbios": "yes",
    "bind interfaces only": "yes",
    "interfaces": "127.0.0.1/8",
    "server min protocol": "SMB3_11",
    "server smb encrypt": "required",
    "server signing": "mandatory",
    "ntlm auth": "ntlmv2-only",
    "map to guest": "never",
    "restrict anonymous": "2",
    "log level": "1",
    "max log size": "0",
    "load printers": "no",
    "printcap name": "/dev/null",
    "disable spoolss": "yes",
}
_SHARE: Final = {
    "guest ok": "no",
    "case sensitive": "yes",
    "mangled names": "no",
    "follow symlinks": "no",
    "wide links": "no",
}


class SambaFailed(Exception):
    """smbd or one of its tools is missing, or does not start; says what it said."""


class PrivateSamba:
    """One smbd with two shares of one folder: ``certs`` to read, ``publish`` to write.

    Both are for one account, as an ordinary user has no second one to give; the share
    decides what it may do. Nothing is started until ``start`` or ``with``.

    Attributes:
        host: loopback.
        port: TCP, chosen by the kernel; kept over restarts.
        share: the share to read from.
        publish_share: the share to write to.
        username: the account.
        password: its password.
        folder: what both shares show; readable by the account.
    """

    host: Final = "127.0.0.1"
    share: Final = "certs"
    publish_share: Final = "publish"

    def __init__(
        self,
        root: Path,
        *,
        folder: Path | None = None,
        password: str | None = None,
        global_options: Mapping[str, str] | None = None,
        share_options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration and the account.

        Args:
            root: an empty folder with a short path that the account can pass through.
            folder: what to show; else a new one below ``root``.
            password: the account's; else made at random.
            global_options: smb.conf's, over the defaults.
            share_options: of both shares, over the defaults.
            environment: variables for smbd, over this process's own.

        Raises:
            SambaFailed: Samba is not installed, or ``root`` is too long.
        """
        if shutil.which("smbd", path=_program_path()) is None:
            raise SambaFailed("smbd is not installed: install the package samba.")
        if len(os.fsencode(root)) > _MAX_ROOT_BYTES:
            raise SambaFailed(f"{root} is longer than the {_MAX_ROOT_BYTES} bytes smbd can take.")
        self.root = root
        self.port = _free_port()
        # smbd serves files as the account itself, so it must be one of the machine's;
        # as root that is the one with no rights, else there is only one's own.
        account = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.username = account.pw_name
        self.password = password or secrets.token_urlsafe(18)
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, "PATH": _program_path(), **(environment or {})}
        for name in _FOLDERS:
            (root / name).mkdir()
        root.chmod(0o711)
        (root / "private").chmod(0o700)
        if folder is None:
            folder = root / "share"
            folder.mkdir()
            # The account may write there, but the folder is not its own.
            os.chown(folder, -1, account.pw_gid)
            folder.chmod(0o775)
        self.folder = folder
        self._configuration = root / "smb.conf"
        self._configuration.write_text(self._smb_conf(global_options or {}, share_options or {}))
        self._set_password()

    # --- running ----------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the server's first process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout_s: float = 10.0) -> None:
        """Start smbd and wait until it accepts connections, about 50 ms.

        Raises:
            SambaFailed: it ended at once, or did not answer in time.
        """
        log = self.root / "log"
        with (log / "output").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  a program of the system
                # -l is needed: without, smbd opens the machine's own log.
                ["smbd", "-F", "--no-process-group", "-s", self._configuration, "-l", log],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )
        end = time.monotonic() + timeout_s
        while not self._accepts():
            if not self.running or time.monotonic() > end:
                self.stop()
                raise SambaFailed(f"smbd did not start: {self._last_words()}")
            time.sleep(_POLL_S)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End smbd with all its processes; with ``SIGKILL``, as a crash would."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Stop the clock of all its processes: connections stay and nothing answers."""
        self._signal(signal.SIGSTOP, self._processes())

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT, self._processes())

    def kill_connections(self) -> None:
        """Kill the processes behind the present connections; the server goes on."""
        self._signal(signal.SIGKILL, self.connections())

    def connections(self) -> list[int]:
        """The process ids behind the present connections: smbd has one for each."""
        clients = {inode for _, inode in _established(self.port)}
        return [pid for pid in self._processes() if clients & _sockets_of(pid)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def change_password(self, password: str) -> None:
        """Give the account another password; sessions that are set up stay."""
        self.password = password
        self._set_password()

    # --- how it is set up -------------------------------------------------------

    def _smb_conf(self, global_options: Mapping[str, str], share_options: Mapping[str, str]) -> str:
        root = self.root
        sections = {
            "global": {
                **_GLOBAL,
                "smb ports": str(self.port),
                "guest account": self.username,
                "passdb backend": f"smbpasswd:{root}/private/smbpasswd",
                "private dir": f"{root}/private",
                "lock directory": f"{root}/lock",
                "state directory": f"{root}/state",
                "cache directory": f"{root}/cache",
                "pid directory": f"{root}/pid",
                "ncalrpc dir": f"{root}/rpc",
                "log file": f"{root}/log/log.smbd",
                **global_options,
            }
        }
        for share, read_only in ((self.share, "yes"), (self.publish_share, "no")):
            sections[share] = {
                **_SHARE,
                "path": str(self.folder),
                "read only": read_only,
                "valid users": self.username,
                **share_options,
            }
        lines = []
        for section, options in sections.items():
            lines.append(f"[{section}]")
            lines += [f"  {option} = {value}" for option, value in options.items()]
        return "\n".join(lines) + "\n"

    def _set_password(self) -> None:
        """Add the account, or change its password."""
        # Twice, on standard input: pdbedit asks to have it repeated.
        try:
            subprocess.run(  # noqa: S603  a program of the system
                ["pdbedit", "-s", self._configuration, "-d0", "-a", "-t", "-u", self.username],  # noqa: S607
                input=f"{self.password}\n{self.password}\n".encode(),
                capture_output=True,
                check=True,
                env=self._environment,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise SambaFailed(f"Samba's account could not be made: {error}") from error

    def _accepts(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 0.2).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        logs = sorted((self.root / "log").iterdir())
        text = "".join(log.read_text(errors="replace") for log in logs if log.is_file())
        return text[-2000:].strip() or "it said nothing."

    def _processes(self) -> list[int]:
        if self._process is None:
            return []
        return [pid for pid, session in _sessions() if session == self._process.pid]

    @staticmethod
    def _signal(sign: signal.Signals, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)


def _program_path() -> str:
    # smbd lives where an ordinary user's shell does not look.
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _sessions() -> Iterator[tuple[int, int]]:
    """Yield each living process and the session it belongs to (proc(5), stat)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if state != "Z":
                yield int(stat.parent.name), int(session)


def _established(port: int) -> Iterator[tuple[int, str]]:
    """Yield the connections that the server on ``port`` has, with their inodes (proc(5))."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local_port, state = int(fields[1].rpartition(":")[2], 16), fields[3]
        if local_port == port and state == "01":
            yield local_port, fields[9]


def _sockets_of(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            kind, _, inode = str(descriptor.readlink()).partition(":[")
            if kind == "socket":
                inodes.add(inode.rstrip("]"))
    return inodes
