"""The cache as a state machine, beside a model that forgets nothing."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from centcert.credential import Credential, decode
from centcert.names import HostName
from centcert.provider.cache import NAME_BYTES, Cache, CacheLimits, Entry
from centcert.testing import Authority

NAMES = [HostName.parse(f"{label}.example") for label in "abcdefgh"]
AUTHORITY = Authority()
CREDENTIALS = [
    decode(AUTHORITY.issue("*.example").pem(), key=f"{n}.pem", passwords=()) for n in range(4)
]
LIMITS = CacheLimits(
    max_bytes=3 * max(c.size for c in CREDENTIALS) + 5 * NAME_BYTES, max_names=6, max_absent=3
)


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(LIMITS)
        self.held: dict[HostName, Credential] = {}  # in order of use
        self.absent: dict[HostName, float] = {}
        self.now = 0.0

    @rule(name=st.sampled_from(NAMES), credential=st.sampled_from(CREDENTIALS))
    def remember(self, name: HostName, credential: Credential) -> None:
        self.held.pop(name, None)
        self.absent.pop(name, None)
        self.held[name] = credential
        forgotten = self.cache.remember(name, Entry(credential.key, credential, (), self.now))
        assert forgotten == list(self.held)[: len(forgotten)], "not the least recently used"
        for gone in forgotten:
            del self.held[gone]

    @rule(name=st.sampled_from(NAMES))
    def touch(self, name: HostName) -> None:
        entry = self.cache.touch(name)
        assert (entry.credential if entry else None) is self.held.get(name)
        if entry:
            self.held[name] = self.held.pop(name)

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: HostName) -> None:
        assert self.cache.forget(name) is (self.held.pop(name, None) is not None)

    @rule(name=st.sampled_from(NAMES), seconds=st.integers(1, 5))
    def remember_absent(self, name: HostName, seconds: int) -> None:
        self.held.pop(name, None)
        self.absent[name] = self.now + seconds
        self.cache.remember_absent(name, self.now + seconds)

    @rule()
    def let_time_pass(self) -> None:
        self.now += 1

    @invariant()
    def what_is_held_is_what_was_remembered(self) -> None:
        assert {name: entry.credential for name, entry in self.cache.entries()} == self.held

    @invariant()
    def the_bounds_hold(self) -> None:
        size = sum(credential.size for credential in set(self.held.values()))
        assert self.cache.used_bytes == size + NAME_BYTES * len(self.held) <= LIMITS.max_bytes
        assert len(self.cache) <= LIMITS.max_names
        assert self.cache.absent_count <= LIMITS.max_absent

    @invariant()
    def nothing_is_absent_that_was_not_said_to_be(self) -> None:
        for name in NAMES:
            if self.cache.is_absent(name, self.now):
                assert self.absent[name] > self.now
                assert name not in self.held


TestCache = CacheMachine.TestCase
