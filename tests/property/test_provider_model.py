"""The real provider, policy and last-good copies over a faulty store, beside a model of them.

The model is the seven invariants of the design, spelt out for five names. It knows which
certificate each name must get once the store answers and all is settled, and what must
still be served while it does not.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from base64 import b64encode
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from centcert.credential import Credential, decode
from centcert.errors import (
    BadBlob,
    CentcertError,
    Closing,
    StoreAuthenticationFailed,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreInsecure,
    StoreUnavailable,
    UnknownName,
)
from centcert.names import HostName
from centcert.provider import CacheLimits, Provider
from centcert.provider.answering import answer, answer_from_memory
from centcert.provider.findings import EXPIRING_S
from centcert.provider.freshness import Freshness
from centcert.provider.lastgood import LastGood
from centcert.provider.policy import DEFAULT_POLICY, Action, Policy
from centcert.stores import MemoryStore
from centcert.testing import Authority, FaultyStore, ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from centcert.provider.events import Event
    from centcert.stores import Blob
    from centcert.testing import PrivateKey

DAY_S: Final = 86_400
PATIENCE_S: Final = 20.0
PASSWORD: Final = b"open sesame 4711"
LIMITS: Final = CacheLimits(max_names=8, max_absent=2)
"""All names fit, so that each step has one right outcome; ``test_cache`` has them make room."""

CANDIDATES: Final = {
    "www.a.example": ("www.a.example", "_.a.example"),
    "mail.a.example": ("mail.a.example", "_.a.example"),
    "x.www.a.example": ("x.www.a.example", "_.www.a.example"),
    "a.example": ("a.example", "_.example"),
    "b.example": ("b.example", "_.example"),
    # All names below it that have no file of their own share what it gets.
    "*.a.example": ("_.a.example",),
    "*.www.a.example": ("_.www.a.example",),
    "*.example": ("_.example",),
}
"""The stems of each name's files, best first: written out, not asked of what is tested."""

NAMES: Final = [HostName.parse(name) for name in CANDIDATES if "*" not in name]
STEMS: Final = ("www.a.example", "mail.a.example", "_.a.example", "b.example", "_.example")
KEYS: Final = [
    f"{stem}{suffix}"
    for stem in STEMS
    for suffix in (".pfx", ".pem")
    if suffix == ".pem" or stem in {"www.a.example", "_.a.example"}
]
FAULTS: Final = (
    StoreUnavailable,
    StoreBusy,
    StoreDenied,
    StoreAuthenticationFailed,
    StoreInsecure,
)

STRICT: Final = Policy(unavailable=Action.REFUSE, bad=Action.REFUSE)

AUTHORITY: Final = Authority()


def matches(name: str, pattern: str) -> bool:
    """RFC 9525 §6.3 for the names of this test, apart from the code that is tested."""
    return pattern in (name, "*." + name.partition(".")[2])


def keys_of(name: str) -> list[str]:
    return [stem + suffix for stem in CANDIDATES[name] for suffix in (".pfx", ".pem")]


def wildcard_of(name: str) -> str:
    return "*." + name.partition(".")[2]


@dataclass(frozen=True, eq=False)
class File:
    """What lies in the store: a certificate of its own each time, or something bad."""

    data: bytes = field(repr=False)
    fingerprint: bytes = b""
    patterns: tuple[str, ...] = ()
    not_after: float = 0.0


class Secrets:
    """Every form in which the keys of this run could show."""

    def __init__(self) -> None:
        self.forms: set[str] = {PASSWORD.decode(), repr(PASSWORD)}

    def add(self, key: PrivateKey) -> None:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        number = key.private_numbers().private_value
        raw = number.to_bytes(32, "big")
        self.forms |= {
            *(str(number), f"{number:x}", raw.hex(), repr(raw)[2:-1]),
            # What comes first is the same in all; PEM breaks its lines after 64 characters.
            *(b64encode(der).decode()[48:64], b64encode(der).decode()[64:100]),
        }

    def are_in(self, text: str) -> list[str]:
        return [form for form in self.forms if form in text]


def issue(secrets: Secrets, patterns: Sequence[str], ends: float) -> File:
    end = datetime.fromtimestamp(int(ends), UTC)
    begin = min(datetime.now(UTC) - timedelta(hours=1), end - timedelta(days=60))
    issued = AUTHORITY.issue(*patterns, not_before=begin, not_after=end)
    secrets.add(issued.private_key)
    pem = issued.pem()
    made = decode(pem, key="any.pem", passwords=())
    return File(pem, made.fingerprint, tuple(patterns), made.not_after)


def patterns_of(key: str) -> tuple[str, ...]:
    stem = key[:-4]
    return ("*." + stem[2:],) if stem.startswith("_.") else (stem,)


class Decoder:
    """Decodes in this process: no child, no waiting."""

    async def decode(self, blob: Blob, passwords: Sequence[bytes]) -> Credential:
        return decode(blob.data, key=blob.key, passwords=passwords)


class Machine(RuleBasedStateMachine):
    """Visits, files, faults, time and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.make_quick()
        self.secrets = Secrets()
        self.clock = ManualClock()
        self.faults: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.faults.append(context))
        self.memory_store = MemoryStore("model")
        self.store = FaultyStore(self.memory_store)
        self.events: list[Event] = []
        self.failing = self.held = False
        # The model.
        self.files: dict[str, File] = {}
        self.ever: dict[str, set[bytes]] = {key: set() for key in KEYS}
        self.in_memory: dict[str, tuple[str, File]] = {}  # the key and file that a name gets
        self.copies: dict[str, tuple[str, File]] = {}
        self.recalled: set[str] = set()  # whose memory is a copy
        self.absent: set[str] = set()  # told so when the store answered; a fault is never told so
        self.waiting: dict[str, asyncio.Task[Credential]] = {}
        self.behind: set[str] = set()  # looked up while others' wildcard has answered
        self.freshness: Freshness
        self.start()

    def make_quick(self) -> None:
        """Pauses that are there for the sake of real stores and writers are none here."""
        patch = self.patch
        provider, freshness = "centcert.provider.provider", "centcert.provider.freshness"
        patch.setattr(f"{freshness}.TOGETHER_S", 0.0005)
        patch.setattr("centcert.provider.bursts.QUIET_S", 0.0)
        patch.setattr(f"{freshness}.REWATCH_S", (0.001, 0.001))
        patch.setattr("centcert.provider.loader.HALF_WRITTEN_RETRIES_S", (0.0005,))
        patch.setattr("centcert.provider.resolver.CONFIRM_ABSENCE_AFTER_S", (0.0005, 0.0005))
        patch.setattr("centcert.provider.answering.PATIENCE_S", PATIENCE_S)
        # What it loads, and when, has tests of its own; here it would only blur the model.
        patch.setattr(f"{provider}.prefetch", nothing)
        machine = self

        class Seen(Freshness):
            async def watch(self) -> None:
                machine.freshness = self
                await super().watch()

        patch.setattr(f"{provider}.Freshness", Seen)

    # --- the node --------------------------------------------------------------------

    def start(self) -> None:
        self.node = AsyncExitStack()
        self.runner.run(self._start())
        self.settle()

    async def _start(self) -> None:
        copies = LastGood(
            self.place / "copies",
            [bytes(range(32))],
            store_url=self.store.url,
            listener=self.events.append,
            clock=self.clock,
        )
        self.provider = await self.node.enter_async_context(
            Provider(
                self.store,
                passwords=lambda: [PASSWORD],
                limits=LIMITS,
                last_good=copies,
                decoder=Decoder(),
                clock=self.clock,
                listener=self.events.append,
            )
        )

    @property
    def away(self) -> bool:
        return self.failing or self.held

    def settle(self) -> None:
        """Let all that is under way come to its end, as far as the store lets it."""

        async def settle() -> None:
            quiet = 0
            async with asyncio.timeout(PATIENCE_S):
                while quiet < 8:  # a task that is handed its turn needs a few
                    quiet = quiet + 1 if self.is_quiet() else 0
                    await asyncio.sleep(0 if quiet else 0.0005)
                if self.waiting and not self.held:
                    await asyncio.wait(self.waiting.values())

        self.runner.run(settle())

    def is_quiet(self) -> bool:
        provider, freshness, loader = self.provider, self.freshness, self.provider._loader
        told = not any(watch.noted.is_set() for watch in self.memory_store._watches)
        acted = not (freshness._bursts or freshness._noted.is_set())
        if (freshness._watch is None) is not self.failing:
            return False
        if self.held:
            return told and acted
        if provider._look_ups or loader._flights or provider._renewals or provider._review:
            return False
        if self.failing:
            return True
        return told and acted and loader.index.fresh and not freshness._look_now.is_set()

    def after_change(self) -> None:
        """Let the node notice, and the model go where the node must go."""
        self.settle()
        if self.held:
            return
        waited, self.waiting = self.waiting, {}
        behind, self.behind = self.behind, set()
        if not self.failing:
            for name in (*behind, *waited):  # what they were told may be older than that
                self.outcome(HostName(name))
                self.settle()
                self.look_up(name)
                self.note_copy_on_the_way(wildcard_of(name))
            self.visit_stale()
            for name in tuple(self.in_memory):
                self.refresh(name)
        for name, task in waited.items():
            self.check_waited(name, task)

    def note_copy_on_the_way(self, wildcard: str) -> None:
        """Before a name had a file of its own, the wildcard's may have answered it."""
        copies = self.provider._last_good
        assert copies is not None
        found, _ = self.choose(wildcard)
        if found is not None and wildcard not in self.copies and copies.has(HostName(wildcard)):
            self.copies[wildcard] = found

    def visit_stale(self) -> None:
        """What time alone has changed, only a visit brings to light."""
        now = self.clock.monotonic()
        for name, entry in dict(self.provider._cache.entries()).items():
            if entry.fresh_until <= now:
                self.outcome(name)
        self.settle()

    def check_waited(self, name: str, task: asyncio.Task[Credential]) -> None:
        error = task.exception()
        if error is None:
            self.check_legitimate(name, task.result())
        else:
            assert isinstance(error, StoreError if self.failing else UnknownName | BadBlob)

    # --- the model -------------------------------------------------------------------

    def choose(self, name: str) -> tuple[tuple[str, File] | None, list[str]]:
        """Which file answers a name, and which are in its way but bad."""
        outside: tuple[str, File] | None = None
        bad = []
        for key in keys_of(name):
            file = self.files.get(key)
            if file is None:
                continue
            if not any(matches(name, pattern) for pattern in file.patterns):
                bad.append(key)
            elif file.not_after >= self.clock.wall():
                return (key, file), bad
            else:
                outside = outside or (key, file)
        return outside, bad

    def refresh(self, name: str) -> None:
        """What becomes of a remembered name once the store has been asked anew."""
        key, file = self.in_memory[name]
        found, bad = self.choose(name)
        if found is None and not bad:
            self.withdraw(name)
        elif found is not None and not (key in bad and file.not_after >= self.clock.wall()):
            self.remember(name, found)

    def remember(self, name: str, found: tuple[str, File]) -> None:
        if name == wildcard_of(name) or not found[0].startswith("_."):
            self.copies[name] = found
            self.keep_in_memory(name, found)
            return
        wildcard = wildcard_of(name)
        if self.has_own_file(name):
            self.copies[name] = found
        else:
            self.copies[wildcard] = found
            self.copies.pop(name, None)
        if self.has_own_file(name) or self.may_have_own_file(name):
            self.keep_in_memory(name, found)
            return
        self.forget(name)
        if wildcard in self.in_memory and self.in_memory[wildcard][1] is not found[1]:
            self.refresh(wildcard)
        else:
            self.keep_in_memory(wildcard, found)

    def keep_in_memory(self, place: str, found: tuple[str, File]) -> None:
        self.in_memory[place] = found
        self.recalled.discard(place)

    def forget(self, place: str) -> None:
        self.in_memory.pop(place, None)
        self.recalled.discard(place)

    def has_own_file(self, name: str) -> bool:
        return any(key in self.files for key in keys_of(name) if not key.startswith("_."))

    def may_have_own_file(self, name: str) -> bool:
        """As far as the index knows, which believes in what is gone until the next listing."""
        index = self.provider._loader.index
        own = [key for key in keys_of(name) if not key.startswith("_.")]
        return not index.listed or any(index.may_hold(key) for key in own)

    def had_own_file(self, name: str) -> bool:
        """When the store was listed: then the wildcard's never stands in for it."""
        index = self.provider._loader.index
        return any(index.was_listed(key) for key in keys_of(name) if not key.startswith("_."))

    def places(self, name: str) -> list[str]:
        """Where something may be that answers a name while the store does not."""
        return [name] if self.had_own_file(name) else [name, wildcard_of(name)]

    def place_of(self, name: str) -> str:
        """Where what answers a name stands, if it stands anywhere."""
        return name if name in self.in_memory else wildcard_of(name)

    def known(self, name: str) -> tuple[str, File] | None:
        """What answers a name from memory, whatever the store does."""
        if name in self.in_memory or name == wildcard_of(name):
            return self.in_memory.get(name)
        wildcard = wildcard_of(name)
        listed = self.provider._loader.index.listed or wildcard in self.recalled
        own = [key for key in keys_of(name) if not key.startswith("_.")]
        maybe = any(self.provider._loader.index.may_hold(key) for key in own)
        return (
            self.in_memory.get(wildcard)
            if listed and not maybe and name not in self.copies
            else None
        )

    def look_up(self, name: str, *, copies: bool = True) -> None:
        """What a visit brings when the store answers."""
        if self.known(name) is not None:
            self.refresh(self.place_of(name))
            if self.known(name) is not None:
                return
        found, bad = self.choose(name)
        if found is not None:
            self.remember(name, found)
            self.absent.discard(name)
        elif bad:
            if copies:
                self.recall(name)
        else:
            self.withdraw(name)

    def recall(self, name: str) -> None:
        wildcard = wildcard_of(name)
        if self.has_good_copy(name):
            place = name
        elif (
            self.had_own_file(name)
            or wildcard in self.in_memory
            or not self.has_good_copy(wildcard)
        ):
            return
        else:
            place = wildcard
        self.in_memory[place] = self.copies[place]
        self.recalled.add(place)

    def has_good_copy(self, name: str) -> bool:
        return name in self.copies and self.copies[name][1].not_after >= self.clock.wall()

    def recall_unless_gone(self, name: str, outcome: Credential | CentcertError) -> None:
        """A store that cannot be asked may have told before that there is nothing any more."""
        if self.known(name) is not None:
            return
        if self.is_gone(name, outcome):
            self.withdraw(name)
        else:
            self.recall(name)

    def is_gone(self, name: str, outcome: Credential | CentcertError) -> bool:
        held = any(key in self.files for key in keys_of(name))
        return isinstance(outcome, UnknownName) and not held

    def withdraw(self, name: str) -> None:
        self.forget(name)
        self.copies.pop(name, None)
        self.copies.pop(wildcard_of(name), None)
        self.absent.add(name)

    # --- rules: visits -----------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def visit(self, name: HostName) -> None:
        if self.held:
            self.visit_while_held(name)
        elif self.failing:
            self.visit_while_failing(name)
        else:
            self.outcome(name)  # perhaps still with what has just become stale
            self.settle()
            self.look_up(name)
            self.check_outcome(name, self.outcome(name))

    @rule()
    def visit_all(self) -> None:
        for name in NAMES:
            self.visit(name)

    @precondition(lambda self: not self.held)
    @rule(name=st.sampled_from(NAMES))
    def visit_where_copies_are_refused(self, name: HostName) -> None:
        """Whatever other listeners were served, this one gets what the store gave."""
        outcome = self.outcome(name, STRICT)
        if not self.failing:
            self.settle()
            self.look_up(name, copies=False)
            outcome = self.outcome(name, STRICT)
        elif self.known(name) is None and self.is_gone(name, outcome):
            self.withdraw(name)
        self.settle()
        if self.known(name) is not None and self.place_of(name) not in self.recalled:
            self.check_outcome(name, outcome)
        elif self.failing:
            assert isinstance(outcome, StoreError) or (
                isinstance(outcome, UnknownName) and name in self.absent
            )
        else:
            found, bad = self.choose(name)
            if found is None:
                assert isinstance(outcome, BadBlob if bad else UnknownName), repr(outcome)
            else:
                assert isinstance(outcome, Credential), repr(outcome)
                assert (outcome.key, outcome.fingerprint) == (found[0], found[1].fingerprint)

    def outcome(
        self, name: HostName, policy: Policy = DEFAULT_POLICY
    ) -> Credential | CentcertError:
        async def ask() -> Credential | CentcertError:
            async with asyncio.timeout(PATIENCE_S):
                try:
                    return await self.ask(name, policy)
                except CentcertError as error:
                    return error

        return self.runner.run(ask())

    async def ask(self, name: HostName, policy: Policy = DEFAULT_POLICY) -> Credential:
        """Ask as the front end does."""
        known = answer_from_memory(self.provider, name, policy)
        if known is not None:
            return known
        answered = await answer(self.provider, name, policy, None)
        assert answered.name == name
        return answered.credential

    def check_outcome(self, name: str, outcome: Credential | CentcertError) -> None:
        wanted = self.known(name) or self.in_memory.get(self.places(name)[-1])
        if wanted is not None and not (name in self.absent and isinstance(outcome, UnknownName)):
            assert isinstance(outcome, Credential), f"{name} must be served, not: {outcome}"
            self.check_legitimate(name, outcome)
            assert (outcome.key, outcome.fingerprint) == (wanted[0], wanted[1].fingerprint)
            return
        assert isinstance(outcome, CentcertError), f"{name} must not be served, as {outcome} is"
        assert not self.secrets.are_in(str(outcome) + repr(outcome))
        if not self.away:
            _, bad = self.choose(name)
            assert isinstance(outcome, BadBlob if bad else UnknownName), repr(outcome)

    def check_legitimate(self, name: str, credential: Credential) -> None:
        """Invariant 1: it covers the name, and was once stored under one of the name's keys."""
        assert any(matches(name, pattern) for pattern in credential.patterns)
        assert credential.key in keys_of(name)
        assert credential.fingerprint in self.ever[credential.key]

    def visit_while_failing(self, name: HostName) -> None:
        outcome = self.outcome(name)
        self.recall_unless_gone(name, outcome)
        self.check_outcome(name, outcome)
        if isinstance(outcome, CentcertError) and name not in self.absent:
            assert isinstance(outcome, StoreError), f"a fault became an answer: {outcome!r}"
        self.settle()

    def visit_while_held(self, name: HostName) -> None:
        if name in self.waiting:
            return
        places = self.places(name)
        if any(place in self.in_memory or self.has_good_copy(place) for place in places):
            if self.known(name) is None:
                self.behind.add(name)
            outcome = self.outcome(name)
            self.recall_unless_gone(name, outcome)
            self.check_outcome(name, outcome)
            if not isinstance(outcome, Credential):
                self.behind.discard(name)
            return

        async def begin() -> asyncio.Task[Credential]:
            task = asyncio.get_running_loop().create_task(self.ask(name))
            for _ in range(8):
                await asyncio.sleep(0)
            return task

        task = self.runner.run(begin())
        if task.done():  # the index knows that there is nothing, or memory does
            assert isinstance(task.exception(), UnknownName)
            assert name in self.absent or not any(key in self.files for key in keys_of(name))
        else:
            self.waiting[name] = task

    # --- rules: files --------------------------------------------------------------------

    def put(self, key: str, file: File) -> None:
        self.files[key] = file
        self.ever[key].add(file.fingerprint)
        self.tell_of(key)

        async def put() -> None:
            self.memory_store.put(key, file.data)

        self.runner.run(put())

    def tell_of(self, key: str) -> None:
        """An absence lasts ten seconds at most, and no longer than until a change is told."""
        if not self.failing:
            self.absent.difference_update(name for name in NAMES if key in keys_of(name))

    def good(self, key: str, ends_in_s: float) -> File:
        return issue(self.secrets, patterns_of(key), self.clock.wall() + ends_in_s)

    @initialize(keys=st.sets(st.sampled_from(KEYS), min_size=1))
    def fill(self, keys: set[str]) -> None:
        for key in sorted(keys):
            self.put(key, self.good(key, 30 * DAY_S))
        self.after_change()

    @rule(key=st.sampled_from(KEYS), ends_in_s=st.sampled_from([30 * DAY_S, 1_000, -DAY_S]))
    def put_good(self, key: str, ends_in_s: float) -> None:
        self.put(key, self.good(key, ends_in_s))
        self.after_change()

    @rule(
        key=st.sampled_from(KEYS),
        kind=st.sampled_from(["garbage", "cut", "password", "name", "key"]),
    )
    def put_bad(self, key: str, kind: str) -> None:
        self.put(key, bad_file(self.secrets, kind, patterns_of(key)))
        self.after_change()

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.files)))
        del self.files[key]

        async def remove() -> None:
            self.memory_store.remove(key)

        self.runner.run(remove())
        self.after_change()

    @precondition(lambda self: self.files)
    @rule(data=st.data(), turns=st.integers(0, 3))
    def rename_over(self, data: st.DataObject, turns: int) -> None:
        """A writer that renames: for an instant there is nothing."""
        key = data.draw(st.sampled_from(sorted(self.files)))
        file = self.files[key] = self.good(key, 30 * DAY_S)
        self.ever[key].add(file.fingerprint)
        self.tell_of(key)

        async def rename() -> None:
            self.memory_store.remove(key)
            for _ in range(turns):
                await asyncio.sleep(0)
            self.memory_store.put(key, file.data)

        self.runner.run(rename())
        self.after_change()

    # --- rules: faults, time, restarts ------------------------------------------------------

    @precondition(lambda self: not self.failing)
    @rule(kind=st.sampled_from(FAULTS))
    def fail(self, kind: type[StoreError]) -> None:
        async def fail() -> None:
            self.store.fail(kind)

        self.failing = True
        self.runner.run(fail())
        self.after_change()

    @precondition(lambda self: self.failing)
    @rule()
    def heal(self) -> None:
        async def heal() -> None:
            self.store.heal()

        self.failing = False
        self.absent.clear()
        self.runner.run(heal())
        self.after_change()

    @precondition(lambda self: not self.held)
    @rule()
    def hold(self) -> None:
        self.held = True
        self.store.hold()
        self.patch.setattr("centcert.provider.answering.PATIENCE_S", 0.002)

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        async def release() -> None:
            self.store.release()

        self.held = False
        self.patch.setattr("centcert.provider.answering.PATIENCE_S", PATIENCE_S)
        self.runner.run(release())
        self.after_change()

    @rule(seconds=st.sampled_from([301, 1_100, 20 * DAY_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.absent.clear()  # remembered for ten seconds
        self.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.node.aclose())
        self.in_memory.clear()
        self.recalled.clear()
        self.behind.clear()
        self.absent.clear()
        waited, self.waiting = self.waiting, {}
        for name, task in waited.items():
            with pytest.raises(Closing):
                self.runner.run(finish(task))
            assert not self.has_good_copy(name)
        self.start()

    # --- what always holds -----------------------------------------------------------------

    @invariant()
    def whatever_is_in_memory_is_right(self) -> None:
        entries = dict(self.provider._cache.entries())
        for name, entry in entries.items():
            self.check_legitimate(name, entry.credential)
        assert set(self.in_memory) <= set(entries), "a known name is lost"
        if not self.held:
            assert set(entries) == set(self.in_memory), "what is withdrawn is still known"
        for name, entry in entries.items():
            if not self.away and entry.fresh_until > self.clock.monotonic():
                served = entry.key, entry.credential.fingerprint
                key, file = self.in_memory[name]
                assert served == (key, file.fingerprint), "a change was not noticed"

    @invariant()
    def each_known_name_has_a_copy(self) -> None:
        for name in NAMES:
            if not self.held:
                places = self.places(name)
                kept = any(place in self.copies for place in places)
                shared = wildcard_of(name) in places and wildcard_of(name) in self.in_memory
                assert self.provider.has_copy(name) is (kept or shared)

    @invariant()
    def the_bounds_hold(self) -> None:
        provider = self.provider
        names, used_bytes = provider.usage
        assert names <= LIMITS.max_names
        assert used_bytes <= LIMITS.max_bytes
        assert provider._cache.absent_count <= LIMITS.max_absent
        assert len(provider._renewals) <= len(CANDIDATES)
        assert len(provider._look_ups) <= len(CANDIDATES)
        assert len(provider._loader._decoded) <= len(CANDIDATES) * 2 + len(KEYS)
        assert len(provider.findings()) <= len(KEYS) * 3 + 8

    @invariant()
    def what_is_found_is_so(self) -> None:
        if self.away:
            return
        for finding in self.provider.findings():
            file = self.files.get(finding.subject)
            if finding.code in {"bad-file", "wrong-name"}:
                assert file is not None, finding
                assert not file.patterns, finding
            elif finding.code in {"expiring", "expired"}:
                held = [held for _, held in self.in_memory.values()]  # perhaps no longer a file
                assert any(
                    one.not_after - self.clock.wall() < EXPIRING_S
                    for one in (*held, *([] if file is None else [file]))
                ), finding

    @invariant()
    def no_key_shows(self) -> None:
        told = repr(self.events) + repr(self.provider.findings()) + repr(self.provider)
        self.events.clear()
        assert not self.secrets.are_in(told)

    @invariant()
    def nothing_fails_unseen(self) -> None:
        assert not self.faults

    def teardown(self) -> None:
        try:
            for task in self.waiting.values():
                task.cancel()
            self.runner.run(self.node.aclose())
            stored = b"".join(path.read_bytes() for path in self.place.rglob("*") if path.is_file())
            assert not self.secrets.are_in(stored.decode("latin-1"))
        finally:
            self.runner.close()
            self.patch.undo()
            shutil.rmtree(self.place)


async def nothing(*_args: object) -> None:
    """Prefetch nothing."""


async def finish(task: asyncio.Task[Credential]) -> Credential:
    return await task


def bad_file(secrets: Secrets, kind: str, patterns: Sequence[str]) -> File:
    if kind == "name":
        stranger = AUTHORITY.issue("stranger.test")
        secrets.add(stranger.private_key)
        return File(stranger.pem())
    issued = AUTHORITY.issue(*patterns)
    secrets.add(issued.private_key)
    if kind == "password":
        return File(issued.pfx(b"another one"))
    if kind == "cut":
        return File(issued.pfx()[:-100])
    if kind == "key":
        pem = AUTHORITY.issue(*patterns).pem()
        return File(pem[: pem.index(b"-----BEGIN PRIVATE")] + key_of(issued.pem()))
    return File(b"this is no certificate")


def key_of(pem: bytes) -> bytes:
    return pem[pem.index(b"-----BEGIN PRIVATE") :]


Machine.TestCase.settings = settings(
    # As many as are quick, unless a profile asks for more.
    max_examples=max(40, settings().max_examples * 2 // 5),
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
TestProvider = pytest.mark.timeout(240)(Machine.TestCase)  # 13 s as a rule
