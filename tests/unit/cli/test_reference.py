"""docs/reference.md says of every setting, option and command that there is, and of no other."""

import re
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

from centcert.admin import settings
from centcert.admin.settings_file import read_settings
from centcert.cli.main import centcert
from centcert.cli.serve import serve

TEXT = (Path(__file__).parents[3] / "docs" / "reference.md").read_text()
TABLES: dict[str, type[msgspec.Struct]] = {
    "store": settings.StoreSettings,
    "listen": settings.ListenSettings,
    "limits": settings.LimitSettings,
    "workers": settings.WorkersSettings,
    "control": settings.ControlSettings,
    "metrics": settings.MetricsSettings,
    "log": settings.LogSettings,
}


def rows(table: str) -> list[list[str]]:
    section = re.split(r"^### ", TEXT, flags=re.MULTILINE)
    (body,) = [part for part in section if part.startswith((f"`[{table}]`", f"`[[{table}]]`"))]
    body = body.partition("\n## ")[0]
    found = [line.split(" | ") for line in body.splitlines() if line.startswith("| `")]
    return [[cell.strip("| ") for cell in row] for row in found]


@pytest.mark.parametrize("table", TABLES)
def test_each_setting_is_described(table: str):
    described = {name for row in rows(table) for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert described == {field.name for field in msgspec.structs.fields(TABLES[table])}


def test_each_option_of_serve_is_described():
    options = {
        option
        for parameter in serve.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    listed = " ".join(row[1] for table in TABLES for row in rows(table)) + " `--config`"
    shortened = {"--on-unavailable", "--on-bad", "--on-expired"}  # «--on-absent … --on-no-name»
    assert set(re.findall(r"`(--[a-z-]+)`", listed)) - {"--no-last-good"} == options - shortened


def test_each_command_is_described():
    described = set(re.findall(r"^\| `centcert ([a-z]+)", TEXT, flags=re.MULTILINE))
    assert described == set(centcert.commands)


def test_the_example_is_a_good_settings_file(tmp_path: Path):
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    file = tmp_path / "centcert.toml"
    file.write_text(example)
    assert read_settings(file, {}).store.url == tomllib.loads(example)["store"]["url"]
