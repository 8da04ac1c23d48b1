import pytest

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.properties import Properties, encode_header
from dispatchd.model.expiration import check_expiration, expiration_of, parse_expiration


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


@pytest.mark.parametrize(("expiration", "milliseconds"), [(None, -1), ("0", 0), ("+60000", 60_000)])
def test_the_expiration_of_a_header(expiration: str | None, milliseconds: int) -> None:
    header = encode_header(0, Properties(content_type="text/plain", headers={"a": 1}, expiration=expiration))
    check_expiration(header)
    assert expiration_of(header) == milliseconds


def test_a_header_with_a_bad_expiration_is_refused() -> None:
    with pytest.raises(PreconditionFailed, match="invalid expiration 'x': no_integer"):
        check_expiration(encode_header(0, Properties(expiration="x")))
