"""Find the settings file, read it strictly, and lay a command's options over it."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from centcert.admin.secrets import secret_file
from centcert.admin.settings import (
    ControlSettings,
    ListenSettings,
    Settings,
    StoreSettings,
    as_value_error,
)
from centcert.admin.units import Duration, Size
from centcert.errors import SettingsError
from centcert.names import HostName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from centcert.frontend import AppListener, Listener

SYSTEM_FILE: Final = Path("/etc/centcert/centcert.toml")

T = TypeVar("T")


def settings_file(option: Path | None) -> Path | None:
    """Find the settings file: the option, ``CENTCERT_CONFIG``, the system's, the user's own."""
    if option is not None:
        return option
    if named := os.environ.get("CENTCERT_CONFIG"):
        return Path(named)
    # Not Path.is_file(), which raises where one may not look into the system's folder.
    files = (SYSTEM_FILE, _own_file())
    return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113


def settings_file_to_write(option: Path | None) -> Path:
    """Find the settings file, or where one is to be made: root's is the system's."""
    return settings_file(option) or (SYSTEM_FILE if os.geteuid() == 0 else _own_file())


def control_socket_path(config: Path | None, option: Path | None) -> Path:
    """Find the control socket of the running node: the option, the settings file, the default.

    Raises:
        SettingsError: the settings file cannot be read, or its ``[control]`` table is wrong.
    """
    if option is not None:
        return option
    path = settings_file(config)
    if path is None:
        return ControlSettings().path()
    return _convert_table(read_toml(path), "control", path, ControlSettings).path()


def read_store(path: Path | None, options: Mapping[str, Any]) -> StoreSettings:
    """Read ``[store]`` alone, for a command that serves nothing.

    Args:
        path: the settings file; ``None``: there is none, the options say everything.
        options: by setting, as the file would write them; they win over it.

    Raises:
        SettingsError: something in it is wrong, or no store is named; the sentence names
            the file and setting.
    """
    raw = {} if path is None else read_toml(path)
    return store_settings({**table_of(raw, "store", path), **options}, path)


def store_settings(table: Mapping[str, Any], path: Path | None) -> StoreSettings:
    """Check what is, or is to be, the table ``[store]`` of the file.

    Raises:
        SettingsError: something in it is wrong, or no store is named; the sentence names
            the file and setting.
    """
    if "url" not in table:
        source = "there is no settings file" if path is None else f"{path} names none"
        raise SettingsError(f"Which store? Name it by --store: {source}.")
    return _convert_table({"store": table}, "store", path, StoreSettings)


def read_settings(path: Path | None, options: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Read the settings file, lay the command's options over it, and check the whole.

    Args:
        path: the file; ``None``: there is none, the options say everything.
        options: by table (``store``, ``listen``, ``limits``) and setting, as the file would
            write them. ``listen`` options apply to every listener; with an ``address``
            among them (a list), they describe all listeners there are.

    Raises:
        SettingsError: something in it is wrong; the sentence names the file and setting.
    """
    raw = {} if path is None else read_toml(path)
    for table in ("store", "limits", "workers", "control", "metrics", "log"):
        if options.get(table):
            raw[table] = {**table_of(raw, table, path), **options[table]}
    listen = dict(options.get("listen", {}))
    addresses = listen.pop("address", None)
    if addresses:
        raw["listen"] = [{"address": address, **listen} for address in addresses]
    elif listen and isinstance(raw.get("listen"), list):
        raw["listen"] = [{**one, **listen} for one in raw["listen"] if isinstance(one, dict)]
    return _convert(raw, Settings, "" if path is None else f"{path}: ")


def read_listeners(path: Path | None) -> list[Listener | AppListener]:
    """Read ``[[listen]]`` alone: the listeners, in no certain order; there may be none.

    Raises:
        SettingsError: something in it is wrong; the sentence names the file and setting.
    """
    raw = {} if path is None else read_toml(path)
    found = _convert({"listen": raw.get("listen", [])}, _Listeners, f"{path}: ")
    return [one.listener() if one.app is None else one.app_listener() for one in found.listen]


def site_option(text: str) -> dict[str, object]:
    """Read ``NAME=BACKEND[,alpn=PROTOCOL…][,proxy-protocol]`` as a file's table.

    Raises:
        SettingsError: it is not of that form.
    """
    name, equals, rest = text.partition("=")
    backend, *extras = rest.split(",")
    site: dict[str, object] = {"name": name, "to": backend}
    alpn = [extra.removeprefix("alpn=") for extra in extras if extra.startswith("alpn=")]
    if alpn:
        site["alpn"] = alpn
    for extra in extras:
        if extra == "proxy-protocol":
            site["proxy_protocol"] = True
        elif not extra.startswith("alpn="):
            equals = ""
    if not equals:
        raise SettingsError(
            f"{text!r} is not a site: write NAME=BACKEND[,alpn=PROTOCOL][,proxy-protocol]."
        )
    return site


class _Listeners(msgspec.Struct, frozen=True):
    listen: tuple[ListenSettings, ...]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file, whatever it says.

    Raises:
        SettingsError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.") from error


def table_of(raw: Mapping[str, Any], table: str, path: Path | None) -> dict[str, Any]:
    """Return a table of the file, empty if it is not there.

    Raises:
        SettingsError: it is no table.
    """
    found = raw.get(table, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: {table} is a table: write it as [{table}].")
    return found


def _own_file() -> Path:
    # Not Path.home(), which raises where an account has no home.
    own = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))  # noqa: PTH111
    return own / "centcert" / "centcert.toml"


def _convert_table(raw: dict[str, Any], table: str, path: Path | None, kind: type[T]) -> T:
    source = f"{table}: " if path is None else f"{path}: {table}: "
    return _convert(table_of(raw, table, path), kind, source)


def _convert(raw: dict[str, Any], kind: type[T], source: str) -> T:
    try:
        return msgspec.convert(raw, kind, dec_hook=_read_value)
    except msgspec.ValidationError as error:
        raise SettingsError(source + _sentence(str(error))) from None


def _read_value(kind: type, text: object) -> object:
    if not isinstance(text, str):
        raise ValueError(f"Expected `str`, got `{type(text).__name__}`")  # noqa: TRY004  msgspec's own words and way
    with as_value_error():
        if issubclass(kind, HostName):
            return kind.from_unicode(text)
        if issubclass(kind, Duration | Size):
            return kind.parse(text)
        if issubclass(kind, Path):
            return secret_file(text)
    raise NotImplementedError(kind)


_TYPES: Final = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _type_error(match: re.Match[str]) -> str:
    wanted = match[1].partition(" | ")[0]  # what follows is null, which TOML cannot say
    return f"it must be {_TYPES.get(wanted, wanted)}, not {_TYPES.get(match[2], match[2])}"


_MSGSPEC = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?", re.DOTALL)
_REWORDED: Final = (
    (re.compile(r"Object contains unknown field `(.*)`"), r"there is no setting `\1`"),
    (re.compile(r"Object missing required field `(.*)`"), r"the setting `\1` is missing"),
    (re.compile(r"Expected `array` of length >= 1"), "at least one is needed"),
    (re.compile(r"Expected `\w+` >= (\d+)"), r"it must be at least \1"),
    (re.compile(r"Expected `([\w| ]+)`, got `(\w+)`"), _type_error),
)


def _sentence(problem: str) -> str:
    match = _MSGSPEC.fullmatch(problem)
    what, where = (match["what"], match["where"]) if match else (problem, None)
    for pattern, words in _REWORDED:
        what = pattern.sub(words, what)
    what = what if what.endswith((".", ")")) else what + "."
    return f"{where}: {what}" if where else what[0].upper() + what[1:]
