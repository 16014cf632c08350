"""What speaks against publishing a credential, and what is worth knowing about it. No I/O.

That the key belongs to the certificate, that the chain is in order and the certificate one for
TLS servers, ``credential.decode`` has made sure of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from centcert.admin.facts import called, printable
from centcert.errors import NameRefused
from centcert.names import HostName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from centcert.admin.intake import Given
    from centcert.credential import Credential


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that speaks against publishing.

    Attributes:
        sentence: what is wrong and what to do.
        yields: whether an administrator who insists may go on all the same.
    """

    sentence: str
    yields: bool = False


@dataclass(frozen=True, slots=True)
class CoveredNames:
    """What a certificate says it is for.

    Attributes:
        patterns: host names and ``*.`` with a host name, as ``names.pattern_of`` has them.
        skipped: the others, in words: no client asks for them by name.
    """

    patterns: tuple[str, ...]
    skipped: tuple[str, ...]


def covered_names(certificate: x509.Certificate) -> CoveredNames:
    """Read the subjectAltName of a certificate; the common name is none (RFC 9525 §2)."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return CoveredNames((), ())
    patterns: dict[str, None] = {}
    skipped = []
    for name in san:
        pattern = _pattern(name.value) if isinstance(name, x509.DNSName) else None
        if pattern is None:
            skipped.append(_in_words(name))
        else:
            patterns[pattern] = None
    return CoveredNames(tuple(patterns), tuple(skipped))


def parse_pattern(text: str) -> str:
    """Read a host name or ``*.`` with a host name, as a person writes it.

    Raises:
        NameRefused: it is neither.
    """
    if text.startswith("*."):
        return "*." + HostName.from_unicode(text[2:])
    return str(HostName.from_unicode(text))


def covers(credential: Credential, pattern: str) -> bool:
    """Say whether a certificate may be published as ``pattern``."""
    if pattern.startswith("*."):
        return pattern in credential.patterns
    return credential.covers(HostName(pattern))


def objections(given: Given, now: float) -> Iterator[Objection]:
    """Say what speaks against publishing a credential, whatever the store holds.

    Args:
        given: the credential.
        now: seconds since the epoch.
    """
    credential, source = given.credential, given.source
    if not covered_names(credential.certificate).patterns:
        yield Objection(
            f"{source}: its certificate names no host in its subjectAltName, and clients do not"
            " look at the common name: have it issued again with the names."
        )
    if not given.is_complete and not credential.issuers:
        wanted = called(credential.certificate.issuer) or "its issuer"
        yield Objection(
            f"{source}: the certificate of {wanted} is missing, without which clients cannot verify"
            " this one: give the CA's intermediate certificate too, or, if that is the root"
            " itself, the root's."
        )
    yield from _about_dates(credential.certificate, "its certificate", source, now)
    for issuer in credential.issuers:
        yield from _about_dates(issuer, f"{called(issuer.subject)} in its chain", source, now)


def about_what_is_there(given: Given, there: Credential) -> Iterator[Objection]:
    """Say what speaks against putting a credential in the place of another one.

    Older is what was issued earlier. That a certificate ends earlier is no fault: those of
    today live for 90 days and replace those of yesterday that lived for a year.
    """
    if given.credential.not_before < there.not_before:
        yield Objection(
            f"{given.source}: {there.key} in the store was issued later,"
            f" {day(there.not_before)}, than this one, {day(given.credential.not_before)}: publish"
            " the newer one, or say --force.",
            yields=True,
        )


def remarks(given: Given, there: Sequence[Credential]) -> Iterator[str]:
    """Say what is no fault, but may be a mistake."""
    credential = given.credential
    if credential.issuers and not given.is_complete:
        root = called(credential.issuers[-1].issuer) or "an unnamed issuer"
        yield f"its chain ends at {root}, which has to be a root that clients have"
    earlier = [one for one in there if one.not_after > credential.not_after]
    if earlier:
        one = max(earlier, key=lambda one: one.not_after)
        yield f"it ends earlier than {one.key}, which is good until {day(one.not_after)}"


def day(seconds: float) -> str:
    """Write seconds since the epoch as a day, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _about_dates(
    certificate: x509.Certificate, what: str, source: str, now: float
) -> Iterator[Objection]:
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if now > ends:
        yield Objection(
            f"{source}: {what} expired on {day(ends)}: have it renewed, or say --force.",
            yields=True,
        )
    elif now < begins:
        yield Objection(
            f"{source}: {what} is not valid before {day(begins)}: publish it then, or say --force.",
            yields=True,
        )


def _pattern(text: str) -> str | None:
    """Return a dNSName as a pattern that a store has keys for, if it is one."""
    try:
        return parse_pattern(text) if text.isascii() else None
    except NameRefused:
        return None


def _in_words(name: x509.GeneralName) -> str:
    kinds = {
        x509.DNSName: "DNS name",
        x509.IPAddress: "IP address",
        x509.RFC822Name: "e-mail address",
        x509.UniformResourceIdentifier: "URI",
    }
    kind = kinds.get(type(name))
    return "a name of another kind" if kind is None else f"{kind} {printable(str(name.value))}"
