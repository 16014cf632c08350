from __future__ import annotations

import unicodedata

import pytest

from centcert.admin.inventory.reading import is_certificate_file
from centcert.admin.inventory.spelling import right_key


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("www.x.example.pfx.pfx", "www.x.example.pfx", "it has a second suffix"),
        ("www.x.example.pem.pfx", "www.x.example.pem", "it has a second suffix"),
        ("*.x.example.pfx", "_.x.example.pfx", "a wildcard's file begins with _ in place of *"),
        (
            "WWW.x.example.PFX",
            "www.x.example.pfx",
            "it has capital letters, and this store tells them from small ones",
        ),
        (
            "BÜCHER.example.pfx",
            "bücher.example.pfx",
            "it has capital letters, and this store tells",
        ),
        (
            unicodedata.normalize("NFD", "bücher.example.pfx"),
            "bücher.example.pfx",
            "its letters are composed of two characters each",
        ),
        ("www.x.example.p12", "www.x.example.pfx", "its suffix is .p12"),
        ("www.x.example..pfx", "www.x.example.pfx", "it ends in a dot before its suffix"),
        ("www.x.example.pfx.", "www.x.example.pfx", "it ends in a dot"),
        ("www.x.example .pfx", "www.x.example.pfx", "it has blanks"),
        ("www.x.example.pfx ", "www.x.example.pfx", "it has blanks"),
        ("www.x.example - Copy.pfx", "www.x.example.pfx", "it is named like a copy"),
        ("www.x.example (1).pfx", "www.x.example.pfx", "it is named like a copy"),
    ],
)
def test_a_near_miss_is_put_right(key: str, right: str, wrong: str):
    found = right_key(key)
    assert found is not None
    assert found[0] == right
    assert found[1][-1].startswith(wrong)
    assert is_certificate_file(key)


def test_all_that_is_wrong_is_said():
    assert right_key("*.X.example.p12") == (
        "_.x.example.pfx",
        (
            "it has capital letters, and this store tells them from small ones",
            "its suffix is .p12",
            "a wildcard's file begins with _ in place of *",
        ),
    )


@pytest.mark.parametrize(
    "key",
    [
        *(
            "www.x.example.pfx",
            "_.x.example.pem",
            "bücher.example.pfx",
            "xn--bcher-kva.example.pfx",
        ),
        *("localhost.pfx", "pfx.example.pfx", "a.pem.example.pfx", "my_host.example.pfx"),
    ],
)
def test_what_is_right_is_let_be(key: str):
    assert right_key(key) is None
    assert is_certificate_file(key)


@pytest.mark.parametrize("key", ["certificate 2026.txt.pfx", "a@b.pfx", "_.pfx", "*.pfx", "..pfx"])
def test_of_nonsense_nothing_is_made(key: str):
    found = right_key(key)
    assert found is None or found[0] == "certificate2026.txt.pfx"


@pytest.mark.parametrize(
    "key",
    [
        *("readme.txt", "www.x.example.pfx.previous", "centcert-12.staged", "pfx", "key.der"),
        *(".www.x.example.pfx", "~$www.x.example.pfx", ".pfx", "www.x.example.cer"),
    ],
)
def test_other_files_are_others(key: str):
    assert not is_certificate_file(key)
