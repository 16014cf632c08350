"""The only place that prints and exits."""

from centcert.cli.main import main

__all__ = ["main"]
