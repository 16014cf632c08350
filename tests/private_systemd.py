"""A systemd of our own: the first process of namespaces of its own, on a copy of this machine.

What is written there is gone with it, and nothing of this machine's own services is touched.
Only root can have one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS: Final = Path("/usr/lib/systemd/system")
TARGETS: Final = (
    *("basic", "sysinit", "sockets", "shutdown", "umount", "final", "exit", "slices", "paths"),
    *("timers", "network", "network-online", "local-fs", "local-fs-pre", "multi-user"),
)
TIMEOUT_S: Final = 200

PYTHON: Final = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
ENVIRONMENT: Final = {
    "LD_LIBRARY_PATH": "/opt/python/lib",
    "PYTHONPATH": "/opt/centcert:/opt/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
}

_PROBE_TARGET: Final = "[Unit]\nDefaultDependencies=no\nWants=probe.service\n"
_PROBE: Final = """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /out/script
ExecStopPost=/bin/systemctl exit
StandardOutput=file:/out/said
StandardError=file:/out/errors
"""

# A control group of its own: systemd believes that the one it finds itself in is the topmost.
_FENCED_IN: Final = """\
mount --make-rprivate /
mkdir {home}/groups
mount -t cgroup2 cgroup2 {home}/groups
mkdir {home}/groups/$$
echo $$ > {home}/groups/$$/cgroup.procs
unshare -mpfCiun --kill-child bash {home}/out/setting-up
echo $$ > {home}/groups/cgroup.procs
find {home}/groups/$$ -depth -type d -exec rmdir {{}} +
"""

# The root is shared: systemd mounts the credentials of a service in a namespace of their own,
# and would have them seen outside of it. In a container it does not see to that itself.
_SETTING_UP: Final = """\
set -e
ip link set lo up
mount -t tmpfs tmpfs {home}/disk
mkdir {home}/disk/upper {home}/disk/work {home}/disk/root
root={home}/disk/root
mount -t overlay overlay -o lowerdir=/,upperdir={home}/disk/upper,workdir={home}/disk/work $root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount -t sysfs -o ro sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
for folder in run tmp usr/lib/systemd/system etc/systemd/system; do
  mount -t tmpfs -o mode=755 tmpfs $root/$folder
done
mkdir -p $root/opt/python $root/opt/centcert $root/opt/packages $root/out
mount --bind {python} $root/opt/python
mount --bind {source} $root/opt/centcert
mount --bind {packages} $root/opt/packages
mount --bind {home}/out $root/out
rm -rf $root/var/lib/centcert $root/var/lib/private/centcert $root/etc/centcert
cp -r {home}/files/. $root/
mount --make-rshared $root
exec env -i container=lxc PATH="$PATH" chroot $root /lib/systemd/systemd --system \
  --unit=probe.target --show-status=no
"""


def is_possible() -> bool:
    """Say whether this process may have namespaces of its own."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "-p", "-f", "true"], check=False).returncode == 0


def run_under_systemd(
    home: Path, files: Mapping[str, str | bytes], script: str, *, timeout_s: float = TIMEOUT_S
) -> str:
    """Run ``script`` on a machine of its own that has ``files`` besides; return what it said.

    Args:
        home: an empty folder.
        files: by their paths on that machine; a unit is one of them.
        script: for bash, as root; there may be a folder ``/out`` to look into afterwards.
        timeout_s: for all of it.
    """
    for folder in ("disk", "out", "files"):
        (home / folder).mkdir()
    units = {f"{name}.target": (UNITS / f"{name}.target").read_text() for name in TARGETS}
    units["systemd-exit.service"] = (UNITS / "systemd-exit.service").read_text()
    units |= {"probe.target": _PROBE_TARGET, "probe.service": _PROBE}
    for path, content in ({f"{UNITS}/{n}": t for n, t in units.items()} | dict(files)).items():
        file = home / "files" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(0o644)
    (home / "out" / "script").write_text(script, encoding="utf-8")
    setting_up = _SETTING_UP.format(
        home=home,
        python=sys.base_prefix,
        source=Path(__file__).resolve().parent.parent / "src",
        packages=sysconfig.get_path("purelib"),
    )
    (home / "out" / "setting-up").write_text(setting_up, encoding="utf-8")
    ended = subprocess.run(
        ["unshare", "-m", "bash", "-c", _FENCED_IN.format(home=home)],
        capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip
    said = home / "out" / "said"
    errors = home / "out" / "errors"
    assert said.exists(), ended
    return said.read_text(encoding="utf-8") + errors.read_text(encoding="utf-8")
