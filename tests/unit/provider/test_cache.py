import pytest

from centcert.credential import Credential, decode
from centcert.names import HostName
from centcert.provider.cache import NAME_BYTES, Cache, CacheLimits, Entry
from centcert.testing import Authority

A, B, C = (HostName.parse(f"{label}.example") for label in "abc")


@pytest.fixture(scope="module")
def credential() -> Credential:
    return decode(Authority().issue("*.example").pem(), key="_.example.pem", passwords=())


@pytest.fixture(scope="module")
def other() -> Credential:
    return decode(Authority().issue("c.example").pem(), key="c.example.pem", passwords=())


def entry(credential: Credential) -> Entry:
    return Entry(credential.key, credential, ((credential.key, "1"),), fresh_until=10)


def test_a_shared_credential_is_counted_once(credential: Credential, other: Credential):
    cache = Cache(CacheLimits())
    cache.remember(A, entry(credential))
    cache.remember(B, entry(credential))
    assert cache.used_bytes == credential.size + 2 * NAME_BYTES
    cache.remember(C, entry(other))
    assert cache.used_bytes == credential.size + other.size + 3 * NAME_BYTES
    cache.forget(A)
    assert cache.used_bytes == credential.size + other.size + 2 * NAME_BYTES
    cache.forget(B)
    assert cache.used_bytes == other.size + NAME_BYTES


def test_remembering_again_replaces(credential: Credential, other: Credential):
    cache = Cache(CacheLimits())
    cache.remember(C, entry(credential))
    cache.remember(C, entry(other))
    assert len(cache) == 1
    assert cache.used_bytes == other.size + NAME_BYTES
    assert cache.peek(C) is not None


def test_the_least_recently_used_name_goes_first(credential: Credential):
    cache = Cache(CacheLimits(max_names=2))
    assert cache.remember(A, entry(credential)) == []
    assert cache.remember(B, entry(credential)) == []
    cache.touch(A)
    assert cache.remember(C, entry(credential)) == [B]
    assert cache.peek(A) is not None
    assert cache.peek(B) is None


def test_peeking_is_no_use(credential: Credential):
    cache = Cache(CacheLimits(max_names=2))
    cache.remember(A, entry(credential))
    cache.remember(B, entry(credential))
    cache.peek(A)
    assert cache.remember(C, entry(credential)) == [A]


def test_memory_is_bounded(credential: Credential, other: Credential):
    limit = credential.size + other.size + NAME_BYTES
    cache = Cache(CacheLimits(max_bytes=limit))
    cache.remember(A, entry(credential))
    assert cache.remember(C, entry(other)) == [A]
    assert cache.used_bytes <= limit


def test_what_is_larger_than_the_cache_is_not_kept(credential: Credential):
    cache = Cache(CacheLimits(max_bytes=credential.size))
    assert cache.remember(A, entry(credential)) == [A]
    assert cache.used_bytes == 0


def test_absence_ends_with_its_time(credential: Credential):
    cache = Cache(CacheLimits())
    cache.remember(A, entry(credential))
    cache.remember_absent(A, until=5)
    assert cache.peek(A) is None
    assert cache.is_absent(A, now=4.9)
    assert not cache.is_absent(A, now=5)
    assert not cache.is_absent(B, now=0)


def test_an_absence_ends_when_a_credential_comes(credential: Credential):
    cache = Cache(CacheLimits())
    cache.remember_absent(A, until=5)
    cache.remember(A, entry(credential))
    assert not cache.is_absent(A, now=0)


def test_absences_are_bounded_and_can_be_dropped():
    cache = Cache(CacheLimits(max_absent=2))
    for name in (A, B, C):
        cache.remember_absent(name, until=5)
    assert cache.absent_count == 2
    assert not cache.is_absent(A, now=0)
    cache.forget_absent(B)
    assert not cache.is_absent(B, now=0)
    cache.forget_absences()
    assert cache.absent_count == 0
