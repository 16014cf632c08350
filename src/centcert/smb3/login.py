"""The account that a session is set up for, and how it proves itself.

The proofs are pyspnego's: NTLMv2 ([MS-NLMP]) from a password or its hash, in Python;
Kerberos ([MS-KILE], RFC 4120) from a keytab, through the system's library. A login
is a value for one call: nothing here keeps it.
"""

from __future__ import annotations

import asyncio
import importlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import spnego
from spnego.exceptions import SpnegoError

from centcert.smb3.errors import LoginUnusable

if TYPE_CHECKING:
    from pathlib import Path

_NT_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    r"""An account with its password, proven by NTLMv2.

    Attributes:
        username: ``user``, ``DOMAIN\\user`` or ``user@domain``.
        password: as a person types it.
    """

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HashLogin:
    r"""An account with the NT hash of its password, proven by NTLMv2. As secret as a password.

    Attributes:
        username: ``user``, ``DOMAIN\\user`` or ``user@domain``.
        nt_hash: 16 bytes ([MS-NLMP] 3.3.1 NTOWFv1).
    """

    username: str
    nt_hash: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.nt_hash) != _NT_HASH_BYTES:
            raise ValueError(f"An NT hash has {_NT_HASH_BYTES} bytes, not {len(self.nt_hash)}.")


@dataclass(frozen=True, slots=True)
class KeytabLogin:
    """An account with its key in a keytab file, proven by Kerberos.

    Attributes:
        principal: ``user@REALM``.
        keytab: an absolute path; the file is read at each connect.
    """

    principal: str
    keytab: Path


Login: TypeAlias = PasswordLogin | HashLogin | KeytabLogin


class Proof(Protocol):
    """One run of an authentication: tokens to and fro, then a key that both sides know."""

    async def step(self, challenge: bytes | None) -> bytes:
        """Return the token that answers ``challenge``; empty if nothing is left to say.

        Raises:
            LoginUnusable: there is no answer; a malformed challenge counts as well.
        """

    def session_key(self) -> bytes:
        """Return the key, once the server has accepted: 16 or 32 bytes.

        Raises:
            LoginUnusable: the server accepted before the proof was complete.
        """


def prove(login: Login, server_name: str) -> Proof:
    """Begin to prove ``login`` to the server of that name (service ``cifs``).

    Raises:
        LoginUnusable: the login cannot be used on this machine at all.
    """
    if isinstance(login, KeytabLogin):
        return _KerberosProof(login, server_name)
    return _NtlmProof(login, server_name)


class _NtlmProof:
    def __init__(self, login: PasswordLogin | HashLogin, server_name: str) -> None:
        credential: spnego.Credential
        if isinstance(login, HashLogin):
            credential = spnego.NTLMHash(login.username, nt_hash=login.nt_hash.hex())
        else:
            credential = spnego.Password(login.username, login.password)
        # use_ntlm: pyspnego's own Python, whatever libraries the machine has. It sends
        # NTLMv2 only, and its answer is bound to the server's challenge by a MIC.
        try:
            self._context = spnego.client(
                credential,
                hostname=server_name,
                service="cifs",
                protocol="ntlm",
                options=spnego.NegotiateOptions.use_ntlm | spnego.NegotiateOptions.session_key,
            )
        except SpnegoError as error:
            raise _unusable(error) from error

    async def step(self, challenge: bytes | None) -> bytes:
        # No thread: a millisecond of arithmetic, and no I/O.
        return _step(self._context, challenge)

    def session_key(self) -> bytes:
        return _session_key(self._context)


class _KerberosProof:
    def __init__(self, login: KeytabLogin, server_name: str) -> None:
        self._login = login
        self._server_name = server_name
        self._context: spnego.ContextProxy | None = None

    async def step(self, challenge: bytes | None) -> bytes:
        # The library asks the KDC over the network and has no deadline of its own. A
        # thread cannot be stopped, but the caller's deadline need not wait for it.
        return await asyncio.to_thread(self._step, challenge)

    def _step(self, challenge: bytes | None) -> bytes:
        if self._context is None:
            self._context = self._begin()
        return _step(self._context, challenge)

    def _begin(self) -> spnego.ContextProxy:
        try:
            # Not installed with Centcert: it needs the system's own library. Its errors
            # come through pyspnego as they are.
            krb5_error = importlib.import_module("krb5").Krb5Error
            return spnego.client(
                spnego.KerberosKeytab(str(self._login.keytab), self._login.principal),
                hostname=self._server_name,
                service="cifs",
                protocol="kerberos",
                options=spnego.NegotiateOptions.session_key,
            )
        except ImportError as error:
            raise LoginUnusable(
                "Kerberos needs the packages gssapi and krb5: install centcert[kerberos]."
            ) from error
        except SpnegoError as error:
            raise _unusable(error) from error
        except krb5_error as error:
            raise LoginUnusable(
                f"There is no Kerberos ticket for {self._login.principal}: {error}"
            ) from error

    def session_key(self) -> bytes:
        if self._context is None:
            raise LoginUnusable("The server accepted the account before it was proven.")
        return _session_key(self._context)


def _step(context: spnego.ContextProxy, challenge: bytes | None) -> bytes:
    # A challenge is a stranger's bytes, and pyspnego's reader of them raises what its
    # struct, its slices and its text decoding happen to raise.
    try:
        return context.step(challenge) or b""
    except SpnegoError as error:
        raise _unusable(error) from error
    except (struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoginUnusable("The server's challenge to the account is malformed.") from error


def _session_key(context: spnego.ContextProxy) -> bytes:
    if not context.complete:
        raise LoginUnusable("The server accepted the account before it was proven.")
    try:
        return context.session_key
    except SpnegoError as error:
        raise _unusable(error) from error


def _unusable(error: SpnegoError) -> LoginUnusable:
    return LoginUnusable(f"The account cannot be proven to the server: {error.message}")
