from unit.model.routing import bind, message, queue

from dispatchd.model.exchanges.fanout import FanoutTable


def test_every_queue_gets_every_message_once() -> None:
    table = FanoutTable()
    a, b = queue("a"), queue("b")
    assert table.match(message("k")) == []
    bind(table, a, "ignored")
    bind(table, a, "as well")
    last = bind(table, b)
    assert table.match(message("k")) == [a, b]
    assert table.match(message()) == [a, b]
    table.unbind(last)
    assert table.match(message("k")) == [a]
