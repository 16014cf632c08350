"""Change the table ``[store]`` of a settings file; comments, order and layout stay."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import tomlkit
from tomlkit.items import Table

from centcert.admin.settings_file import read_toml, store_settings, table_of
from centcert.admin.whole_file import write_whole
from centcert.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from centcert.admin.settings import StoreSettings

Value: TypeAlias = str | bool | list[str]

_TABLE: Final = "store"
_NEW_FILE: Final = (
    "# Settings of Centcert. No secret is in them: they name the files that hold one.\n"
)


class SettingsDraft:
    """A settings file on its way to other contents; nothing is written before ``save``.

    Args:
        path: the file; it need not be there.

    Raises:
        SettingsError: it cannot be read, or is not TOML.

    Attributes:
        path: the file.
        store: its table ``[store]``, as it is to be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Mapping[str, Any] = {}
        self._document = tomlkit.parse(_NEW_FILE)
        if path.exists():
            self.store = table_of(read_toml(path), _TABLE, path)
            self._document = tomlkit.parse(path.read_bytes())

    def change(self, values: Mapping[str, Value | None]) -> None:
        """Give settings of ``[store]`` other values; ``None`` takes one away."""
        for setting, value in values.items():
            if value is None:
                self._remove(setting)
            elif self.store.get(setting) != value:
                self._put(setting, value)
        kept = {name: value for name, value in self.store.items() if name not in values}
        self.store = kept | {name: value for name, value in values.items() if value is not None}

    def checked(self) -> StoreSettings:
        """Return the store's settings as they are to be.

        Raises:
            SettingsError: something in them is wrong.
        """
        return store_settings(self.store, self.path)

    def save(self) -> None:
        """Write the file, in one go.

        Raises:
            SettingsError: it cannot be written, or is laid out so that it cannot be changed
                by a program; nothing was changed then.
        """
        text = tomlkit.dumps(self._document)
        if tomllib.loads(text).get(_TABLE, {}) != self.store:
            raise SettingsError(
                f"{self.path}: [store] is laid out so that only a person can change it: write its"
                " settings below one header [store]."
            )
        write_whole(self.path, text.encode())

    def _put(self, setting: str, value: Value) -> None:
        if _TABLE not in self._document:
            self._document[_TABLE] = tomlkit.table()
        table: Any = self._document[_TABLE]
        settings = [key for key, _ in table.value.body if key] if isinstance(table, Table) else []
        if setting in table or not settings:
            table[setting] = value
        else:  # tomlkit's own way is to put it behind the comment of what comes next
            table.value._insert_after(settings[-1], setting, tomlkit.item(value))  # noqa: SLF001

    def _remove(self, setting: str) -> None:
        table: Any = self._document.get(_TABLE, {})
        table.pop(setting, None)
