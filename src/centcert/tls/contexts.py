"""The TLS policy of a listener, and a context for each credential that is in use.

A session begins on the one *base* context, which holds the policy and the keys of the
session tickets, and is switched to the credential's *leaf* context before its first
byte. So tickets resume after a leaf was dropped and built anew, and in every process
forked after the base was made; but never under another certificate. A base is
replaced in time, so that a stolen ticket key opens half a day's sessions and no more.

Most names are visited once and not soon again: a first visit does without a leaf, which
takes 0.3 ms and 27 KB, and without tickets, which nothing would bind to its certificate.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL

from centcert.errors import Alert, CredentialUnusable, HelloRefused, UnsupportedKey
from centcert.tls.direct import best_sessions
from centcert.tls.hello import TlsVersion
from centcert.tls.session import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cryptography.x509 import Certificate

    from centcert.credential import Credential
    from centcert.tls.session import Session, Sessions

MAX_LEAVES: Final = 1024
"""Leaf contexts kept: 27 KB each with a P-256 leaf and one issuer, so 27 MB when full."""

MAX_CHAINS: Final = 64
"""Contexts kept for first visits, one for each chain of issuers; likewise 27 KB each."""

BASE_S: Final = 12 * 3600.0
"""How long a base begins sessions. OpenSSL never changes ticket keys by itself; a client that
comes back with a ticket of the base before makes a full handshake, once."""

PREPARED: Final = 60
"""Bases made ahead for processes that must change together: a month of them."""

_CIPHERS_TLS_1_2: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9325 §4.2: forward secret, AEAD
_ENABLE_PARTIAL_WRITE: Final = 0x01  # SSL_CTX_set_mode(3); pyOpenSSL sets it and has no name


class ServerContexts:
    """Makes the sessions of one policy. Not for use by several threads.

    Groups, TLS 1.3 ciphers and signature algorithms are OpenSSL's own choice, which
    puts X25519MLKEM768 first where it has it.
    """

    __slots__ = (
        "_base",
        "_base_until",
        "_chains",
        "_clock",
        "_leaves",
        "_max_leaves",
        "_minimum_version",
        "_prepared",
        "_sessions",
    )

    def __init__(
        self,
        *,
        minimum_version: TlsVersion = TlsVersion.TLS_1_2,
        max_leaves: int = MAX_LEAVES,
        clock: Callable[[], float] = time.monotonic,
        sessions: Sessions | None = None,
    ) -> None:
        """Make the base context, and with it new ticket keys.

        Args:
            minimum_version: the oldest version to speak.
            max_leaves: how many leaf contexts are kept, the least recently used go first.
            clock: tells the seconds since any moment.
            sessions: begins them; ``None``: the cheapest kind.
        """
        self._sessions = sessions or best_sessions()
        self._minimum_version = minimum_version
        self._clock = clock
        self._base = _base_context(minimum_version)
        self._base_until = clock() + BASE_S
        self._prepared: deque[SSL.Context] = deque()
        # Each by whether it answers ALPN, too: a context that does asks Python at every offer.
        self._leaves: OrderedDict[tuple[Credential, bool], SSL.Context] = OrderedDict()
        self._max_leaves = max_leaves
        self._chains: OrderedDict[tuple[tuple[Certificate, ...], bool], SSL.Context] = OrderedDict()

    def session(
        self, credential: Credential, alpn: bytes | None, *, resumable: bool = True
    ) -> Session:
        """Begin a session that serves ``credential`` and agrees on ``alpn``.

        Args:
            credential: what is served. To put it into a context, for the first time or
                again after long, costs some 0.3 ms. A key or a leaf that is none is found here.
            alpn: what ``choose_alpn`` answered for this client.
            resumable: whether the session may resume another and be resumed.

        Raises:
            CredentialUnusable: OpenSSL will not serve with this certificate or key.
        """
        if self._clock() >= self._base_until:  # sessions under way keep the base they have
            self._change_base()
        answers = alpn is not None
        try:
            if resumable or (credential, answers) in self._leaves:
                session = self._sessions.begin(self._base, alpn)
                session.connection.set_context(self._leaf(credential, answers_alpn=answers))
            else:
                session = self._sessions.begin(
                    self._chain(credential.issuers, answers_alpn=answers), alpn
                )
                self._sessions.certify(session.connection, credential)
        except (SSL.Error, ValueError, UnsupportedKey) as error:
            raise CredentialUnusable(
                f"OpenSSL will not serve with this certificate: {reason_of(error)}."
            ) from error
        return session

    def prepare(self) -> None:
        """Make the bases of the next ``PREPARED`` changes now, for processes to be forked.

        They change at the same times to the same bases, so tickets go on to resume on any
        of them. Later, each makes its own.
        """
        if self._clock() >= self._base_until:
            self._change_base()
        while len(self._prepared) < PREPARED:
            self._prepared.append(_base_context(self._minimum_version))

    def _change_base(self) -> None:
        while self._clock() >= self._base_until:
            prepared = self._prepared
            self._base = prepared.popleft() if prepared else _base_context(self._minimum_version)
            self._base_until += BASE_S

    def _leaf(self, credential: Credential, *, answers_alpn: bool) -> SSL.Context:
        key = credential, answers_alpn
        leaf = self._leaves.get(key)
        if leaf is None:
            leaf = _leaf_context(credential, answers_alpn=answers_alpn)
            self._sessions.certify(leaf, credential)
            self._leaves[key] = leaf
            if len(self._leaves) > self._max_leaves:
                # Sessions under way keep their leaf alive themselves.
                self._leaves.popitem(last=False)
        else:
            self._leaves.move_to_end(key)
        return leaf

    def _chain(self, issuers: tuple[Certificate, ...], *, answers_alpn: bool) -> SSL.Context:
        key = issuers, answers_alpn
        context = self._chains.get(key)
        if context is None:
            context = _chain_context(self._minimum_version, issuers, answers_alpn=answers_alpn)
            self._chains[key] = context
            if len(self._chains) > MAX_CHAINS:
                self._chains.popitem(last=False)
        else:
            self._chains.move_to_end(key)
        return context


def choose_alpn(offered: Sequence[bytes], site: Sequence[bytes]) -> bytes | None:
    """Choose the first protocol of ``site`` that is ``offered`` (RFC 7301 §3.2).

    ``None``, which leaves ALPN out of the answer, if either side has none to speak of.

    Raises:
        HelloRefused: both sides name protocols and none is the same.
    """
    if not offered or not site:
        return None
    for protocol in site:
        if protocol in offered:
            return protocol
    raise HelloRefused(
        Alert.NO_APPLICATION_PROTOCOL,
        "The client offers none of this site's protocols:"
        f" {', '.join(protocol.decode('ascii', 'backslashreplace') for protocol in site)}.",
    )


def _base_context(minimum_version: TlsVersion) -> SSL.Context:
    """Make what sessions take over when they begin: all but what a leaf brings."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum_version)
    # Defaults of OpenSSL, said here because a system's openssl.cnf may say otherwise.
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # Tickets alone resume: a cache in memory would not be shared with other processes.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # idle connections give theirs back
    # A memory BIO takes everything, so one call writes all its records.
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    # 0-RTT stays off (max_early_data is 0 unless set): a replay is not ours to judge.
    return context


def _leaf_context(credential: Credential, *, answers_alpn: bool) -> SSL.Context:
    """Make what SSL_set_SSL_CTX(3) brings into a session, and nothing else: no certificate yet.

    Besides that this is the session id context, the ALPN callback and, easy
    to miss, the cipher list: OpenSSL asks the session's current context for it.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _bring(context, credential.issuers, answers_alpn=answers_alpn)
    # OpenSSL resumes a ticket only under an equal session id context, so a ticket is
    # good for this very certificate: not for another site's, not for its successor's.
    # The protocol need not be bound: it is agreed on anew at each resumption (RFC 7301
    # §3.1), and so is the server name (RFC 8446 §4.6.1).
    context.set_session_id(credential.fingerprint)
    return context


def _chain_context(
    minimum_version: TlsVersion, issuers: Iterable[Certificate], *, answers_alpn: bool
) -> SSL.Context:
    """Make what sessions with leaves of the same issuers share; each brings its own leaf."""
    context = _base_context(minimum_version)
    _bring(context, issuers, answers_alpn=answers_alpn)
    # A session id context is the context's, not the connection's: a ticket would resume
    # under any leaf of this chain. So none is taken, and what clients get resumes nowhere.
    context.set_options(SSL.OP_NO_TICKET)
    return context


def _bring(context: SSL.Context, issuers: Iterable[Certificate], *, answers_alpn: bool) -> None:
    context.set_cipher_list(_CIPHERS_TLS_1_2)
    for issuer in issuers:
        context.add_extra_chain_cert(issuer)
    if answers_alpn:
        # What choose_alpn has chosen for this client travels as the connection's app data.
        context.set_alpn_select_callback(lambda connection, _offered: connection.get_app_data())
