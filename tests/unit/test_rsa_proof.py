from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from centcert.der import INTEGER, SEQUENCE, element
from centcert.rsa_proof import _is_consistent, is_sound

if TYPE_CHECKING:
    from collections.abc import Callable

E = 65_537


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What an RSA private key is made of (RFC 8017 §3.2), each part changeable alone."""

    p: int
    q: int
    d: int
    dmp1: int
    dmq1: int
    iqmp: int
    n: int
    e: int = E

    @classmethod
    def of(cls, p: int, q: int) -> Numbers:
        d = pow(E, -1, math.lcm(p - 1, q - 1))
        return cls(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), p * q)

    def load(self) -> rsa.RSAPrivateKey:
        """As a file brings it (RFC 8017 §A.1.2): its numbers are not looked at."""
        numbers = (0, self.n, self.e, self.d, self.p, self.q, self.dmp1, self.dmq1, self.iqmp)
        pkcs1 = element(SEQUENCE, *(element(INTEGER, signed(number)) for number in numbers))
        loaded = load_der_private_key(pkcs1, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        return loaded


def signed(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


def prime(bits: int) -> int:
    while True:  # E must be invertible modulo p - 1; of these it always is
        numbers = rsa.generate_private_key(E, 2 * bits).private_numbers()
        if numbers.p.bit_length() == bits:
            return numbers.p


@pytest.fixture(scope="module")
def good() -> Numbers:
    made = rsa.generate_private_key(E, 2_048).private_numbers()
    return Numbers.of(made.p, made.q)


@pytest.mark.parametrize("bits", [2_048, 3_072])
def test_what_is_generated_is_sound(bits: int):
    assert is_sound(rsa.generate_private_key(E, bits))


def test_what_is_made_of_numbers_is_sound(good: Numbers):
    assert is_sound(good.load())


@pytest.mark.parametrize(
    "change",
    [
        lambda g: {"d": g.d + 2},
        lambda g: {"d": g.d + math.lcm(g.p - 1, g.q - 1) * g.n},
        lambda g: {"dmp1": g.dmp1 + 2},
        lambda g: {"dmq1": g.dmq1 + 2},
        lambda g: {"iqmp": g.iqmp + 2},
        lambda g: {"iqmp": g.iqmp + g.p},
        lambda g: {"p": g.p + 2},
        lambda g: {"q": g.q + 2},
        lambda g: {"p": g.n, "q": 1},
        lambda g: {"p": 1, "q": g.n},
        lambda g: {"d": g.d + g.q - 1, "dmp1": (g.d + g.q - 1) % (g.p - 1)},
        lambda g: {"d": g.d + g.p - 1, "dmq1": (g.d + g.p - 1) % (g.q - 1)},
        lambda g: {"e": g.e + (g.p - 1) * (g.q - 1) * 2},
        lambda g: {"p": g.q},
        lambda g: {"p": g.q, "q": g.p},
        lambda g: {"n": g.n + 2},
        lambda g: {"e": g.e - 2},
    ],
)
def test_a_number_that_does_not_fit_is_found(
    good: Numbers, change: Callable[[Numbers], dict[str, int]]
):
    key = dataclasses.replace(good, **change(good)).load()
    assert not _is_consistent(key.private_numbers())
    assert not is_sound(key)


def test_a_prime_that_is_none_signs_wrong():
    """All the arithmetic holds; only the signature shows it."""
    while True:
        p = prime(512) * prime(512)
        if (p - 1) % E:  # else E has no inverse
            break
    assert not is_sound(Numbers.of(p, prime(1_024)).load())


def test_a_made_up_prime_of_any_size_takes_no_time(good: Numbers):
    """Guards: an exponent of a million bits, which OpenSSL would take hours over."""
    huge = 1 << 1_000_000 | 1
    assert not is_sound(dataclasses.replace(good, p=huge, dmp1=huge - 2).load())
