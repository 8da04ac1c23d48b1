import pytest

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.expiration import parse_expiration


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("0", 0), ("-0", 0), ("+5", 5), ("007", 7), ("315360000000", 315_360_000_000)]
)
def test_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_expiration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no_integer"),
        ("x", "no_integer"),
        ("+", "no_integer"),
        (" 5", "no_integer"),
        ("\u0661", "no_integer"),
        ("5 ", '{leftover_string," "}'),
        ("1.5", '{leftover_string,".5"}'),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ],
)
def test_what_is_no_number_of_milliseconds_is_refused_with_rabbitmqs_text(text: str, problem: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        parse_expiration(text)
    assert refused.value.text == f"PRECONDITION_FAILED - invalid expiration '{text}': {problem}"
