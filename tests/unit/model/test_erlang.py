from typing import Any

import pytest

from dispatchd.model.erlang import shown_atom, shown_binary, shown_string, shown_term


@pytest.mark.parametrize(
    ("text", "string", "binary"),
    [
        ("", "[]", "<<>>"),
        ("abc", '"abc"', '<<"abc">>'),
        ('x"y\\', r'"x\"y\\"', r'<<"x\"y\\">>'),
        ("\n\t\r", r'"\n\t\r"', r'<<"\n\t\r">>'),
        ("é", '"é"', '<<"é">>'),
        ("\x01a", "[1,97]", "<<1,97>>"),
        ("\u2014", "[226,128,148]", "<<226,128,148>>"),
    ],
)
def test_strings_are_shown_as_erlang_shows_them(text: str, string: str, binary: str) -> None:
    assert shown_string(text) == string
    assert shown_binary(text) == binary


@pytest.mark.parametrize(("name", "shown"), [("topic", "topic"), ("x-consistent-hash", "'x-consistent-hash'")])
def test_atoms_are_quoted_where_they_need_it(name: str, shown: str) -> None:
    assert shown_atom(name) == shown


@pytest.mark.parametrize(
    ("term", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (-5, "-5"),
        (1.0, "1.0"),
        (1e30, "1.0e30"),
        (1.5e-7, "1.5e-7"),
        ([], "[]"),
        ([65, 66], '"AB"'),
        ([1, "a"], '[1,<<"a">>]'),
        ({"b": [True], "a": {}}, '#{<<"a">> => #{},<<"b">> => [true]}'),
    ],
)
def test_terms_are_shown_as_erlang_shows_them(term: Any, shown: str) -> None:
    assert shown_term(term) == shown
