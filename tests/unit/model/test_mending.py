"""What is left of definitions fits together, whatever was lost."""

from hypothesis import given
from hypothesis import strategies as st

from dispatchd.model.binding import EXCHANGE, QUEUE
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.definitions import (
    ExchangeDefinition,
    QueueDefinition,
    VhostDefinition,
    exchange_from_record,
    queue_from_record,
)
from dispatchd.model.mending import mend
from dispatchd.model.policies import Policy
from dispatchd.model.stored_definitions import (
    binding_row,
    exchange_row,
    owners,
    policy_row,
    queue_row,
    read_rows,
    vhost_row,
)

Rows = dict[bytes, bytes]


def all_rows() -> Rows:
    """Two vhosts, each with two exchanges, two queues, bindings between all of them, and a policy."""
    rows: Rows = {}
    for number, vhost in enumerate(("/", "other")):
        key, value = vhost_row(VhostDefinition(vhost, "description"))
        rows[key] = value
        catalogue = Catalogue(vhost, bytes, lambda: 0)
        for name in ("one", "two"):
            exchange = ExchangeDefinition(name, "topic", durable=True)
            catalogue.restore_exchange(exchange)
            rows.update([exchange_row(vhost, exchange)])
            queue = QueueDefinition(name, 2 * number + len(catalogue.queues) + 1, durable=True)
            catalogue.restore_queue(queue)
            rows.update([queue_row(vhost, queue)])
        ends = [(EXCHANGE, "one"), (EXCHANGE, "two"), (QUEUE, "one"), (QUEUE, "two")]
        for source in ("one", "two", "amq.fanout"):
            for kind, name in ends:
                record = {
                    "source": source,
                    "kind": kind,
                    "destination": name,
                    "routing_key": "k",
                    "arguments": "AAAAAA==",
                }
                binding = catalogue.restore_binding(record)
                assert binding is not None
                rows.update([binding_row(vhost, binding)])
        rows.update([policy_row(vhost, Policy("p", ".*", "all", 0, {"max-length": 5}), False)])
    return rows


ALL = all_rows()


def restored(rows: Rows) -> dict[str, Catalogue]:
    """As a broker starts with them: raises what it would."""
    catalogues = {}
    for name, stored in read_rows(rows).items():
        assert stored.definition is not None
        catalogues[name] = catalogue = Catalogue(name, bytes, lambda: 0)
        for record in stored.exchanges:
            catalogue.restore_exchange(exchange_from_record(record))
        for record in stored.queues:
            catalogue.restore_queue(queue_from_record(record))
        for record in stored.bindings:
            assert catalogue.restore_binding(record) is not None
    return catalogues


def test_what_is_complete_stays_as_it_is() -> None:
    mended = mend(ALL, [1, 2, 3, 4])
    assert (mended.rows, mended.changes) == (ALL, [])
    assert len(ALL) == 2 * (1 + 2 + 2 + 12 + 1)


@given(st.sets(st.sampled_from(sorted(ALL))), st.sets(st.integers(1, 6)))
def test_a_broker_can_start_with_what_is_left(lost: set[bytes], with_messages: set[int]) -> None:
    left = {key: value for key, value in ALL.items() if key not in lost}
    mended = mend(left, with_messages)
    restored(mended.rows)
    found = owners(mended.rows.values())
    assert with_messages <= found.keys()
    before = owners(left.values())
    assert {queue_id: found[queue_id] for queue_id in before} == before
    assert len(set(found.values())) == len(found)
    gone = [value for key, value in left.items() if key not in mended.rows]
    assert all(b'"what": "binding"' in value for value in gone)
    assert len(mended.changes) == len(gone) + len(mended.rows.keys() - left.keys())
    again = mend(mended.rows, with_messages)
    assert (again.rows, again.changes) == (mended.rows, [])


def test_a_binding_goes_with_either_of_its_ends() -> None:
    key, _ = queue_row("/", QueueDefinition("one", 1))
    mended = mend({name: value for name, value in ALL.items() if name != key}, [])
    assert mended.changes == ["a binding in vhost '/' is gone: queue 'one' was lost"] * 3
    assert "one" not in restored(mended.rows)["/"].queues


def test_messages_without_a_queue_get_one_in_a_vhost_that_is_there() -> None:
    assert owners(mend({}, [7]).rows.values())[7] == ("/", "queue", "salvaged-7")
    only_other = {key: value for key, value in ALL.items() if b'"vhost": "other"' in value}
    assert owners(mend(only_other, [7]).rows.values())[7] == ("other", "queue", "salvaged-7")
    taken = dict([queue_row("/", QueueDefinition("salvaged-7", 1)), vhost_row(VhostDefinition("/"))])
    assert owners(mend(taken, [7]).rows.values())[7] == ("/", "queue", "salvaged-7'")
