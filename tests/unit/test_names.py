import pytest

from centcert.errors import Alert, NameRefused
from centcert.names import HostName, ascii_key, ascii_keys, candidates, covers, pattern_of

BOOKS = "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    [
        "www.contoso.com",
        "localhost",
        "a_b.c-d.e",
        "_dmarc.contoso.com",
        "-a-.b",
        "1a.2b",
        BOOKS,
        "a" * 63 + ".b",
        ".".join(["a" * 49] * 5 + ["bcd"]),
    ],
)
def test_a_host_name_is_accepted_as_it_is(text: str):
    assert HostName.parse(text) == text


def test_upper_case_is_folded():
    assert HostName.parse("WWW.Contoso.COM") == "www.contoso.com"


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", ".a", "a.", "a" * 64, ".".join(["a" * 49] * 5 + ["bcde"])]
    + ["_", "_.contoso.com", "www._.com", "*.contoso.com", "bücher.example"]
    + ["127.0.0.1", "1.2.3", "7", "a.0x7f", "::1", "[::1]", "fe80::1%eth0"]
    + [f"a{mark}b" for mark in "/\\:*?%\0\n\r\t \x7f|<>\"'&;$`@~"]
    + ["../etc", "..", "a/../b", "İstanbul.example", "a\u212a.example"],
)
def test_what_is_no_host_name_is_refused_with_the_right_alert(text: str):
    with pytest.raises(NameRefused) as refused:
        HostName.parse(text)
    assert refused.value.alert is Alert.UNRECOGNIZED_NAME
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a.", "ends in a dot"),
        ("10.0.0.1", "IP address"),
        ("ü.example", "A-labels"),
        ("a" * 300, "253 bytes"),
        ("a b", "labels of 1 to 63"),
    ],
)
def test_a_refusal_says_why(text: str, said: str):
    with pytest.raises(NameRefused, match=said):
        HostName.parse(text)


def test_a_refusal_shows_a_bounded_part_of_the_text():
    with pytest.raises(NameRefused) as refused:
        HostName.parse("x" * 10_000)
    assert len(str(refused.value)) < 300


def test_people_may_write_unicode():
    assert HostName.from_unicode("Bücher.example") == BOOKS
    assert HostName.from_unicode("www.contoso.com") == "www.contoso.com"
    with pytest.raises(NameRefused, match="international"):
        HostName.from_unicode("bü cher.example")


def keys(name: str) -> list[str]:
    return [candidate.key for candidate in candidates(HostName.parse(name))]


def test_the_name_is_looked_up_before_its_wildcard_and_pfx_before_pem():
    assert keys("www.contoso.com") == [
        "www.contoso.com.pfx",
        "www.contoso.com.pem",
        "_.contoso.com.pfx",
        "_.contoso.com.pem",
    ]


def test_the_wildcard_never_climbs_and_a_single_label_has_none():
    assert keys("a.b.contoso.com")[2] == "_.b.contoso.com.pfx"
    assert keys("localhost") == ["localhost.pfx", "localhost.pem"]


def test_an_international_name_is_looked_up_by_its_a_labels_then_in_unicode():
    assert keys("www." + BOOKS) == [
        f"www.{BOOKS}.pfx",
        f"www.{BOOKS}.pem",
        "www.bücher.example.pfx",
        "www.bücher.example.pem",
        f"_.{BOOKS}.pfx",
        f"_.{BOOKS}.pem",
        "_.bücher.example.pfx",
        "_.bücher.example.pem",
    ]


@pytest.mark.parametrize("name", ["xn--a.example", "xn--.example", "xn--ls8h.example", "a.xn--zz"])
def test_an_a_label_that_is_no_valid_idn_has_no_unicode_key(name: str):
    assert all(key.isascii() for key in keys(name))


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("www.contoso.com.pfx", "www.contoso.com"),
        ("www.contoso.com.pem", "www.contoso.com"),
        ("_.contoso.com.pfx", "*.contoso.com"),
        ("bücher.example.pfx", BOOKS),
        ("_.bücher.example.pfx", "*." + BOOKS),
        (BOOKS + ".pfx", BOOKS),
        ("WWW.contoso.com.pfx", None),
        ("www.contoso.com.PFX", None),
        ("*.contoso.com.pfx", None),
        ("_.pfx", None),
        ("_._.com.pfx", None),
        (".pfx", None),
        ("notes.txt", None),
        ("www.contoso.com.pfx.new", None),
        ("Bücher.example.pfx", None),
        ("bu\u0308cher.example.pfx", None),
    ],
)
def test_a_key_stands_for_one_pattern_in_one_spelling(key: str, pattern: str | None):
    assert pattern_of(key) == pattern


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("www.contoso.com", "www.contoso.com", True),
        ("WWW.Contoso.com", "www.contoso.com", True),
        ("*.contoso.com", "www.contoso.com", True),
        ("*.Contoso.com", "www.contoso.com", True),
        ("*.contoso.com", "contoso.com", False),
        ("*.contoso.com", "a.b.contoso.com", False),
        ("w*.contoso.com", "www.contoso.com", False),
        ("*w.contoso.com", "www.contoso.com", False),
        ("www.*.com", "www.contoso.com", False),
        ("*", "localhost", False),
        ("*.", "localhost", False),
        ("contoso.com", "www.contoso.com", False),
        ("www.contoso.com.", "www.contoso.com", False),
        ("", "www.contoso.com", False),
    ],
)
def test_covering_follows_rfc_9525(pattern: str, name: str, covered: bool):  # noqa: FBT001
    assert covers(pattern, HostName.parse(name)) is covered


@pytest.mark.parametrize("name", ["a", "www.contoso.com", BOOKS, f"shop.{BOOKS}", "xn--a.b"])
def test_every_key_leads_to_one_in_ascii(name: str):
    """Guards: the index refuses a name by its keys in ASCII, without spelling it in Unicode."""
    in_ascii = ascii_keys(HostName.parse(name))
    assert [key for key in keys(name) if key.isascii()] == list(in_ascii)
    assert {ascii_key(key) for key in keys(name)} == set(in_ascii)
