"""The public names: they are all there, documented, typed, and loaded only when used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import centcert
from tools import api

ROOT = Path(__file__).parents[2]
TYPED = Path(__file__).parent / "typed_use.py"


def test_the_page_of_the_public_names_is_up_to_date():
    assert api.PAGE.read_text() == api.page(), "run: .venv/bin/python -m tools.api"


def test_each_public_name_leads_where_it_is_imported_for_types():
    module = ast.parse(Path(centcert.__file__).read_text())
    imported = {
        alias.name: node.module
        for block in module.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"centcert.{home}" for name, home in centcert._HOMES.items()}
    assert imported == homes
    assert {*homes, "__version__"} == set(centcert.__all__)
    assert list(homes) == sorted(homes)
    for name, home in homes.items():
        assert getattr(centcert, name) is getattr(importlib.import_module(home), name)


def test_every_module_that_lists_its_names_has_them():
    seen = 0
    for found in pkgutil.walk_packages(centcert.__path__, "centcert."):
        if found.name == "centcert.__main__":
            continue
        module = importlib.import_module(found.name)
        listed = getattr(module, "__all__", None)
        if listed is None:
            assert not found.ispkg or not public(module), f"{found.name} lists no names"
            continue
        seen += 1
        assert all(hasattr(module, name) for name in listed), found.name
        assert len(set(listed)) == len(listed), found.name
        if found.ispkg:
            assert set(listed) == public(module), found.name
    assert seen > 3


def public(module: object) -> set[str]:
    """The names that a package's ``__init__`` imports."""
    assert inspect.ismodule(module)
    assert module.__file__ is not None
    return {
        alias.asname or alias.name
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }


def test_every_public_name_has_a_docstring():
    for name in centcert.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(centcert, name)), name


def test_importing_the_package_loads_nothing_of_it():
    """The processes that decode files import it."""
    program = (
        "import sys, centcert;"
        " print([name for name in sys.modules if name.startswith(('centcert.', 'OpenSSL'))])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(300)  # without mypy's cache it reads the libraries too
def test_the_public_names_are_typed():
    command = [sys.executable, "-m", "mypy", "--strict", str(TYPED)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=280, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
