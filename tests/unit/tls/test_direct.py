from __future__ import annotations

from types import SimpleNamespace

import pytest
from OpenSSL import SSL

from centcert.tls import direct
from centcert.tls.direct import DirectSessions, best_sessions
from centcert.tls.session import Sessions


def test_the_pyopenssl_of_the_lock_file_has_everything_in_its_place():
    assert type(best_sessions()) is DirectSessions


@pytest.mark.parametrize("gone", ["_lib", "_ffi"])
def test_a_pyopenssl_without_its_library_in_reach_is_used_as_it_is_published(
    monkeypatch: pytest.MonkeyPatch, gone: str
):
    kept = {name: getattr(SSL, name) for name in ("_lib", "_ffi") if name != gone}
    monkeypatch.setattr(direct, "_INSIDES", SimpleNamespace(**kept))
    assert type(best_sessions()) is Sessions


@pytest.mark.parametrize("gone", ["BIO_read", "SSL_get_error", "SSL_new"])
def test_so_is_one_that_lacks_a_function(monkeypatch: pytest.MonkeyPatch, gone: str):
    insides = direct._INSIDES

    class Lacking:
        def __getattr__(self, name: str) -> object:
            if name == gone:
                raise AttributeError(name)
            return getattr(insides._lib, name)

    lacking = SimpleNamespace(_lib=Lacking(), _ffi=insides._ffi)
    monkeypatch.setattr(direct, "_INSIDES", lacking)
    assert type(best_sessions()) is Sessions


def test_so_is_one_whose_connections_are_made_of_other_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(SSL.Connection, "_raise_ssl_error")
    assert type(best_sessions()) is Sessions
