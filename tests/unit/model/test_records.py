from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import NEVER, QueueEntry
from dispatchd.model.records import (
    SHARED,
    WHOLE,
    content_row,
    decode_content,
    entry_head,
    entry_key,
    entry_row,
    id_key,
    mark_row,
    marked_position,
    read_id,
    shared_content,
    split_entry_key,
)

ids = st.integers(0, 2**63 - 1)
names = st.text(max_size=60)


def known_of(message: Message) -> tuple[str, str, bytes, bytes, bytes, bool]:
    return (
        message.exchange,
        message.routing_key,
        message.address,
        message.header,
        message.body,
        message.persistent,
    )


@given(names, names, st.sampled_from([None, 1, 2]), st.dictionaries(names, st.integers(-5, 5) | names), st.binary())
@example("é" * 127, "k" * 255, 2, {}, b"")
def test_a_message_comes_back_as_it_was(
    exchange: str, routing_key: str, mode: int | None, headers: dict[str, int | str], body: bytes
) -> None:
    headers_or_none = headers or None
    message = make_message(exchange, routing_key, Properties(delivery_mode=mode, headers=headers_or_none), body)
    message.message_id = 9
    key, content = content_row(message)
    assert (read_id(key), known_of(decode_content(content))) == (9, known_of(message))
    key, whole = entry_row(3, QueueEntry(message, "queue", 1))
    assert split_entry_key(key) == (3, 1)
    assert entry_head(whole) == (WHOLE, NEVER, 1)
    assert known_of(decode_content(whole, 1)) == known_of(message)


@given(ids.filter(bool))
def test_an_entry_of_a_shared_message_names_its_content(message_id: int) -> None:
    message = make_message("", "q", Properties(), b"")
    _, entry = entry_row(3, QueueEntry(message, "queue", 1), message_id)
    assert entry_head(entry) == (SHARED, NEVER, 1)
    assert shared_content(entry, 1) == message_id


@given(ids, st.booleans())
def test_an_entry_says_when_it_expires(expires_at: int, is_shared: bool) -> None:
    message = make_message("", "q", Properties(), b"body")
    entry = QueueEntry(message, "queue", 1)
    entry.expires_at = expires_at
    _, value = entry_row(3, entry, 7 if is_shared else 0)
    kind, expires_at_read, at = entry_head(value)
    assert (kind, expires_at_read) == (SHARED if is_shared else WHOLE, expires_at)
    if is_shared:
        assert shared_content(value, at) == 7
    else:
        assert decode_content(value, at).body == b"body"


@pytest.mark.parametrize("value", [b"", b"\x04", b"\x02", b"\x03\0\0\0\0\0\0\0"])
def test_a_head_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="entry"):
        entry_head(value)


@given(ids, ids)
def test_keys_come_back_and_have_the_size_of_their_numbers(queue_id: int, position: int) -> None:
    assert read_id(id_key(queue_id)) == queue_id
    assert split_entry_key(entry_key(queue_id, position)) == (queue_id, position)
    assert (len(id_key(queue_id)), len(entry_key(queue_id, position))) == (8, 16)


@given(st.lists(st.tuples(ids, ids)))
@example([(1, 255), (1, 256), (2, 1)])
def test_keys_sort_by_queue_then_by_position(places: list[tuple[int, int]]) -> None:
    assert [split_entry_key(key) for key in sorted(entry_key(*place) for place in places)] == sorted(places)


@given(ids, ids)
def test_a_mark_has_the_position_of_a_queue(queue_id: int, position: int) -> None:
    key, value = mark_row(queue_id, position)
    assert (read_id(key), marked_position(value)) == (queue_id, position)
    with pytest.raises(ValueError, match="position"):
        marked_position(value[1:])


_, WHOLE_ONE = content_row(make_message("events", "key", Properties(delivery_mode=2, headers={"n": 1}), b"body"))


@pytest.mark.parametrize("size", range(len(WHOLE_ONE) - len(b"body")))
def test_a_message_cut_before_its_body_is_refused(size: int) -> None:
    with pytest.raises((ValueError, AmqpError)):
        decode_content(WHOLE_ONE[:size])


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff" * 40,
        b"\0\0" + b"\xff" * 4 + b"\0" * 30,
        b"\0\0" + b"\x7f\xff\xff\xff" + b"\0" * 30,
        b"\xff\xff" + b"\0" * 40,
        b"\0\x02\0\0\0\0" + b"\x05a",
    ],
)
def test_sizes_that_lie_are_refused(damaged: bytes) -> None:
    with pytest.raises((ValueError, AmqpError)):
        decode_content(damaged)


@given(st.binary(max_size=80), st.integers(0, 3))
def test_any_octets_are_a_message_or_refused(data: bytes, at: int) -> None:
    with suppress(ValueError, AmqpError):
        assert isinstance(decode_content(data, at), Message)


@given(st.integers(0, len(WHOLE_ONE) - 1), st.integers(1, 255))
def test_a_changed_octet_makes_another_message_or_is_refused(at: int, change: int) -> None:
    damaged = bytearray(WHOLE_ONE)
    damaged[at] ^= change
    with suppress(ValueError, AmqpError):
        assert isinstance(decode_content(bytes(damaged)), Message)
