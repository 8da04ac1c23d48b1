from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import base, commands, frame

from dispatchd.amqp import methods
from dispatchd.amqp.errors import AmqpSyntaxError, NotImplementedByServer
from dispatchd.amqp.field_table import Timestamp
from dispatchd.amqp.method_codec import decode_method, encode_method
from dispatchd.amqp.methods import METHODS, Method, field_names, method_ids, method_name

NAMES = st.text("abcxyz019.-_", max_size=60)
VALUES_OF_BOTH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.floats(width=32, allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
WIRE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": st.integers(0, 255),
    "short": st.integers(0, 2**16 - 1),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**63 - 1),
    "shortstr": NAMES,
    "longstr": NAMES.map(str.encode),
    "table": st.dictionaries(NAMES, VALUES_OF_BOTH, max_size=4),
}
ALL = [pytest.param(method, types, id=method.__name__) for _, _, method, types in METHODS]
IN_PAMQP = [pytest.param(method, types, id=method.__name__) for class_id, _, method, types in METHODS if class_id != 30]


def draw_method(data: st.DataObject, method: type[Any], types: str) -> Method:
    kinds = [kind for kind in types.split() if not kind.startswith("-")]
    drawn: Method = method(*(data.draw(WIRE_VALUES[kind]) for kind in kinds))
    return drawn


def payload_of(encoded: bytes) -> bytes:
    return encoded[7:-1]


def as_pamqp(method: Method) -> base.Frame:
    class_id, method_id = method_ids(method)
    arguments = {}
    for name in field_names(type(method)):
        value = getattr(method, name)
        name = "exchange_type" if name == "type" else name
        arguments[name] = value.decode() if isinstance(value, bytes) else value
    frame_class: Any = commands.INDEX_MAPPING[class_id << 16 | method_id]
    made: base.Frame = frame_class(**arguments)
    return made


@pytest.mark.parametrize(("method", "types"), ALL)
@settings(max_examples=15)
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same(method: type[Any], types: str, data: st.DataObject) -> None:
    drawn = draw_method(data, method, types)
    encoded = encode_method(7, drawn)
    assert encoded[:3] == b"\x01\x00\x07"
    assert encoded[-1] == 0xCE
    assert int.from_bytes(encoded[3:7], "big") == len(encoded) - 8
    assert decode_method(payload_of(encoded)) == drawn


@pytest.mark.filterwarnings("ignore:This command is deprecated")
@pytest.mark.parametrize(("method", "types"), IN_PAMQP)
@settings(max_examples=15)
@given(data=st.data())
def test_pamqp_reads_and_writes_the_same(method: type[Any], types: str, data: st.DataObject) -> None:
    drawn = draw_method(data, method, types)
    theirs = as_pamqp(drawn)

    _, channel, read = frame.unmarshal(encode_method(65535, drawn))
    assert (channel, type(read)) == (65535, type(theirs))
    for name in field_names(method):
        name = "exchange_type" if name == "type" else name
        assert getattr(read, name) == getattr(theirs, name)

    assert decode_method(payload_of(frame.marshal(theirs, 1))) == drawn


def test_a_timestamp_and_a_decimal_from_pamqp() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    theirs = commands.Queue.Declare(
        queue="q", arguments={"at": moment, "price": Decimal("12.50"), "raw": bytearray(b"\xff")}
    )
    ours = decode_method(payload_of(frame.marshal(theirs, 1)))
    assert isinstance(ours, methods.QueueDeclare)
    assert ours.arguments == {"at": int(moment.timestamp()), "price": Decimal("12.50"), "raw": b"\xff"}
    assert isinstance(ours.arguments["at"], Timestamp)


def test_the_table_of_methods_is_complete_and_names_them_as_the_specification_does() -> None:
    ours = {(class_id, method_id): method for class_id, method_id, method, _ in METHODS}
    mapping: dict[int, Any] = commands.INDEX_MAPPING
    theirs = {(index >> 16, index & 0xFFFF): each.name for index, each in mapping.items()}
    assert ours.keys() == theirs.keys() | {(30, 10), (30, 11)}
    for ids, name in theirs.items():
        assert ours[ids].__name__ == name.replace(".", "")
    assert method_name(methods.QueueDeclareOk("q")) == "queue.declare-ok"
    assert method_name(methods.BasicRecoverAsync()) == "basic.recover-async"
    assert method_ids(methods.ChannelClose(200, "", 60, 40)) == (20, 40)


def test_methods_without_arguments_are_true_and_unlike_each_other() -> None:
    some: list[Method] = [
        methods.ChannelCloseOk(),
        methods.ConnectionCloseOk(),
        methods.QueuePurgeOk(3),
        methods.QueueDeleteOk(3),
    ]
    assert all(some)
    assert [[one == other for one in some].count(True) for other in some] == [1, 1, 1, 1]


def test_tags_have_64_bits() -> None:
    assert decode_method(payload_of(encode_method(1, methods.BasicNack(2**64 - 1)))) == methods.BasicNack(2**64 - 1)


def test_a_method_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        methods.QueueDeclareOk("q").queue = "p"  # type: ignore[misc]


@pytest.mark.parametrize("ids", [(10, 9), (61, 10), (0, 0), (65535, 65535)])
def test_an_unknown_method_is_not_implemented(ids: tuple[int, int]) -> None:
    with pytest.raises(
        NotImplementedByServer, match=f"NOT_IMPLEMENTED - unknown method {ids[1]} of class {ids[0]}"
    ) as caught:
        decode_method(ids[0].to_bytes(2, "big") + ids[1].to_bytes(2, "big") + b"rest")
    assert (caught.value.class_id, caught.value.method_id) == ids


@pytest.mark.parametrize(("method", "types"), ALL)
@settings(max_examples=5)
@given(data=st.data())
def test_arguments_that_are_too_short_or_too_long(method: type[Any], types: str, data: st.DataObject) -> None:
    drawn = draw_method(data, method, types)
    payload = payload_of(encode_method(1, drawn))
    with pytest.raises(AmqpSyntaxError):
        decode_method(payload[: data.draw(st.integers(0, len(payload) - 1))])
    with pytest.raises(AmqpSyntaxError) as caught:
        decode_method(payload + b"\0")
    assert (caught.value.class_id, caught.value.method_id) == method_ids(drawn)


def test_names_that_are_not_utf8() -> None:
    payload = payload_of(encode_method(1, methods.QueueDeleteOk(1)))
    assert decode_method(payload) == methods.QueueDeleteOk(1)
    with pytest.raises(AmqpSyntaxError, match="UTF-8"):
        decode_method(b"\0\x3c\0\x1f\x02\xc3\x28")


@pytest.mark.parametrize(
    ("text", "expected"), [("a" * 255, "a" * 255), ("a" * 256, "a" * 252 + "..."), ("é" * 200, "é" * 126 + "...")]
)
def test_a_long_reply_text_is_cut_between_characters(text: str, expected: str) -> None:
    assert decode_method(payload_of(encode_method(0, methods.ConnectionClose(320, text)))) == methods.ConnectionClose(
        320, expected
    )
    cut = decode_method(payload_of(encode_method(0, methods.ChannelClose(404, "x" + "é" * 200))))
    assert cut == methods.ChannelClose(404, "x" + "é" * 125 + "...")


@pytest.mark.parametrize(
    "method",
    [
        methods.QueueDeclare("é" * 128),
        methods.ConnectionTune(65536, 0, 0),
        methods.ConnectionTune(1, 2**32, 0),
        methods.BasicAck(-1),
        methods.QueueDeclare("q", arguments={"n": 2**63}),
        methods.QueueDeclare("q", arguments={"k" * 256: 1}),
    ],
    ids=repr,
)
def test_what_does_not_fit_its_wire_type_is_not_sent(method: Method) -> None:
    with pytest.raises(ValueError, match=r"at most|expected"):
        encode_method(1, method)
