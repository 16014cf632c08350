"""``python -m centcert`` is ``centcert``."""

from centcert.cli import main

main()
