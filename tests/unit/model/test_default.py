import os

import pytest
from unit.model.routing import bind, message, queue

from dispatchd.model.binding import Binding, Destination
from dispatchd.model.direct_replies import ReplyAddresses
from dispatchd.model.exchanges.default import DefaultRoutes


def test_a_queue_is_found_by_its_name_as_soon_and_as_long_as_it_is_there() -> None:
    queues: dict[str, Destination] = {}
    table = DefaultRoutes(queues, ReplyAddresses(os.urandom))
    assert table.match(message("q")) == []
    q = queues["q"] = queue("q")
    assert table.match(message("q")) == [q]
    assert table.match(message("Q")) == []
    del queues["q"]
    assert table.match(message("q")) == []


def test_a_channel_is_found_by_its_reply_address_as_long_as_that_is_open() -> None:
    addresses = ReplyAddresses(os.urandom)
    table = DefaultRoutes({}, addresses)
    address = addresses.open("channel")
    [destination] = table.match(message(address))
    assert (destination.ref, destination.is_queue) == ("channel", True)
    assert table.match(message(address[:-1])) == []
    addresses.close(address)
    assert table.match(message(address)) == []


def test_it_takes_no_bindings() -> None:
    table = DefaultRoutes({}, ReplyAddresses(os.urandom))
    with pytest.raises(ValueError, match="takes no bindings"):
        bind(table, queue("q"), "k")
    table.unbind(Binding("", queue("q"), "q", {}))
    assert table.match(message("k")) == []
