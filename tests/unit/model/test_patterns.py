from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.model.patterns import LARGEST_PROGRAM, LONGEST_PATTERN, Pattern, PatternError, quoted


@given(st.from_regex(r"[ab.*^$|()]{1,8}", fullmatch=True), st.text("abc.", max_size=8))
def test_what_is_found_is_what_pythons_own_engine_finds(text: str, name: str) -> None:
    try:
        expected = re.search(text.encode(), name.encode()) is not None
        found = Pattern(text).matches(name)
    except (re.error, PatternError):
        return  # what may be repeated, engines see differently
    assert found == expected


PIECES = ["a", "b", r"\)", "[)]", "[^]a]", "(a|b)", "(?:ab)?", ".", "a*", r"\.", "|", "$", r"[\]b]", "(?:a|)"]
AHEAD = ["(?!", "(?="]


@given(
    st.lists(st.tuples(st.sampled_from(AHEAD), st.lists(st.sampled_from(PIECES), max_size=3)), min_size=1, max_size=2),
    st.lists(st.sampled_from(PIECES), max_size=4),
    st.text("ab.)]", max_size=6),
)
def test_look_ahead_at_the_beginning(ahead: list[tuple[str, list[str]]], rest: list[str], name: str) -> None:
    text = "^" + "".join(f"{kind}{''.join(inner)})" for kind, inner in ahead) + "".join(rest)
    try:
        pattern = Pattern(text)
    except PatternError:
        assert "|" in rest  # what it is a part of is not certain
        return
    assert pattern.matches(name) == (re.search(text, name) is not None)


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        (r"^(?!amq\.).*", ["q", "amq", ""], ["amq.gen-1"]),
        (r"^(?!amq\.|secret).+$", ["q"], ["amq.x", "secrets", ""]),
        (r"^(?=.*-dev$)(?!old)", ["x-dev"], ["x", "old-dev"]),
    ],
)
def test_what_permissions_look_ahead_for(text: str, matching: list[str], others: list[str]) -> None:
    pattern = Pattern(text)
    assert all(map(pattern.matches, matching))
    assert not any(map(pattern.matches, others))


def test_names_are_octets() -> None:
    assert Pattern("^größe.$").matches("größe1")
    assert Pattern("^..$").matches("ö")


@pytest.mark.parametrize(
    "text",
    [
        "(",
        "[a",
        "(?!a)b",
        "^(?!a)b|c",
        "^(?!a",
        "^(?!a)*b",
        "a(?=b)",
        "(?<=a)b",
        r"(a)\1",
        "a" * (LONGEST_PATTERN + 1),
        "(a?){30}" * 100,
        "((a{100}){100}){100}",
    ],
)
def test_what_can_not_be_used_is_refused(text: str) -> None:
    with pytest.raises(PatternError, match=r"\w"):
        Pattern(text)


@pytest.mark.parametrize("text", ["(a+)+$", "(a|a)*$", "(.*)*x", f"(a?){{20}}a{{{LARGEST_PROGRAM // 40}}}"])
def test_no_name_takes_long(text: str) -> None:
    pattern = Pattern(text)
    begun = time.thread_time()
    pattern.matches("a" * 254 + "!")
    assert time.thread_time() - begun < 0.1  # others take years


@given(st.text(max_size=20), st.text(max_size=20))
def test_quoted_stands_for_itself(text: str, other: str) -> None:
    pattern = Pattern(f"^{quoted(text)}$")
    assert pattern.matches(text)
    assert pattern.matches(other) == (text == other)
