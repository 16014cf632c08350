"""Set up the store that front ends use: enable, set, clear, disable, and tell what is set.

What the cmdlets ``*-WebCentralCertProvider`` do on IIS. New settings are tried before
they are saved; a typed secret is written to a file of its own, which the settings name.
Of several commands at once each does all of its change before the next one reads the file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from centcert.admin.secrets import check_secret, read_secret, secret_file, write_secret
from centcert.admin.settings_draft import SettingsDraft
from centcert.admin.settings_lock import sole_change
from centcert.admin.store_trial import Found, try_store
from centcert.errors import SettingsError
from centcert.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from centcert.admin.settings import StoreSettings
    from centcert.admin.settings_draft import Value
    from centcert.stores import Account

CREDENTIAL: Final = ("username", "password_file", "keytab")
KEY_PASSWORD: Final = ("key_password_files",)
EVERYTHING: Final = ("enabled", "url", *CREDENTIAL, *KEY_PASSWORD)

_SECRET_FILES: Final = ("password_file", "keytab", "key_password_files")


@dataclass(frozen=True, slots=True)
class StoreChange:
    """What is to be set; what is left out stays as it is.

    Attributes:
        settings: of ``[store]``, as the settings file writes them.
        password: the account's, typed.
        key_password: of the private keys, typed; it takes the place of those there are.
    """

    settings: Mapping[str, Value] = field(default_factory=dict)
    password: bytes | None = field(default=None, repr=False)
    key_password: bytes | None = field(default=None, repr=False)


class Secret(msgspec.Struct, frozen=True):
    """Where a secret comes from.

    Attributes:
        setting: ``password_file``, ``keytab`` or ``key_password_files``.
        source: as the settings file names it.
        file: the file that this is.
        problem: why it cannot be read here and now; ``None``: it can.
    """

    setting: str
    source: str
    file: str
    problem: str | None


class StoreSetup(msgspec.Struct, frozen=True):
    """What is set, and no secret.

    Attributes:
        file: the settings file.
        enabled: whether front ends use the store.
        url: where it is; ``None``: nowhere.
        username: who reads it, if that is a share.
        secrets: where they come from.
        problem: why no front end can use these settings; ``None``: they are in order.
    """

    file: str
    enabled: bool
    url: str | None
    username: str | None
    secrets: tuple[Secret, ...]
    problem: str | None


def store_setup(path: Path) -> StoreSetup:
    """Tell what the settings file says of the store.

    Raises:
        SettingsError: it cannot be read, or is not TOML.
    """
    draft = SettingsDraft(path)
    problem = None
    try:
        draft.checked()
    except SettingsError as error:
        problem = str(error)
    store = draft.store
    return StoreSetup(
        file=str(path),
        enabled="url" in store and store.get("enabled", True) is not False,
        url=_text(store.get("url")),
        username=_text(store.get("username")),
        secrets=tuple(_secret(*named) for named in _named_secrets(store)),
        problem=problem,
    )


async def change_store(
    path: Path, change: StoreChange, *, enable: bool, trial: bool
) -> Found | None:
    """Change the store's settings, and with ``enable`` have front ends use it.

    Args:
        path: the settings file; it is made if it is not there.
        change: what to set.
        enable: whether to enable the store; else that stays as it is.
        trial: whether to try the new settings first; if that fails, nothing is saved.

    Returns:
        What was found in the store, if it was tried.

    Raises:
        SettingsError: the settings are wrong, or cannot be saved.
        StoreError: the store gave no answer.
    """
    async with sole_change(path):
        draft = SettingsDraft(path)
        values = _absolute(change.settings)
        typed = _place_typed(change, values, draft)
        for given, other in (("password_file", "keytab"), ("keytab", "password_file")):
            if values.get(given) is not None:
                values.setdefault(other, None)  # an account has one secret; both given is an error
        if enable and "enabled" in draft.store:
            values["enabled"] = True
        draft.change(values)
        settings = draft.checked()
        account = _account(settings, typed)
        open_store(settings.url, account=account)  # asks nothing yet, but knows what is no URL
        found = None
        if trial:
            _read_secrets(settings, typed)
            found = await try_store(settings.url, account)
        for file, secret in typed.items():
            write_secret(file, secret)
        draft.save()
        return found


async def disable_store(path: Path) -> None:
    """Have front ends ask the store for nothing; its settings stay.

    Raises:
        SettingsError: no store is set, or the settings cannot be saved.
    """
    async with sole_change(path):
        draft = SettingsDraft(path)
        draft.checked()
        draft.change({"enabled": False})
        draft.save()


async def clear_store(path: Path, settings: tuple[str, ...]) -> tuple[Path, ...]:
    """Take settings of the store away, and the files of secrets that ``change_store`` made.

    Args:
        path: the settings file.
        settings: ``CREDENTIAL``, ``KEY_PASSWORD``, both, or ``EVERYTHING``.

    Returns:
        The files that were removed.

    Raises:
        SettingsError: they cannot be saved; nothing was removed then.
    """
    async with sole_change(path):
        draft = SettingsDraft(path)
        before = {secret_file(source) for _, source in _named_secrets(draft.store)}
        draft.change(dict.fromkeys(settings))
        draft.save()
        after = {secret_file(source) for _, source in _named_secrets(draft.store)}
        own = {_own_secret(path, "password"), _own_secret(path, "key-password")}
        removed = []
        for file in sorted((before - after) & own):
            with suppress(FileNotFoundError):
                file.unlink()
                removed.append(file)
        with suppress(OSError):  # it is not empty, or not there
            _own_secret(path, "").rmdir()
        return tuple(removed)


# --- below ------------------------------------------------------------------------


def _place_typed(
    change: StoreChange, values: dict[str, Value | None], draft: SettingsDraft
) -> dict[Path, bytes]:
    """Say in ``values`` which files will hold the typed secrets; return them by file.

    A secret goes where the settings say that it is, if that is one place.
    """
    typed: dict[Path, bytes] = {}
    if change.password is not None:
        named = values.get("password_file") or draft.store.get("password_file")
        source = str(named or _own_secret(draft.path, "password"))
        values["password_file"] = source
        typed[secret_file(source)] = change.password
    if change.key_password is not None:
        named = values.get("key_password_files") or draft.store.get("key_password_files")
        match named:
            case [str(only)]:
                source = only
            case _:
                source = str(_own_secret(draft.path, "key-password"))
        values["key_password_files"] = [source]
        typed[secret_file(source)] = change.key_password
    for secret in typed.values():
        check_secret(secret)
    return typed


def _account(settings: StoreSettings, typed: Mapping[Path, bytes]) -> Account | None:
    account, file = settings.account(), settings.password_file
    password = None if file is None else typed.get(file)
    if account is None or password is None:
        return account
    return replace(account, password=partial(bytes, password))


def _read_secrets(settings: StoreSettings, typed: Mapping[Path, bytes]) -> None:
    """See that every password can be read; the store would tell it in its own way, and late."""
    for file in (settings.password_file, *settings.key_password_files):
        if file is not None and file not in typed:
            read_secret(file)


def _absolute(settings: Mapping[str, Value]) -> dict[str, Value | None]:
    """Return the settings with paths that mean the same from any folder."""
    made: dict[str, Value | None] = dict(settings)
    for setting, value in settings.items():
        if isinstance(value, list):
            made[setting] = [_absolute_path(one) for one in value]
        elif isinstance(value, str) and setting in {"url", *_SECRET_FILES}:
            made[setting] = _absolute_path(value)
    return made


def _absolute_path(text: str) -> str:
    is_path = text and ":" not in text.partition("/")[0] and not text.startswith("\\\\")
    return os.path.abspath(text) if is_path else text  # noqa: PTH100  a link may be swapped


def _own_secret(settings: Path, name: str) -> Path:
    """Return where a typed secret is kept: beside the settings."""
    return Path(os.path.abspath(settings)).parent / "secrets" / name  # noqa: PTH100  as above


def _named_secrets(store: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for setting in _SECRET_FILES:
        value = store.get(setting)
        for source in value if isinstance(value, list) else [value]:
            if isinstance(source, str):
                yield setting, source


def _secret(setting: str, source: str) -> Secret:
    file, problem = source, None
    try:
        path = secret_file(source)
        file = str(path)
        if setting == "keytab":  # its content is Kerberos' own
            with path.open("rb"):
                pass
        else:
            read_secret(path)
    except SettingsError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{file} cannot be read: {error.strerror}."
    return Secret(setting, source, file, problem)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
