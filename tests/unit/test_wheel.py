"""What is built is what is meant: typed, licensed, importable without the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import centcert

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the locked back end; nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(folder)], cwd=ROOT, check=True, timeout=50)
    (wheel,) = folder.iterdir()
    return wheel


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    names = set(ZipFile(wheel).namelist())
    modules = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert "centcert/py.typed" in names
    assert modules <= names
    assert {name.partition("/")[0] for name in names} == {
        "centcert",
        f"centcert-{centcert.__version__}.dist-info",
    }
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_is_imported_without_the_checkout(wheel: Path):
    """Straight from the archive, as an import needs no more than its place in the path."""
    program = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import centcert.stores;"
        " print(centcert.stores.__file__)"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=50)
    assert done.stdout.startswith(str(wheel))
