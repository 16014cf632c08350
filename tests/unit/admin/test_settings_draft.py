"""A program changes a person's settings file: what it does not mean to change stays."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from centcert.admin import settings_file
from centcert.admin.settings_draft import SettingsDraft
from centcert.admin.settings_file import read_store, settings_file_to_write
from centcert.errors import SettingsError

WRITTEN = """\
# The farm of Contoso.
[limits]
grace = "5 s" # short

[store]  # where they are
url = "/srv/one"   # until May
# the next line is for the auditors
max_names = 7
refresh = "1 min"

# Who listens.
[[listen]]
address = ":443"
to = "a:80"
"""


def changed(path: Path, text: str, **values: str | bool | list[str] | None) -> str:
    path.write_bytes(text.encode())
    draft = SettingsDraft(path)
    draft.change(values)
    draft.save()
    after = path.read_bytes().decode()
    expected = tomllib.loads(text).get("store", {}) | values
    wanted = {name: value for name, value in expected.items() if value is not None}
    assert tomllib.loads(after)["store"] == draft.store == wanted
    return after


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "centcert.toml"


def test_comments_order_and_layout_stay(path: Path):
    after = changed(
        path,
        WRITTEN,
        url="/srv/two",
        max_names=None,
        key_password_files=["/a", "/b"],
        enabled=False,
    )
    assert after == WRITTEN.replace("/srv/one", "/srv/two").replace(
        'max_names = 7\nrefresh = "1 min"\n',
        'refresh = "1 min"\nkey_password_files = ["/a", "/b"]\nenabled = false\n',
    )


def test_nothing_to_change_changes_nothing(path: Path):
    assert changed(path, WRITTEN, url="/srv/one", username=None) == WRITTEN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[store]\nurl = "/srv"\n'),
        ("[store]", '[store]\nurl = "/srv"\n'),
        ('[store]\nurl="/old"', '[store]\nurl="/srv"'),
        ("[store]\nmax_names=7", '[store]\nmax_names=7\nurl = "/srv"\n'),
        ('store.url = "/old" # a\n[limits]\n', 'store.url = "/srv" # a\n[limits]\n'),
        ("store.max_names = 7\n\n# b\n", 'store.max_names = 7\nstore.url = "/srv"\n\n# b\n'),
        ('store = {url = "/old"}\n', 'store = {url = "/srv"}\n'),
        ('[store]\r\nurl = "/old"\r\n\r\n', '[store]\r\nurl = "/srv"\r\n\r\n'),
        (
            'store.max_names = 7\nother = 1\nstore.refresh = "1 s"\n',
            'store.max_names = 7\nstore.url = "/srv"\nother = 1\nstore.refresh = "1 s"\n',
        ),
        ("[limits]\nwaiting = 7\n", '[limits]\nwaiting = 7\n\n[store]\nurl = "/srv"\n'),
    ],
)  # fmt: skip
def test_every_layout_of_the_table_is_kept(path: Path, before: str, after: str):
    assert changed(path, before, url="/srv") == after


def test_a_change_that_would_not_be_read_back_is_not_saved(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """tomlkit edits text, and has not always edited it rightly."""
    path.write_text(WRITTEN, encoding="utf-8")
    draft = SettingsDraft(path)
    draft.change({"url": "/srv/two"})
    monkeypatch.setattr("tomlkit.dumps", lambda _: WRITTEN)
    with pytest.raises(SettingsError) as refused:
        draft.save()
    assert str(refused.value).startswith(f"{path}: [store] is laid out so that only a person can")
    assert path.read_text(encoding="utf-8") == WRITTEN


def test_a_new_file_says_what_it_is(path: Path):
    draft = SettingsDraft(path.parent / "a" / "b" / path.name)
    draft.change({"url": "/srv"})
    draft.save()
    assert draft.path.read_text(encoding="utf-8") == (
        "# Settings of Centcert. No secret is in them: they name the files that hold one.\n\n"
        '[store]\nurl = "/srv"\n'
    )
    assert draft.path.stat().st_mode & 0o777 == 0o644
    assert read_store(draft.path, {}).url == "/srv"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[store\n", " is not TOML: "),
        (b"\xff\n", " is not TOML: "),
        (b"store = 7\n", ": store is a table: write it as [store]."),
    ],
)
def test_what_is_no_settings_file_is_refused(path: Path, text: bytes, sentence: str):
    path.write_bytes(text)
    with pytest.raises(SettingsError) as refused:
        SettingsDraft(path)
    assert str(refused.value).startswith(f"{path}{sentence}")


def test_what_is_not_right_is_not_saved(path: Path):
    path.write_text(WRITTEN, encoding="utf-8")
    draft = SettingsDraft(path)
    draft.change({"username": "reader"})
    with pytest.raises(SettingsError, match="Username, password_file and keytab are for a share"):
        draft.checked()
    assert path.read_text(encoding="utf-8") == WRITTEN


def test_a_file_is_made_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CENTCERT_CONFIG", "")
    monkeypatch.setattr(settings_file, "SYSTEM_FILE", tmp_path / "etc" / "centcert.toml")
    own = tmp_path / "centcert" / "centcert.toml"
    for user, made in ((0, tmp_path / "etc" / "centcert.toml"), (1000, own)):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        assert settings_file_to_write(None) == made
    monkeypatch.setattr("os.geteuid", lambda: 0)
    own.parent.mkdir()
    own.touch()
    assert settings_file_to_write(None) == own, "the one that is read is the one to change"
    assert settings_file_to_write(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("CENTCERT_CONFIG", "/y")
    assert settings_file_to_write(None) == Path("/y")
