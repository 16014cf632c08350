"""``centcert serve`` with several processes, of which none may hang for long: a program.

Its argument is the settings file. What the supervisor waits for is not a setting.
"""

from __future__ import annotations

import sys
from pathlib import Path

from centcert.admin.settings_file import read_settings
from centcert.cli.journal import Journal
from centcert.cli.loop import run
from centcert.cli.notify import ServiceManager
from centcert.workers.signs import Rhythm
from centcert.workers.supervisor import Supervisor

HANGS_S = 4.0
"""A process that is well is not without its turn for so long, however busy the machine is."""


def main() -> None:
    file = sys.argv[1]
    every_s = 0.2
    rounds = round(HANGS_S / every_s)
    supervisor = Supervisor(
        lambda: read_settings(Path(file), {}),
        run,
        Journal(),
        ServiceManager(),
        passed={},
        file=file,
        rhythm=Rhythm(every_s, rounds, first_rounds=12 * rounds),
    )
    supervisor.serve(read_settings(Path(file), {}))


if __name__ == "__main__":
    main()
