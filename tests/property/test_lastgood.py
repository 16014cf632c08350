"""Last-good copies against whoever may write to the folder, and as a state machine."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from centcert.credential import Credential, decode
from centcert.names import HostName
from centcert.provider import copies as copies_module
from centcert.provider.copies import Copies
from centcert.provider.lastgood import Fault, LastGood
from centcert.provider.seal import Damaged, Foreign, Seals
from centcert.testing import Authority

Write: TypeAlias = Callable[[Copies, str, bytes], bytes]

AUTHORITY = Authority()
KEY = bytes(32)
NAMES = [HostName.parse(f"{label}.example") for label in "abcdef"]


def made(*names: str, key: str) -> Credential:
    return decode(AUTHORITY.issue(*names).pem(), key=key, passwords=())


OWN = {name: [made(name, key=f"{name}.pem") for _ in range(2)] for name in NAMES}
WILDCARD = [made("*.example", key="_.example.pem") for _ in range(2)]


def open_copies(folder: Path, faults: list[Fault]) -> LastGood:
    return LastGood(folder, [KEY], store_url="store", listener=faults.append)


@pytest.fixture(scope="module")
def served() -> dict[HostName, Credential]:
    """What the folder below holds: a name of its own each, but the last two share a wildcard."""
    return {
        **{name: OWN[name][0] for name in NAMES[:4]},
        NAMES[4]: WILDCARD[0],
        NAMES[5]: WILDCARD[1],
    }


@pytest.fixture(scope="module")
def original(
    served: dict[HostName, Credential], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a folder, by name, the index among them."""
    folder = tmp_path_factory.mktemp("original") / "copies"

    async def fill() -> None:
        async with open_copies(folder, []) as copies:
            for name, credential in served.items():
                copies.keep(name, "v1" if credential is not WILDCARD[1] else "v2", credential)
                await copies.flush()

    asyncio.run(fill())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check(files: dict[str, bytes], served: dict[HostName, Credential], lost: int) -> None:
    """Start with these files: at most ``lost`` names have no copy, and none a wrong one."""

    async def start(folder: Path) -> None:
        async with open_copies(folder, []) as copies:
            gone = 0
            for name, credential in served.items():
                copy = await copies.recall(name)
                if copy is None:
                    gone += 1
                else:
                    assert copy.credential.to_parts() == credential.to_parts()
            assert gone <= lost

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copies"
        folder.mkdir(mode=0o700)
        for file_name, data in files.items():
            (folder / file_name).write_bytes(data)
        asyncio.run(start(folder))


@given(data=st.data())
def test_any_bit_flipped(
    data: st.DataObject, original: dict[str, bytes], served: dict[HostName, Credential]
):
    file_name = data.draw(st.sampled_from(sorted(original)))
    harmed = bytearray(original[file_name])
    harmed[data.draw(st.integers(0, len(harmed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check({**original, file_name: bytes(harmed)}, served, lost=1)


@given(data=st.data())
def test_any_cut(
    data: st.DataObject, original: dict[str, bytes], served: dict[HostName, Credential]
):
    file_name = data.draw(st.sampled_from(sorted(original)))
    whole = original[file_name]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    check({**original, file_name: cut}, served, lost=1)


@given(data=st.data())
def test_any_files_swapped_copied_or_gone(
    data: st.DataObject, original: dict[str, bytes], served: dict[HostName, Credential]
):
    drawn = data.draw(
        st.dictionaries(st.sampled_from(sorted(original)), st.sampled_from(sorted(original)))
    )
    lost = sum(file_name not in drawn or drawn[file_name] != file_name for file_name in original)
    check({to: original[source] for to, source in drawn.items()}, served, lost=lost)


def test_every_single_bit_matters_to_a_seal():
    seals = Seals([KEY], "store")
    sealed = seals.seal("name", b"secret")
    for bit in range(8 * len(sealed)):
        harmed = bytearray(sealed)
        harmed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Damaged, Foreign)):
            seals.open("name", bytes(harmed))
    for end in range(len(sealed)):
        with pytest.raises(Damaged):
            seals.open("name", sealed[:end])


class Machine(RuleBasedStateMachine):
    """Keeps, forgets, flushes, crashes and restarts, beside a dict that forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = Path(tempfile.mkdtemp())
        self.faults: list[Fault] = []
        self.model: dict[HostName, Credential] = {}
        self.on_disk: dict[HostName, Credential] = {}
        self.failing = False
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(copies_module, "MAX_NAMES_A_SHEET", 3)
        self.patch.setattr("centcert.provider.sheets.MAX_NAMES_A_SHEET", 3)
        self.patch.setattr("centcert.provider.sheets.PACK_SHEETS", 2)
        self.patch.setattr(Copies, "_write", self.write(Copies._write))
        self.patch.setattr(LastGood, "_write_behind", idle)
        self.open()

    def write(self, original: Write) -> Write:
        def write(copies: Copies, file_name: str, data: bytes) -> bytes:
            if self.failing:
                raise OSError(28, "No space left on device")
            return original(copies, file_name, data)

        return write

    def open(self) -> None:
        self.copies = open_copies(self.place / "copies", self.faults)
        self.runner.run(self.copies.__aenter__())

    @rule(name=st.sampled_from(NAMES), version=st.integers(0, 1), own=st.booleans())
    def keep(self, name: HostName, version: int, own: bool) -> None:  # noqa: FBT001  Hypothesis
        credential = (OWN[name] if own else WILDCARD)[version]
        self.copies.keep(name, f"v{version}", credential)
        self.model[name] = credential

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: HostName) -> None:
        self.copies.forget(name)
        self.model.pop(name, None)

    @rule()
    def flush(self) -> None:
        self.runner.run(self.copies.flush())
        if not self.failing:
            self.on_disk = dict(self.model)

    @rule()
    def fill_the_disk(self) -> None:
        self.failing = True

    @rule()
    def empty_the_disk(self) -> None:
        self.failing = False

    @rule()
    def restart(self) -> None:
        self.failing = False
        self.runner.run(self.copies.__aexit__(None, None, None))
        self.on_disk = dict(self.model)
        self.open()

    @rule()
    def crash(self) -> None:
        """Only when nothing is half way: then the disk must show what was last flushed."""
        if self.failing or self.model != self.on_disk:
            return
        copies = self.place / "copies"
        shutil.copytree(copies, self.place / "crashed")
        self.runner.run(self.copies.__aexit__(None, None, None))
        shutil.rmtree(copies)
        (self.place / "crashed").rename(copies)
        self.open()

    @invariant()
    def every_name_is_answered_with_what_was_kept_last(self) -> None:
        for name in NAMES:
            copy = self.runner.run(self.copies.recall(name))
            wanted = self.model.get(name)
            assert self.copies.has(name) is (wanted is not None)
            assert (copy is None) is (wanted is None)
            if copy is not None and wanted is not None:
                assert copy.credential.fingerprint == wanted.fingerprint

    @invariant()
    def the_books_are_right(self) -> None:
        catalogue = self.copies._sheets.catalogue
        assert catalogue.size == sum(pack.size for pack in catalogue.packs.values())
        assert set(catalogue.used) == set(catalogue.home)
        listed = Counter(
            name
            for file_name in catalogue.packs
            for names in catalogue.living(file_name).values()
            for name in names
        )
        assert listed == Counter(catalogue.home.keys())
        held = {sheet for pack in catalogue.packs.values() for sheet in pack.sheets}
        assert set(catalogue.place) == held
        for file_name, pack in catalogue.packs.items():
            listed_there = {sheet: one.names for sheet, one in pack.sheets.items()}
            assert file_name in catalogue.unclean or catalogue.living(file_name) == listed_there

    def teardown(self) -> None:
        self.failing = False
        self.runner.run(self.copies.__aexit__(None, None, None))
        self.runner.close()
        self.patch.undo()
        shutil.rmtree(self.place)
        assert {fault.code for fault in self.faults} <= {"copies-unwritten"}


async def idle(_copies: LastGood) -> None:
    """Write nothing behind: the machine says when."""


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)
TestLastGood = Machine.TestCase
