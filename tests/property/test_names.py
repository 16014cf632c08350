"""Host names and keys: one to one, and only declared errors."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from centcert.errors import NameRefused
from centcert.names import HostName, candidates, covers, pattern_of

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
u_labels = st.sampled_from(["xn--bcher-kva", "xn--mnchen-3ya", "xn--p1ai", "xn--zckzah"])
texts = st.lists(labels | u_labels, min_size=1, max_size=5).map(".".join)


def is_host_name(text: str) -> bool:
    try:
        HostName.parse(text)
    except NameRefused:
        return False
    return True


host_names = texts.filter(is_host_name).map(HostName.parse)


@given(st.text() | st.text("a._-*/\\:\0 1"))
def test_any_text_is_a_host_name_or_refused(text: str):
    try:
        name = HostName.parse(text)
    except NameRefused:
        return
    assert name == text.lower()
    assert HostName.parse(name) == name
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@given(st.text())
def test_people_may_write_anything(text: str):
    with suppress(NameRefused):
        assert HostName.from_unicode(text).isascii()


@given(host_names)
def test_every_key_of_a_name_leads_back_to_what_covers_it(name: HostName):
    keys = [candidate.key for candidate in candidates(name)]
    assert len(keys) == len(set(keys)) <= 8
    for candidate in candidates(name):
        pattern = pattern_of(candidate.key)
        assert pattern is not None
        assert covers(pattern, name)
        assert candidate.wildcard is pattern.startswith("*.")


@given(host_names, host_names)
def test_two_names_share_no_key_but_their_wildcards(one: HostName, other: HostName):
    def own(name: HostName) -> set[str]:
        return {candidate.key for candidate in candidates(name) if not candidate.wildcard}

    assert one == other or not own(one) & own(other)


@given(st.text())
def test_any_key_has_a_pattern_or_none(key: str):
    for suffix in ("", ".pfx", ".pem"):
        pattern = pattern_of(key + suffix)
        assert pattern is None or pattern.isascii()
