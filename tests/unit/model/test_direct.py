from unit.model.routing import bind, message, names, queue

from dispatchd.model.binding import Binding
from dispatchd.model.exchanges.direct import DirectTable


def test_all_queues_with_the_key_get_the_message() -> None:
    table = DirectTable()
    for name, key in (("a", "k"), ("b", "k"), ("c", "other")):
        bind(table, queue(name), key)
    assert names(table.match(message("k"))) == ["a", "b"]
    assert names(table.match(message("other"))) == ["c"]
    assert table.match(message("K")) == []


def test_a_queue_is_matched_once_however_many_bindings_match() -> None:
    table = DirectTable()
    q = queue("q")
    bind(table, q, "k")
    bind(table, q, "k", {"another": 1})
    assert table.match(message("k")) == [q]


def test_a_queue_stays_until_its_last_binding_goes() -> None:
    table = DirectTable()
    q = queue("q")
    first = bind(table, q, "k")
    second = bind(table, q, "k", {"another": 1})
    assert table.match(message("k")) == [q]
    table.unbind(first)
    assert table.match(message("k")) == [q]
    table.unbind(second)
    assert table.match(message("k")) == []
    assert table.bindings() == []


def test_binding_again_and_unbinding_what_is_not_there_change_nothing() -> None:
    table = DirectTable()
    q = queue("q")
    binding = bind(table, q, "k")
    bind(table, q, "k")
    assert table.bindings() == [binding]
    table.unbind(Binding("x", q, "other", {}))
    table.unbind(binding)
    table.unbind(binding)
    assert table.match(message("k")) == []


def test_a_new_binding_is_seen_by_a_key_that_was_matched_before() -> None:
    table = DirectTable()
    a, b = queue("a"), queue("b")
    assert table.match(message("k")) == []
    bind(table, a, "k")
    assert table.match(message("k")) == [a]
    bind(table, b, "k")
    assert table.match(message("k")) == [a, b]
