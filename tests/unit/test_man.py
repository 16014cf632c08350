"""The page of the manual is made of the help of the commands, and up to date."""

import click

from centcert.cli.main import centcert
from tools import man


def test_the_page_is_up_to_date():
    assert man.PAGE.read_text(encoding="utf-8") == man.page(), "run: .venv/bin/python -m tools.man"


def test_every_command_and_option_is_in_it():
    page = man.page()
    for name, command in centcert.commands.items():
        assert f".SS centcert {name}" in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(man.text(option) in page for option in parameter.opts)


def test_what_roff_would_take_for_its_own_is_text():
    assert man.text(".TH") == r"\&.TH"
    assert man.text("'s") == r"\&'s"
    assert man.text(r"a\b-c~d`e") == r"a\eb\-c\(tid\(gae"
