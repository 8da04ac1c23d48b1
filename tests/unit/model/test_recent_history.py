from typing import Any

import pytest
from unit.model.routing import message

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.field_table import Timestamp
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.exchanges.recent_history import History, check_history_arguments, make_history

NO_STORE = "x-recent-history-no-store"


def keys(history: History) -> list[str]:
    return [copy.routing_key for copy in history.copies()]


def test_only_its_type_has_one() -> None:
    assert make_history("fanout", {"x-recent-history-length": 5}) is None
    assert isinstance(make_history("x-recent-history", {}), History)


@pytest.mark.parametrize(("arguments", "kept"), [({}, 20), ({"x-recent-history-length": 3}, 3)])
def test_it_keeps_the_last_so_many(arguments: dict[str, Any], kept: int) -> None:
    history = make_history("x-recent-history", arguments)
    assert history is not None
    assert history.copies() == []
    history.note([message(str(number)) for number in range(30)])
    history.note([message("last")])
    assert keys(history) == [*map(str, range(31 - kept, 30)), "last"]
    assert len(history) == kept


def test_a_message_may_ask_not_to_be_kept() -> None:
    history = History(20)
    history.note([message("no", {NO_STORE: True}), message("yes")])
    history.note([message(f"{value}", {NO_STORE: value}) for value in (False, "true", 1, None)])
    history.note([message("other", {"h": NO_STORE}), Message("", "malformed", b"", NO_STORE.encode())])
    assert keys(history) == ["yes", "False", "true", "1", "None", "other", "malformed"]


def test_a_copy_is_as_it_was_published_but_not_mandatory() -> None:
    one = make_message("x", "k", Properties(message_id="1", delivery_mode=2), b"body")
    one.mandatory = True
    one.sequence = one.queues = one.message_id = 7
    history = History(20)
    history.note([one])
    [copy] = history.copies()
    for name in ("exchange", "routing_key", "address", "header", "body", "persistent"):
        assert getattr(copy, name) == getattr(one, name)
    for name in ("mandatory", "sequence", "queues", "message_id", "copy_keys", "visited"):
        assert not getattr(copy, name)
    assert copy.persistent
    assert history.copies() != [copy]


def test_a_copy_has_the_other_keys_and_has_been_nowhere() -> None:
    one = message("k")
    one.copy_to(["l"])
    assert one.visited is not None
    one.visited.add(7)
    history = History(20)
    history.note([one])
    [copy] = history.copies()
    assert (copy.copy_keys, copy.visited) == (["l"], set())


@pytest.mark.parametrize("length", [1, 2**40])
def test_lengths(length: int) -> None:
    check_history_arguments({"x-recent-history-length": length})
    check_history_arguments({})


@pytest.mark.parametrize(
    ("length", "shown"),
    [(0, "0"), (-1, "-1"), ("x", '<<"x">>'), (1.5, "1.5"), (True, "true"), (Timestamp(5), "5")],
)
def test_what_is_no_length_is_refused_with_the_plugins_text(length: Any, shown: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_history_arguments({"x-recent-history-length": length})
    text = f"Invalid argument {shown}, 'x-recent-history-length' must be a positive integer"
    assert refused.value.text == f"PRECONDITION_FAILED - {text}"
