"""The commands of a developer, with nothing but the standard library.

Makes the environment `.venv` from the lock files, and runs what was asked in it.
It decides what is installed and when; what is tested, and how strictly, stands in
pyproject.toml.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
CENTCERT = ENVIRONMENT / "bin" / "centcert"
STAMP = ENVIRONMENT / "installed"
VERSION = ".".join(map(str, sys.version_info[:3]))
DEBIAN_PYTHON = "python" + ".".join(map(str, sys.version_info[:2]))
LOCKS = {
    name: ROOT / "requirements" / f"{name}.txt"
    for name in ("run", "dev", "kerberos", "fuzz", "bench")
}
KINDS = {"run": ("run",), "dev": ("dev",), "test": ("dev", "kerberos")}  # each holds the one before
CHECKED = ("src", "tests", "tools", "bench", "examples")

# Debian keeps servers out of an ordinary user's PATH, Ubuntu its chromium.
SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", "/snap/bin"]
)


@dataclass(frozen=True)
class Program:
    """A program that is started, by one of its names, and the package that has it.

    A name with a slash is a file that must be there: a module, a header.
    """

    names: tuple[str, ...]
    debian: str
    ubuntu: str | None = None


PROGRAMS = (
    Program(("openssl",), "openssl"),
    Program(("curl",), "curl"),
    Program(("keytool",), "default-jre-headless"),
    Program(("chromium", "chromium-browser"), "chromium", ubuntu="chromium-browser"),
    Program(("certutil",), "libnss3-tools"),
    Program(("haproxy",), "haproxy"),
    Program(("smbd",), "samba"),
    Program(("smbclient",), "smbclient"),
    Program(("prlimit",), "util-linux"),
    Program(("tshark",), "tshark"),
    Program(("faketime",), "faketime"),
    Program(("systemd-analyze",), "systemd"),
    Program(("ip",), "iproute2"),
    Program(("man",), "man-db"),
    Program(("krb5kdc",), "krb5-kdc"),
    Program(("kadmin.local",), "krb5-admin-server"),
    Program(("kinit",), "krb5-user"),
    Program(("krb5-config",), "libkrb5-dev"),  # to compile what Kerberos needs
    Program(("cc",), "build-essential"),
)

BENCH_PROGRAMS = (
    Program(("nginx",), "nginx"),
    Program(("/usr/lib/nginx/modules/ngx_http_lua_module.so",), "libnginx-mod-http-lua"),
    Program(("/usr/lib/nginx/modules/ngx_stream_module.so",), "libnginx-mod-stream"),
    Program(("haproxy",), "haproxy"),
    Program(("hitch",), "hitch"),
    Program(("caddy",), "caddy"),
    Program(("smbd",), "samba"),
    Program(("cc",), "build-essential"),
    Program(("/usr/include/openssl/ssl.h",), "libssl-dev"),  # the load client is in C
)


# --- the commands -------------------------------------------------------------


def demo(args: Sequence[str]) -> NoReturn:
    """Make a store with a few sites, serve them, and play a tour (centcert demo ARGS)."""
    install("run")
    replace_by(str(CENTCERT), "demo", *args)


def run(args: Sequence[str]) -> NoReturn:
    """Run centcert ARGS from this checkout."""
    install("run")
    replace_by(str(CENTCERT), *args)


def test(args: Sequence[str]) -> NoReturn:
    """Run the tests (pytest ARGS)."""
    install_for_tests()
    os.chdir(ROOT)
    replace_by("-m", "pytest", *args)


def check(args: Sequence[str]) -> int:
    """Run everything that must hold before a commit: format, lint, types, tests (pytest ARGS)."""
    install_for_tests()
    paths = [path for path in CHECKED if (ROOT / path).is_dir()]
    steps: dict[str, list[str]] = {
        "format": ["ruff", "format", "--check", *paths],
        "lint": ["ruff", "check", *paths],
        "types": ["mypy"],
        "tests": ["pytest", *args],
    }
    failed = []
    for step, command in steps.items():
        print(f"== {step}", flush=True)
        if subprocess.call([PYTHON, "-m", *command], cwd=ROOT) != 0:
            failed.append(step)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def fix(args: Sequence[str]) -> int:
    """Format the code and repair what the linter can repair."""
    install("dev")
    paths = list(args) or [str(ROOT / path) for path in CHECKED if (ROOT / path).is_dir()]
    linted = subprocess.call([PYTHON, "-m", "ruff", "check", "--fix", *paths])
    return subprocess.call([PYTHON, "-m", "ruff", "format", *paths]) or linted


def bench(args: Sequence[str]) -> NoReturn:
    """Measure Centcert beside other servers ([NAME] [--quick] [--full] [--markdown FILE])."""
    install("dev")
    install_lock("bench")
    install_programs(BENCH_PROGRAMS)
    os.chdir(ROOT)
    replace_by("-m", "bench", *args)


def chaos(args: Sequence[str]) -> NoReturn:
    """Break everything around a node while clients visit it ([--minutes N])."""
    install("dev")
    install_programs(PROGRAMS)
    os.chdir(ROOT)
    replace_by("-m", "tests.chaos", *args)


def fuzz(args: Sequence[str]) -> NoReturn:
    """Feed the SMB client what no server sends, led by coverage (libFuzzer ARGS; a minute)."""
    install("dev")
    install_lock("fuzz")
    os.chdir(ROOT)
    replace_by("-m", "tests.fuzz", str(ENVIRONMENT / "corpus"), *(args or ["-max_total_time=60"]))


def lock(args: Sequence[str]) -> int:
    """Make the lock files again; with -U take the newest versions (uv pip compile ARGS)."""
    install("dev")
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    options += ["--no-emit-index-url", "--no-emit-find-links"]  # they work wherever PyPI is had
    options += ["--quiet", "--system-certs", "--custom-compile-command", "./dev lock"]
    # One resolution, so that what runs is what was tested.
    selections = {
        "dev": ["--group", "dev", "--extra", "asgi"],
        "run": ["--group", "build", "--constraints", str(LOCKS["dev"])],
        "fuzz": ["--group", "fuzz", "--constraints", str(LOCKS["dev"])],
        "bench": ["--group", "bench", "--constraints", str(LOCKS["dev"])],
        "kerberos": ["--extra", "kerberos", "--constraints", str(LOCKS["dev"])],
    }
    for name, selection in selections.items():
        output = ["pyproject.toml", "--output-file", str(LOCKS[name]), *selection]
        call([str(PYTHON), "-m", "uv", "pip", "compile", *output, *options, *args], ROOT)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "run": run,
    "test": test,
    "check": check,
    "fix": fix,
    "bench": bench,
    "chaos": chaos,
    "fuzz": fuzz,
    "lock": lock,
}


# --- the environment ----------------------------------------------------------


def install_for_tests() -> None:
    """Bring this machine to what the tests need: programs first, some are for compiling."""
    install_programs(PROGRAMS)
    install("test")


def install(kind: str) -> None:
    """Bring `.venv` to one of ``KINDS``; nothing to do is the common case."""
    if is_installed(kind):
        return
    with alone():
        if is_installed(kind):  # by the one we waited for
            return
        make_environment()
        STAMP.unlink(missing_ok=True)
        for lock in KINDS[kind]:
            install_lock(lock)
        pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        new = STAMP.with_suffix(".new")
        new.write_text(f"{kind} {VERSION} {fingerprint(kind)}\n")
        new.replace(STAMP)  # last: an interrupted installation has no stamp


def install_lock(name: str) -> None:
    """Install what one lock file says, with nothing that no lock names."""
    say(f"installing the packages of requirements/{name}.txt")
    only = ["--only-binary", ":all:"]  # to build one would fetch what to build it with
    if name == "kerberos":  # there is none: compiled by what is locked, in two minutes, then kept
        only += ["--no-binary", "gssapi,krb5", "--no-build-isolation"]
    pip("--require-hashes", *only, "--requirement", str(LOCKS[name]))


def is_installed(kind: str) -> bool:
    """Say whether `.venv` holds ``kind``, or a later one of ``KINDS``."""
    installed, version, digest = read_stamp()
    kinds = list(KINDS)
    return (
        installed in kinds[kinds.index(kind) :]
        and version == VERSION
        and digest == fingerprint(installed)
    )


def read_stamp() -> tuple[str, str, str]:
    """Return what is installed, by which Python, from which state of the checkout."""
    try:
        kind, version, digest = STAMP.read_text().split()
    except (OSError, ValueError):
        return "", "", ""
    return kind, version, digest


def fingerprint(kind: str) -> str:
    """Return a hash of all that an installation depends on."""
    facts = [bytes(ROOT), (ROOT / "pyproject.toml").read_bytes()]
    facts += [LOCKS[name].read_bytes() for name in KINDS[kind]]
    return hashlib.sha256(b"".join(hashlib.sha256(fact).digest() for fact in facts)).hexdigest()


def make_environment() -> None:
    """Make `.venv`; begin anew if another Python made it or an installation broke off."""
    if read_stamp()[1] == VERSION:
        return
    if importlib.util.find_spec("ensurepip") is None:  # Debian's Python without its venv package
        install_packages([f"{DEBIAN_PYTHON}-venv"])
    say(f"making .venv with Python {VERSION}")
    call([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])


def pip(*arguments: str) -> None:
    """Install with the environment's own pip."""
    quiet = ("-qq", "--no-input", "--disable-pip-version-check")
    call([str(PYTHON), "-m", "pip", "install", *quiet, *arguments])


@contextmanager
def alone() -> Iterator[None]:
    """Let one process at a time change `.venv`; the lock falls with the process."""
    with Path(__file__).open("rb") as this:
        fcntl.flock(this, fcntl.LOCK_EX)
        yield


# --- Debian's packages --------------------------------------------------------


def install_programs(programs: Sequence[Program]) -> None:
    """Install the packages of those programs that are not on this machine."""
    on_ubuntu = "ID=ubuntu\n" in read_text(Path("/etc/os-release"))
    packages = [
        program.ubuntu if on_ubuntu and program.ubuntu else program.debian
        for program in programs
        if not any(map(is_present, program.names))
    ]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.append(f"{DEBIAN_PYTHON}-dev")
    install_packages(packages)


def is_present(name: str) -> bool:
    """Say whether a program, or with a slash a file, is on this machine."""
    return Path(name).is_file() if "/" in name else bool(shutil.which(name, path=SEARCH_PATH))


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages as root or by sudo without a password; else say what to type."""
    if not packages:
        return
    apt = ["apt-get", "install", "--yes", "--no-install-recommends"]
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = shutil.which("apt-get", path=SEARCH_PATH) and (
        not prefix or (shutil.which("sudo") and quiet_call(["sudo", "-n", "true"]))
    )
    if not may:
        say(f"missing; please type: sudo {' '.join([*apt, *packages])}")
        sys.exit(2)
    say(f"installing {' '.join(packages)}")
    prefix += ["env", "DEBIAN_FRONTEND=noninteractive"]
    apt[1:1] = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    # A machine without package lists, or with old ones, needs them first.
    if subprocess.call([*prefix, *apt, *packages], stdin=subprocess.DEVNULL) != 0:
        call([*prefix, "apt-get", "-qq", "update"])
        call([*prefix, *apt, *packages])


# --- small parts --------------------------------------------------------------


def replace_by(*arguments: str) -> NoReturn:
    """Become the environment's Python: signals and the exit code are its own."""
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *arguments])


def call(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a step; end this program if it fails, as the step has said why."""
    if subprocess.call(command, stdin=subprocess.DEVNULL, cwd=folder) != 0:
        say(f"this failed: {' '.join(command)}")
        sys.exit(1)


def quiet_call(command: Sequence[str]) -> bool:
    """Say whether a command succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def read_text(path: Path) -> str:
    """Return a file's text, empty if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def say(sentence: str) -> None:
    """Tell the person; standard output is the command's own."""
    print(f"dev: {sentence}", file=sys.stderr, flush=True)


def usage() -> str:
    """Return the table of commands."""
    lines = [f"  {name:6} {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: ./dev COMMAND [ARGS]", "", *lines])


def main() -> int:
    """Run the command that the arguments name."""
    name, *args = sys.argv[1:] or ["--help"]
    if name in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if name not in COMMANDS:
        say(f"there is no command {name}\n{usage()}")
        return 2
    os.environ["PATH"] = SEARCH_PATH
    return COMMANDS[name](args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
