"""SIGKILL at random moments under all that a broker stores at once; what has to be there afterwards is, and no more."""

from __future__ import annotations

import pytest
from crash.durable_broker import DurableBroker
from crash.facts import Check, Facts
from crash.load import TOPOLOGY, Load, all_that_is_there, declare
from soak import cases, seeded

ROUNDS = cases(5, 50)


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
        facts = facts.next_run(found)
    print(f"{confirmed} confirmed, {acked} acknowledged, {rejected} rejected, {transactions} transactions")
    assert min(confirmed, acked, rejected, transactions) > ROUNDS
    assert not broker.trouble_since(0)
