from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, header

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.field_table import decode_table, encode_fields, encode_table
from dispatchd.amqp.message import make_message, split_address
from dispatchd.amqp.properties import (
    FLAG_EXPIRATION,
    FLAG_HEADERS,
    FLAG_REPLY_TO,
    FLAG_USER_ID,
    Properties,
    decode_properties,
    delivery_mode,
    encode_header,
    find_property,
    header_of_fields,
    is_persistent,
    property_flags,
    property_table,
    short_property,
)

TEXTS = st.none() | st.text(max_size=40)
SIMPLE_TABLES = st.dictionaries(
    st.text("abc", max_size=5), st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9), max_size=4
)
PROPERTIES = st.builds(
    Properties,
    content_type=TEXTS,
    content_encoding=TEXTS,
    headers=st.none() | SIMPLE_TABLES,
    delivery_mode=st.none() | st.integers(0, 255),
    priority=st.none() | st.integers(0, 255),
    correlation_id=TEXTS,
    reply_to=TEXTS,
    expiration=TEXTS,
    message_id=TEXTS,
    timestamp=st.none() | st.integers(0, 2**32 - 1),
    type=TEXTS,
    user_id=TEXTS,
    app_id=TEXTS,
    cluster_id=TEXTS,
)
FULL = Properties("a", "b", {"k": "v"}, 2, 3, "c", "d", "e", "f", 2**64 - 1, "g", "h", "i", "j")


@settings(max_examples=100)
@given(PROPERTIES, st.integers(0, 2**64 - 1))
def test_what_is_encoded_decodes_to_the_same(properties: Properties, body_size: int) -> None:
    encoded = encode_header(body_size, properties)
    assert encoded[:4] == b"\0\x3c\0\0"
    assert int.from_bytes(encoded[4:12], "big") == body_size
    assert decode_properties(encoded) == properties
    assert delivery_mode(encoded) == (properties.delivery_mode or 0)
    assert is_persistent(encoded) == (properties.delivery_mode == 2)


@settings(max_examples=100)
@given(PROPERTIES)
def test_pamqp_reads_and_writes_the_same(properties: Properties) -> None:
    # pamqp refuses a cluster_id and modes other than 1 and 2, takes what is empty for absent,
    # and a timestamp above 32 bits for milliseconds.
    values: dict[str, Any] = {each.name: getattr(properties, each.name) or None for each in fields(Properties)}
    values.update(cluster_id=None, delivery_mode=2 if values["delivery_mode"] else None)
    ours = Properties(**values)
    seconds = values.pop("timestamp")
    values["message_type"] = values.pop("type")
    del values["cluster_id"]
    theirs = commands.Basic.Properties(**values, timestamp=datetime.fromtimestamp(seconds, UTC) if seconds else None)

    read = header.ContentHeader()
    read.unmarshal(encode_header(5, ours))
    assert read.body_size == 5
    for name in commands.Basic.Properties.attributes():
        assert getattr(read.properties, name) == getattr(theirs, name), name

    assert decode_properties(header.ContentHeader(0, 5, theirs).marshal()) == ours


def test_flags_say_which_properties_there_are() -> None:
    encoded = encode_header(0, Properties(headers={}, expiration="5"))
    assert property_flags(encoded) == FLAG_HEADERS | FLAG_EXPIRATION
    assert not property_flags(encoded) & FLAG_USER_ID
    assert property_flags(encode_header(0, FULL)) == 0xFFFC
    assert property_flags(b"\0\x3c") == 0


@settings(max_examples=100)
@given(
    PROPERTIES,
    st.sampled_from([("reply_to", FLAG_REPLY_TO), ("expiration", FLAG_EXPIRATION), ("user_id", FLAG_USER_ID)]),
)
def test_a_property_is_found_behind_any_others(properties: Properties, wanted: tuple[str, int]) -> None:
    name, flag = wanted
    encoded = encode_header(0, properties)
    at = find_property(encoded, flag)
    value = getattr(properties, name)
    if value is None:
        assert at == -1
    else:
        octets = value.encode()
        assert encoded[at : at + 1 + len(octets)] == bytes([len(octets)]) + octets
        changed: dict[str, Any] = {name: "x"}
        shorter = encoded[:at] + b"\1x" + encoded[at + 1 + len(octets) :]
        assert decode_properties(shorter) == replace(properties, **changed)


def test_a_header_cut_anywhere_is_malformed() -> None:
    whole = encode_header(1, FULL)
    assert is_persistent(whole)
    for size in range(len(whole)):
        assert delivery_mode(whole[:size]) == -1
        assert not is_persistent(whole[:size])
        with pytest.raises(AmqpSyntaxError):
            decode_properties(whole[:size])


def test_octets_after_the_properties() -> None:
    longer = encode_header(1, FULL) + b"\0"
    assert delivery_mode(longer) == -1
    with pytest.raises(AmqpSyntaxError, match="1 octets follow"):
        decode_properties(longer)


@pytest.mark.parametrize("flags", [b"\0\x01", b"\0\x02"])
def test_flags_of_properties_that_do_not_exist(flags: bytes) -> None:
    encoded = encode_header(1, Properties())[:-2] + flags
    assert delivery_mode(encoded) == -1
    with pytest.raises(AmqpSyntaxError, match="unknown properties"):
        decode_properties(encoded)


@settings(max_examples=200)
@given(st.binary(min_size=2, max_size=40))
def test_stepping_over_and_decoding_agree_on_random_octets(octets: bytes) -> None:
    encoded = bytes(12) + octets
    try:
        decoded = decode_properties(encoded)
    except AmqpSyntaxError:
        return  # what a value is made of is not looked at in stepping over it
    assert delivery_mode(encoded) == (decoded.delivery_mode or 0)


def test_properties_that_do_not_fit() -> None:
    for properties in [Properties(priority=256), Properties(reply_to="é" * 128), Properties(timestamp=-1)]:
        with pytest.raises(ValueError, match=r"expected|at most"):
            encode_header(0, properties)


@settings(max_examples=100)
@given(PROPERTIES, st.integers(0, 2**63 - 1))
def test_properties_as_a_table_are_those_that_are_set(properties: Properties, timestamp: int) -> None:
    properties = replace(properties, timestamp=timestamp)
    table = property_table(encode_header(5, properties))
    decoded, end = decode_table(table, 0, len(table))
    assert end == len(table)
    assert decoded == {name: value for name, value in vars_of(properties).items() if value is not None}
    assert list(decoded) == [name for name in reversed(vars_of(properties)) if name in decoded]


def vars_of(properties: Properties) -> dict[str, Any]:
    return {field.name: getattr(properties, field.name) for field in fields(properties)}


def test_properties_as_a_table_have_rabbitmqs_types() -> None:
    properties = Properties(content_type="a", priority=255, timestamp=2**31 - 1)
    longs = b"\x09timestampI\x7f\xff\xff\xff\x08priorityI\0\0\0\xff"
    assert property_table(encode_header(5, properties))[4:] == longs + b"\x0ccontent_typeS\0\0\0\x01a"
    later = property_table(encode_header(5, Properties(timestamp=2**31)))
    assert later[4:] == b"\x09timestampl\0\0\0\0\x80\0\0\0"


def test_headers_are_copied_into_the_table_as_they_came() -> None:
    odd = b"\0\0\0\x05\x01ab\x07?"  # b is a letter that encoders of ours do not write, ? one that nobody reads
    header = encode_header(5, Properties(headers={}))[:-4] + odd
    assert property_table(header) == b"\0\0\0\x12\x07headersF" + odd


def test_a_header_of_fields_has_nothing_but_headers() -> None:
    table = {"a": 1, "b": ["x"]}
    assert header_of_fields(7, encode_fields(table)) == encode_header(7, Properties(headers=table))
    assert len(encode_table(table)).to_bytes(4, "big") + encode_fields(table) != encode_table(table)
    assert decode_properties(header_of_fields(7, encode_fields({"a": 1}) + encode_fields({"b": 2}))).headers == {
        "a": 1,
        "b": 2,
    }


def test_make_message() -> None:
    message = make_message("logs", "a.é", replace(FULL, delivery_mode=1), b"body")
    assert (message.exchange, message.routing_key, message.body, message.size) == ("logs", "a.é", b"body", 4)
    assert message.address == b"\x04logs\x04a.\xc3\xa9"
    assert split_address(message.address) == ("logs", "a.é")
    assert decode_properties(message.header) == replace(FULL, delivery_mode=1)
    assert not message.persistent
    assert make_message("", "q", FULL, b"").persistent
    with pytest.raises(ValueError, match="256"):
        make_message("", "k" * 256, FULL, b"")


@pytest.mark.parametrize(
    "address", [b"", b"\0", b"\x01a", b"\x01a\x02b", b"\0\0\0", b"\xff", b"\x01a\x01b\0", b"\x01\xff\0"]
)
def test_addresses_that_are_not_two_short_strings(address: bytes) -> None:
    with pytest.raises(AmqpSyntaxError):
        split_address(address)


@given(PROPERTIES)
def test_a_short_string_is_read_alone(properties: Properties) -> None:
    encoded = encode_header(0, properties)
    assert short_property(encoded, FLAG_EXPIRATION) == properties.expiration
    assert short_property(encoded, FLAG_USER_ID) == properties.user_id


def test_a_short_string_that_is_not_utf8() -> None:
    encoded = encode_header(0, Properties(user_id="ab")).replace(b"ab", b"\xff\xfe")
    with pytest.raises(AmqpSyntaxError):
        short_property(encoded, FLAG_USER_ID)
