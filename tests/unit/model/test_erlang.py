import pytest

from dispatchd.model.erlang import shown_binary, shown_string


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
