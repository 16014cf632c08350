"""Public fakes for tests and for ``centcert demo``. Never for production.

``Authority`` makes certificates: a root, one intermediate, and what it issues.
``FaultyStore`` is a store that fails when told to; ``ManualClock`` stands still.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from centcert.errors import StoreError, StoreUnavailable
from centcert.names import HostName
from centcert.stores.base import Blob, Change, Store, StoredFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

__all__ = ["Authority", "FaultyStore", "Issued", "KeyType", "ManualClock", "PrivateKey"]

KeyType: TypeAlias = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"]
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

PFX_ITERATIONS: Final = 2_048
"""OpenSSL's default. Too few for a weak password, but tests and the demo stay fast."""

_BEFORE = timedelta(hours=1)  # the clock of another machine may be a little behind
_LEAF_LIFE = timedelta(days=90)
_CA_LIFE = timedelta(days=3_650)


@dataclass(frozen=True, slots=True, eq=False)
class Issued:
    """A certificate with its key, fresh from an ``Authority``.

    Attributes:
        certificate: the leaf.
        chain: its issuers without the root: the intermediate.
        private_key: the leaf's key.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)

    def pfx(self, password: bytes | None = None, *, friendly_name: str | None = None) -> bytes:
        """Return key, leaf and chain as PKCS #12 (RFC 7292).

        With a password: PBES2 with AES-256, HMAC-SHA256 and ``PFX_ITERATIONS`` rounds,
        as Windows' AES256-SHA256 and OpenSSL 3 write it. Without: not encrypted.
        """
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = (
                PrivateFormat.PKCS12.encryption_builder()
                .kdf_rounds(PFX_ITERATIONS)
                .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
                .hmac_hash(hashes.SHA256())
                .build(password)
            )
        return pkcs12.serialize_key_and_certificates(
            None if friendly_name is None else friendly_name.encode(),
            self.private_key,
            self.certificate,
            self.chain,
            encryption,
        )

    def pem(self) -> bytes:
        """Return leaf, chain and the unencrypted PKCS #8 key, in this order, as PEM."""
        certificates = b"".join(
            certificate.public_bytes(Encoding.PEM)
            for certificate in (self.certificate, *self.chain)
        )
        return certificates + self.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )


class Authority:
    """A root and one intermediate CA, made in memory, gone with the process.

    Two authorities never share a name: a chain of one does not fit the other.

    Attributes:
        root: the self-signed certificate that clients trust.
        intermediate: issued by the root; issues the leaves.
    """

    def __init__(self, *, key_type: KeyType = "ec-p256") -> None:
        mark = secrets.token_hex(4)
        now = _now()
        self._root_key = make_key(key_type)
        self._intermediate_key = make_key(key_type)
        root_name = _name(f"Centcert Test Root {mark}")
        self.root = _sign(
            _ca_builder(root_name, self._root_key, now, path_length=1).issuer_name(root_name),
            self._root_key,
        )
        self.intermediate = _sign(
            _ca_builder(
                _name(f"Centcert Test Intermediate {mark}"),
                self._intermediate_key,
                now,
                path_length=0,
            )
            .issuer_name(root_name)
            .add_extension(_issued_by(self._root_key), critical=False),
            self._root_key,
        )

    @property
    def root_pem(self) -> bytes:
        """The root as PEM, for a client's trust store."""
        return self.root.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: str,
        key_type: KeyType = "ec-p256",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        server_auth: bool = True,
        common_name: str | None = None,
    ) -> Issued:
        """Issue a leaf for ``names``, valid for 90 days from an hour ago unless told.

        ``names`` are host names, wildcards (``*.contoso.com``) or IDNs as a person writes
        them; they become dNSNames in A-labels. No names, no subjectAltName. The common
        name is the first name unless told. Without ``server_auth`` the certificate is
        for TLS clients only. Dates are aware; sub-seconds are cut off.

        Raises:
            NameRefused: one of ``names`` is not a host name or a wildcard.
        """
        patterns = [_pattern(name) for name in names]
        private_key = make_key(key_type)
        starts = not_before if not_before is not None else _now() - _BEFORE
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server_auth else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name or (patterns[0] if patterns else "leaf")))
            .issuer_name(self.intermediate.subject)
            .public_key(private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(not_after if not_after is not None else starts + _LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_issued_by(self._intermediate_key), critical=False)
        )
        if patterns:
            san = x509.SubjectAlternativeName([x509.DNSName(pattern) for pattern in patterns])
            builder = builder.add_extension(san, critical=False)
        leaf = _sign(builder, self._intermediate_key)
        return Issued(leaf, (self.intermediate,), private_key)


class FaultyStore(Store):
    """Another store, with faults at will. It is not faulty until told to be.

    Attributes:
        fetched: how often each key was asked for, answered or not.
        listed: how often the listing was asked for.
        watched: how often a watch was begun.
        truncate_to: bytes that ``fetch`` gives at most, as of a file half written;
            ``None``: all of them.
    """

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self.fetched: Counter[str] = Counter()
        self.listed = 0
        self.watched = 0
        self.truncate_to: int | None = None
        self._store = store
        self._failure: type[StoreError] | None = None
        self._latest_failure: type[StoreError] = StoreUnavailable
        self._broken = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._asked = asyncio.Event()

    def fail(self, kind: type[StoreError] = StoreUnavailable) -> None:
        """Let every call raise ``kind`` from now on; watches under way break off with it."""
        self._failure = self._latest_failure = kind
        self._broken.set()

    def heal(self) -> None:
        """Fail no longer."""
        self._failure = None
        self._broken.clear()

    def hold(self) -> None:
        """Let ``fetch``, ``list`` and ``scan`` wait from now on until ``release``: a slow store."""
        self._open.clear()

    def release(self) -> None:
        """Let all that wait go on, to fail or to succeed as it is then."""
        self._open.set()

    async def until_fetched(self, times: int, key: str | None = None) -> None:
        """Wait until ``key``, or all keys together, were asked for so many times."""
        while (self.fetched.total() if key is None else self.fetched[key]) < times:
            await self._asked.wait()

    async def fetch(self, key: str) -> Blob | None:
        """See ``Store.fetch``."""
        self.fetched[key] += 1
        self._asked.set()
        self._asked = asyncio.Event()
        await self._open.wait()
        self._raise_failure()
        blob = await self._store.fetch(key)
        if blob is None or self.truncate_to is None or len(blob.data) <= self.truncate_to:
            return blob
        version = f"{blob.version} cut to {self.truncate_to}"
        return Blob(key, blob.data[: self.truncate_to], version)

    async def scan(self) -> AsyncGenerator[Sequence[StoredFile], None]:
        """See ``Store.scan``. A truncated file keeps the size and version of the whole."""
        self.listed += 1
        await self._open.wait()
        async with aclosing(self._store.scan()) as batches:
            self._raise_failure()
            async for batch in batches:
                yield batch
                self._raise_failure()

    async def watch(self) -> AsyncGenerator[Change, None]:
        """See ``Store.watch``."""
        self.watched += 1
        async with aclosing(self._store.watch()) as changes:
            while True:
                self._raise_failure()
                change = asyncio.ensure_future(anext(changes))
                broken = asyncio.ensure_future(self._broken.wait())
                try:
                    await asyncio.wait((change, broken), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    change.cancel()
                    broken.cancel()
                    await asyncio.gather(change, broken, return_exceptions=True)
                if change.cancelled():  # and its generator is over, also if all is well again
                    raise self._failed(self._latest_failure)
                yield change.result()

    async def close(self) -> None:
        """See ``Store.close``."""
        self.release()
        await self._store.close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failed(self._failure)

    def _failed(self, kind: type[StoreError]) -> StoreError:
        return kind(self.url, f"{self.url} was told to fail.")


class ManualClock:
    """Both clocks of a provider, turned by hand."""

    def __init__(self, *, wall: float | None = None) -> None:
        """Start the clocks.

        Args:
            wall: seconds since the epoch; ``None``: the real time, as of certificates
                that are made now.
        """
        self._monotonic = 0.0
        self._wall = time.time() if wall is None else wall

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced."""
        return self._monotonic

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._wall += seconds


def make_key(key_type: KeyType) -> PrivateKey:
    """Make a private key. RSA takes a tenth of a second (2048 bits) to seconds (4096)."""
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "ec-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ec-p384":
        return ec.generate_private_key(ec.SECP384R1())
    if key_type not in get_args(KeyType):
        raise ValueError(f"{key_type!r} is none of {', '.join(get_args(KeyType))}.")
    return rsa.generate_private_key(65_537, int(key_type.removeprefix("rsa-")))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pattern(name: str) -> str:
    if name.startswith("*."):
        return "*." + HostName.from_unicode(name[2:])
    return str(HostName.from_unicode(name))


def _ca_builder(
    name: x509.Name, key: PrivateKey, now: datetime, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CA_LIFE)  # leaves that expired long ago fit in, too
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued_by(key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest)
