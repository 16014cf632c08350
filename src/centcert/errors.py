"""Every error of Centcert, each with what its callers need to decide.

Absence is an answer and not in this module's tree of store errors: a store that
does not hold a key answers ``None``. A store that cannot be asked, one that
denies, and a blob that is bad are three different things.

No error ever carries key bytes, a password or a raw ClientHello.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import ClassVar


class Alert(IntEnum):
    """The TLS alerts that Centcert sends itself (RFC 8446 §6.2, RFC 7301 §3.2)."""

    UNEXPECTED_MESSAGE = 10
    RECORD_OVERFLOW = 22
    ILLEGAL_PARAMETER = 47
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    MISSING_EXTENSION = 109
    UNRECOGNIZED_NAME = 112
    NO_APPLICATION_PROTOCOL = 120


class CentcertError(Exception):
    """The root. ``str()`` is one sentence that a person can act on.

    Attributes:
        code: the class's name for machines: ``unknown-name``.
        alert: what a TLS client is told when this ends its handshake.
        http_status: what an HTTP caller (Caddy, the console) is told.
        exit_code: what a command ends with: 1 a failed operation, 2 wrong usage.
        retryable: whether the same call may succeed a moment later.
    """

    code: ClassVar[str] = "centcert-error"
    alert: Alert = Alert.INTERNAL_ERROR
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    @property
    def alert_name(self) -> str | None:
        """The name of ``alert`` (RFC 8446 §6); ``None``: TLS itself says one, or none is sent."""
        return self.alert.name.lower()


class SettingsError(CentcertError):
    """A setting, an option or a secret's file is wrong; nothing was changed."""

    exit_code = 2


class PublishRefused(CentcertError):
    """What was given cannot be published, or nothing can be done with it; nothing was changed."""


class NodeUnreachable(CentcertError):
    """No running node answers at its control socket, or none that this user may ask."""

    def __init__(self, path: str, sentence: str | None = None) -> None:
        super().__init__(
            sentence
            or f"No running node answers at {path}: start one with `centcert serve`, or name its"
            " socket with --control."
        )
        self.path = path


class Overloaded(CentcertError):
    """A bound of this node is reached; the caller is refused at once, not queued for ever."""

    http_status = 503
    retryable = True


class Closing(CentcertError):
    """The node is stopping, or changes its store; the next one asked will answer."""

    http_status = 503
    retryable = True

    def __init__(self) -> None:
        super().__init__("This node is closing its store: ask again.")


# --- what a client asks for ---------------------------------------------------


class HelloRefused(CentcertError):
    """The ClientHello cannot be answered; ``alert`` says why in the protocol's words."""

    http_status = 400

    def __init__(self, alert: Alert, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert


class NameRefused(CentcertError, ValueError):
    """The text is not a host name (RFC 6066 §3, RFC 9525 §2)."""

    alert = Alert.UNRECOGNIZED_NAME
    http_status = 400
    exit_code = 2


class UnknownName(CentcertError):
    """The store holds no file for this name."""

    alert = Alert.UNRECOGNIZED_NAME
    http_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"The store holds no certificate for {name}.")
        self.name = name


class HandshakeFailed(CentcertError):
    """The TLS handshake failed after the hello; TLS itself has an alert ready to be sent."""

    http_status = 400
    alert_name = None


class SessionBroken(CentcertError):
    """An established TLS connection cannot go on; TLS itself has an alert ready to be sent."""

    http_status = 400


class CredentialUnusable(CentcertError):
    """TLS cannot serve with this credential, though it passed its own checks."""


class NoServerName(CentcertError):
    """The client sent no server name, and there is no default (RFC 8446 §9.2)."""

    alert = Alert.MISSING_EXTENSION
    http_status = 400

    def __init__(self) -> None:
        super().__init__("The client sent no server name.")


class CredentialExpired(CentcertError):
    """The name's certificate is outside its dates, and the policy is to refuse that."""

    http_status = 503

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"{key}: the certificate of {name} is outside its dates: renew it.")
        self.name = name
        self.key = key


# --- the store cannot answer --------------------------------------------------


class StoreError(CentcertError):
    """A store gave no answer. Never remembered as one.

    Attributes:
        store: the store's URL, without any secret.
    """

    http_status = 503

    def __init__(self, store: str, sentence: str) -> None:
        super().__init__(sentence)
        self.store = store


class StoreUnavailable(StoreError):
    """The store cannot be reached, does not answer in time, or broke off."""

    retryable = True


class StoreBusy(StoreUnavailable):
    """The store is there but has no room now."""


class StoreDisabled(StoreUnavailable):
    """The store is disabled by the settings; nothing is asked of it."""

    retryable = False

    def __init__(self, store: str) -> None:
        super().__init__(
            store, f"The store {store} is disabled: `centcert enable` has it used again."
        )


class FileBusy(StoreBusy):
    """A writer holds the file or changes it, and the store is well: it is read a moment later."""


class StoreUnwatchable(StoreError):
    """The store is well, and does not tell of changes, or not of all: they are polled for."""


class StoreDenied(StoreError):
    """The store refuses the account this file or this folder."""


class StoreAuthenticationFailed(StoreDenied):
    """The store refuses the account itself. Trying again soon may lock it."""


class StoreInsecure(StoreError):
    """The store's server offers less protection than Centcert accepts."""


# --- a blob is bad ------------------------------------------------------------


class BadBlob(CentcertError):
    """A file that cannot be used as a credential; never replaces a good one.

    Attributes:
        key: the file's key in the store, for example ``www.contoso.com.pfx``.
    """

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(f"{key}: {sentence}")
        self.key = key
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[BadBlob], tuple[str, str]]:
        return type(self), (self.key, self.sentence)


class BlobTooLarge(BadBlob):
    """Larger than ``MAX_BLOB_BYTES``."""


class BlobDamaged(BadBlob):
    """Not a whole PKCS #12 or PEM file; perhaps its writer is not done yet."""


class BlobTooCostly(BadBlob):
    """Takes more time or memory to decode than a file may; its decoder was ended."""


class WrongPassword(BadBlob):
    """None of the store's key passwords opens the file."""


class UnsupportedEncryption(BadBlob):
    """The file is protected by an algorithm that Centcert cannot or will not read."""


class CertificateMissing(BadBlob):
    """No certificate in the file."""


class KeyMissing(BadBlob):
    """No private key in the file."""


class KeyMismatch(BadBlob):
    """The private key belongs to none of the file's certificates."""


class UnsupportedKey(BadBlob):
    """A key type or size that Centcert does not serve."""


class WrongUsage(BadBlob):
    """The certificate is not one for a TLS server."""


class WrongName(BadBlob):
    """The certificate does not cover the name that its file stands for."""
