"""SIGKILL at random moments under all that a broker stores at once; what has to be there afterwards is, and no more."""

from __future__ import annotations

import pytest
from crash.durable_broker import DurableBroker, number_of, read
from crash.facts import Check, Facts, Found
from crash.load import TOPOLOGY, Client, Load, declare
from pamqp import commands as spec
from soak import cases, seeded

ROUNDS = cases(5, 50)


def all_that_is_there(broker: DurableBroker, facts: Facts) -> Found:
    """What is in the queues once all that had expired is with the dead: a message that expires last comes last."""
    last = facts.new_number()
    client = Client(broker)
    client.call(spec.Basic.Consume(queue="dead-read"), spec.Basic.ConsumeOk)
    facts.publish(last, ["expiring"], client)
    client.publish_number(last, "expiring")
    number = 0
    while number != last:
        client.expect(spec.Basic.Deliver)
        number = number_of(client.content())
    client.close()
    return {queue: read(broker, queue) for queue in TOPOLOGY.queues}


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_nothing_confirmed_is_lost(broker: DurableBroker) -> None:
    chance = seeded(20240607)
    declare(broker)
    topology = broker.topology()
    facts = Facts(TOPOLOGY)
    confirmed = acked = rejected = transactions = 0
    for _ in range(ROUNDS):
        Load(broker, chance, facts, confirms=chance.randint(1, 3000)).join()
        broker.kill()
        broker.start()
        assert broker.topology() == topology
        found = all_that_is_there(broker, facts)
        Check(facts, found)
        confirmed += len(facts.confirmed)
        acked += len(facts.taken_in)
        rejected += len(facts.rejected)
        transactions += len(facts.transactions)
        left = {queue: [number for number, _ in numbers] for queue, numbers in found.items()}
        facts = Facts(TOPOLOGY, left, facts.next_number)
    print(f"{confirmed} confirmed, {acked} acknowledged, {rejected} rejected, {transactions} transactions")
    assert min(confirmed, acked, rejected, transactions) > ROUNDS
    assert not broker.trouble_since(0)
