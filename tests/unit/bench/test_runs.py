"""How the bench goes about it: in turns, and table by table."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from bench import __main__ as program
from bench import sites
from bench.processes import Cores
from bench.scene import Scene
from bench.tables import Table
from centcert.credential import decode
from centcert.names import HostName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers import Running


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, Cores(0, 1), tmp_path / "load", 1, quick=True)


def test_servers_take_turns_and_the_first_round_is_not_counted(scene: Scene):
    servers = [SimpleNamespace(peer=SimpleNamespace(name=name)) for name in "ABCD"]
    order: list[str] = []

    def measure(server: Running) -> float:
        order.append(server.peer.name)
        return len(order)

    figures = scene.in_turns(cast("list[Running]", servers), measure)
    assert "".join(order) == 3 * "ABCDCBAD"
    assert all(one != other for one, other in pairwise(order))
    assert figures["A"] == [7, 9, 15, 17, 23]
    assert {len(values) for values in figures.values()} == {scene.rounds}


PAGE = "<!-- bench made_up -->\nold\n<!-- end -->\n"


def made_up(monkeypatch: pytest.MonkeyPatch, *, error: Exception | None) -> None:
    def tables(_: Scene) -> Iterator[Table]:
        yield Table("First", ("a", "b"), [("c", "d")])
        if error is not None:
            raise error

    module = ModuleType("bench.made_up", "Made up.")
    module.tables = tables  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bench.made_up", module)


def test_a_table_lands_in_the_page_with_its_day(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = scene.scratch / "page.md"
    page.write_text(PAGE)
    made_up(monkeypatch, error=None)
    assert program._run("made_up", scene, page)
    assert "| c | d |" in page.read_text()
    assert "Run on 20" in page.read_text()
    assert ", quick, load average " in page.read_text()
    assert "old" not in page.read_text()
    assert "=== made_up: Made up.\n\nFirst\n" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RuntimeError("3 refused"), TimeoutError("3 refused")])
def test_a_table_that_cannot_be_made_leaves_the_page_alone(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
):
    page = scene.scratch / "page.md"
    page.write_text(PAGE)
    made_up(monkeypatch, error=error)
    assert not program._run("made_up", scene, page)
    assert page.read_text() == PAGE
    assert "made_up: 3 refused" in capsys.readouterr().out


def test_each_name_has_a_certificate_of_its_own(scene: Scene):
    served = scene.sites(3)
    leaves = set()
    for name, file in zip(served.names, served.files, strict=True):
        credential = decode(file.read_bytes(), key=file.name, passwords=())
        assert credential.covers(HostName.parse(name))
        leaves.add(credential.fingerprint)
    assert len(leaves) == served.count == 3
    assert scene.sites(3) == served  # not made again: the files are those


def test_a_million_names_share_one_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sites, "LINKS", 2)
    served = sites.share(tmp_path / "sites", 5)
    assert [file.stat().st_nlink for file in served.files] == [3, 3, 3, 3, 2]
    assert len({file.read_bytes() for file in served.files}) == 1
    assert sites.found(tmp_path / "sites", 5) == served


def test_unknown_names_are_nobodys(tmp_path: Path):
    names = sites.unknown(tmp_path / "names", 3).read_text().split()
    assert len(set(names)) == 3
    assert not any(name.endswith(sites.DOMAIN) for name in names)
