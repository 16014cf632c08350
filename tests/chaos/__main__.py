"""``./dev chaos``: break everything around a node, and see that no client notices.

A table at the end; exit code 1 if one handshake got what it must not, a name was lost,
or something did not recover by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

from tests.chaos.run import run


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="at least so long")
    parser.add_argument("--seed", type=int, help="repeats the order of a run's faults")
    parser.add_argument("--rate", type=float, default=25.0, help="visits a second")
    parser.add_argument("--hold", type=float, default=2.0, help="how long a fault lasts, seconds")
    parser.add_argument("--workers", default="1", help="as of `centcert serve`")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    report = asyncio.run(
        run(
            seed,
            minutes=given.minutes,
            per_s=given.rate,
            hold_s=given.hold,
            workers=given.workers,
        )
    )
    print(f"\n{report}")  # noqa: T201
    return 1 if report.faults_found else 0


if __name__ == "__main__":
    sys.exit(main())
