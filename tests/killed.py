"""Publish as the command does, and be killed at the next step each time: a process.

Its arguments are the store's options and two PEM files, which are published by turns. For each
line on standard input a child publishes; the first is killed before its first step, the second
before its second, which is after its first, and so on, until they come to their end. How each
ended is a line on standard output: ``-9`` or ``0``. Forked, as a Python takes long to start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import click

from centcert.admin import lease
from centcert.admin.intake import put_together, read_file
from centcert.admin.publishing import Publication, plan_publish
from centcert.cli import options
from centcert.cli.desk import Access, access
from tests.publishers import SteppedPublisher


@click.command()
@click.argument("files", nargs=2, type=click.Path(path_type=Path))
@options.store
def main(files: tuple[Path, Path], **given: object) -> None:
    to = access(None, given)
    for turn, _ in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            with mock.patch.object(lease, "_POLL_S", 0.05):
                asyncio.run(publish(to, turn, files[turn % 2]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        click.echo(os.waitstatus_to_exitcode(status))


async def publish(to: Access, turn: int, file: Path) -> None:
    def die(number: int) -> None:
        if number == turn + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    given = put_together([read_file(file, (), None)])
    publication = Publication(tuple(given), (), force=True, now=time.time())
    async with to.desk() as desk:
        stepped = SteppedPublisher(desk.publisher, before=die)
        deadly = dataclasses.replace(desk, publisher=stepped)
        await deadly.carry_out(lambda: plan_publish(deadly, publication))


if __name__ == "__main__":
    main()
