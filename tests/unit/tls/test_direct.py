from __future__ import annotations

from types import SimpleNamespace

import pytest
from OpenSSL import SSL

from centcert.tls import direct
from centcert.tls.direct import DirectSessions, best_sessions
from centcert.tls.session import Sessions


class Lacking:
    """A part of pyOpenSSL without one of its names."""

    def __init__(self, whole: object, gone: str) -> None:
        self._whole, self._gone = whole, gone

    def __getattr__(self, name: str) -> object:
        if name == self._gone:
            raise AttributeError(name)
        return getattr(self._whole, name)


def test_the_pyopenssl_of_the_lock_file_has_everything_in_its_place():
    assert type(best_sessions()) is DirectSessions


@pytest.mark.parametrize("gone", [None, "_lib", "_ffi", "_raise_current_error"])
def test_one_without_its_library_in_reach_is_used_as_it_is_published(
    monkeypatch: pytest.MonkeyPatch, gone: str | None
):
    monkeypatch.setattr(direct, "_INSIDES", Lacking(direct._INSIDES, gone or "nothing"))
    assert type(best_sessions()) is (DirectSessions if gone is None else Sessions)


@pytest.mark.parametrize("gone", [None, "BIO_read", "SSL_get_error", "SSL_new", "d2i_X509_bio"])
def test_so_is_one_that_lacks_a_function(monkeypatch: pytest.MonkeyPatch, gone: str | None):
    insides = direct._INSIDES
    parts = SimpleNamespace(
        _lib=Lacking(insides._lib, gone or "nothing"),
        _ffi=insides._ffi,
        _raise_current_error=insides._raise_current_error,
    )
    monkeypatch.setattr(direct, "_INSIDES", parts)
    assert type(best_sessions()) is (DirectSessions if gone is None else Sessions)


def test_so_is_one_whose_connections_have_another_way_to_fail(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(SSL.Connection, "_raise_ssl_error")
    assert type(best_sessions()) is Sessions


def test_so_is_one_whose_connections_have_more_to_them(monkeypatch: pytest.MonkeyPatch):
    made = SSL.Connection.__init__

    def made_with_more(self: SSL.Connection, context: SSL.Context, socket: None = None) -> None:
        made(self, context, socket)
        vars(self)["_novelty"] = None

    monkeypatch.setattr(SSL.Connection, "__init__", made_with_more)
    assert type(best_sessions()) is Sessions
