from __future__ import annotations

import pytest

from centcert.admin.inventory.file_warnings import FileWarning, Shelf, answered, warnings_of
from tests.unit.admin.inventory.made import DAY_S, NOW, readable, unreadable


def told(*files: object) -> dict[str, list[FileWarning]]:
    shelf = Shelf.of(files)  # type: ignore[arg-type]
    return {
        one.file.key: found  # type: ignore[attr-defined]
        for one in files
        if (found := list(warnings_of(one, shelf)))  # type: ignore[arg-type]
    }


def only(*files: object) -> tuple[str, str, str]:
    """The one warning there is: the file's key, the code and the sentence."""
    ((key, (warning,)),) = told(*files).items()
    return key, warning.code, warning.sentence


def test_a_store_in_order_warns_of_nothing():
    assert not told(
        readable("www.x.example.pfx", "www.x.example"),
        readable("_.y.example.pfx", "*.y.example"),
        readable("a.z.example.pfx", "a.z.example", "b.z.example"),
        readable("b.z.example.pfx", "a.z.example", "b.z.example"),
        unreadable("c.example.pfx"),
        unreadable("d.example.pfx"),
    )


def test_a_near_miss():
    assert only(readable("www.x.example.pfx.pfx", "www.x.example")) == (
        "www.x.example.pfx.pfx",
        "misnamed",
        "no client gets it, as it has a second suffix: rename it to www.x.example.pfx",
    )
    good = readable("www.x.example.pfx", "www.x.example")
    assert only(good, unreadable("www.x.example.p12")) == (
        "www.x.example.p12",
        "misnamed",
        (
            "no client gets it, as its suffix is .p12: remove it, or put it in the place of"
            " www.x.example.pfx"
        ),
    )
    assert only(unreadable("mail@x.example.pfx"))[2].startswith(
        "no client gets it, as its name is no host name's: call it <host name>.pfx"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x.example.pfx", "x.example.pem"),
        ("xn--bcher-kva.example.pfx", "bücher.example.pfx"),
        ("xn--bcher-kva.example.pem", "bücher.example.pfx"),
        ("_.x.example.pfx", "_.x.example.pem"),
    ],
)
def test_two_files_for_one_name(first: str, second: str):
    name = "*.x.example" if first.startswith("_") else first[:-4]
    for one, other in ((first, second), (second, first)):
        assert only(readable(one, name), readable(other, name)) == (
            second,
            "same-name",
            (
                f"{first} stands for the same name and comes first: this one answers only when that"
                " one is unusable or outside its dates, so remove one of them"
            ),
        )


def test_an_exact_file_beside_the_wildcards():
    assert only(
        readable("_.x.example.pfx", "*.x.example"),
        readable("www.x.example.pfx", "www.x.example"),
        readable("a.b.x.example.pfx", "a.b.x.example"),
        readable("x.example.pfx", "x.example"),
    ) == (
        "www.x.example.pfx",
        "hides-wildcard",
        (
            "it answers www.x.example in place of _.x.example.pfx: renew both, or remove it if the"
            " wildcard's is to be served"
        ),
    )


def test_a_wildcards_file_without_the_wildcard():
    names = [f"{number}.x.example" for number in range(5)]
    assert only(readable("_.x.example.pfx", *names, "elsewhere.example")) == (
        "_.x.example.pfx",
        "names-differ",
        (
            "its certificate is not for *.x.example, so it answers only 0.x.example, 1.x.example,"
            " 2.x.example and 2 more: put the wildcard's certificate here, or rename the file"
        ),
    )


def test_a_copy_that_was_forgotten():
    names = ("a.example", "b.example")
    old = readable("a.example.pfx", *names, not_after=NOW + 10 * DAY_S)
    new = readable("b.example.pfx", *reversed(names), not_after=NOW + 90 * DAY_S)
    for files in ((old, new), (new, old)):
        assert only(*files) == (
            "a.example.pfx",
            "out-of-step",
            (
                "b.example.pfx holds a newer certificate for the same names, good until 2026-12-20:"
                " put that one here too"
            ),
        )
    also_old = readable("c.example.pfx", *names, not_after=NOW + 10 * DAY_S, issuer="Other CA")
    assert set(told(old, new, also_old)) == {"a.example.pfx", "c.example.pfx"}


def test_certificates_of_one_name_or_of_the_same_age_are_not_out_of_step():
    soon = readable("_.x.example.pfx", "*.x.example", not_after=NOW + DAY_S)
    later = readable("_.x.example.pem", "*.x.example")
    assert only(soon, later)[1] == "same-name"
    names = ("a.example", "b.example")
    one, other = readable("a.example.pfx", *names), readable("b.example.pfx", *names, issuer="B")
    assert not told(one, other)


def test_a_newer_certificate_that_nobody_gets_is_none():
    names = ("a.example", "b.example")
    old = readable("a.example.pfx", *names, not_after=NOW + 10 * DAY_S)
    assert set(told(old, readable("b.example.pfx.pfx", *names))) == {"b.example.pfx.pfx"}


def test_weak_signatures_and_missing_issuers():
    assert only(readable("x.example.pfx", "x.example", weak=("Old CA", "x.example"))) == (
        "x.example.pfx",
        "weak-signature",
        (
            "Old CA, x.example in its chain is signed with SHA-1 or MD5, which clients refuse: have"
            " the certificate issued anew"
        ),
    )
    assert only(readable("x.example.pfx", "x.example", has_issuer=False)) == (
        "x.example.pfx",
        "issuer-missing",
        (
            "it holds no certificate of its issuer, Test CA: add that, unless it is a root that"
            " every client has"
        ),
    )


@pytest.mark.parametrize(
    ("pattern", "names", "answers"),
    [
        ("x.example", ["x.example", "y.example"], ["x.example"]),
        ("www.x.example", ["*.x.example"], ["www.x.example"]),
        ("www.x.example", ["*.www.x.example", "*.example", "x.example"], []),
        ("*.x.example", ["*.x.example"], ["*.x.example"]),
        ("*.x.example", ["a.x.example", "a.b.x.example", "x.example"], ["a.x.example"]),
        ("*.x.example", ["*.example"], []),
        ("localhost", ["localhost"], ["localhost"]),
        ("localhost", ["*.localhost", "other", "*."], []),
    ],
)
def test_what_a_file_answers(pattern: str, names: list[str], answers: list[str]):
    assert answered(pattern, names) == answers
