"""Definitions carried out: orders to the actors that have what they are about, many of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from dispatchd.actors.definitions_plan import TO_AUTHENTICATOR, TO_BROKER, Plan
from dispatchd.actors.orders import AddDefinitions, Order, carry_out
from dispatchd.actors.runtime import Ref
from dispatchd.actors.session import Vhost
from dispatchd.amqp.errors import NotFound, Unavailable

SECONDS: Final = 30.0
AT_ONCE: Final = 32
"""Orders of the kind that come in great numbers, so that they share their commits."""


class Importer:
    """`vhosts` is filled and changed by the broker; only the calling greenlet waits."""

    def __init__(self, broker: Ref, authenticator: Ref, vhosts: Mapping[str, Vhost]) -> None:
        self._broker = broker
        self._authenticator = authenticator
        self._vhosts = vhosts

    def carry_out(self, plan: Plan) -> None:
        """Add what is not there; users, permissions and policies that are there change, all else stays as it is.

        Raises the AmqpError of the first order that is denied; those before it are carried out then.
        """
        under_way: deque[Order] = deque()
        for to, vhost, order in plan.orders:
            receiver = self._receiver(to, vhost)
            if isinstance(order, AddDefinitions):
                receiver.tell(order)
                under_way.append(order)
            else:
                _wait(under_way, 0)
                carry_out(receiver, order, SECONDS)
            _wait(under_way, AT_ONCE)
        _wait(under_way, 0)

    def _receiver(self, to: str, vhost: str) -> Ref:
        if to == TO_AUTHENTICATOR:
            return self._authenticator
        if to == TO_BROKER:
            return self._broker
        found = self._vhosts.get(vhost)
        if found is None:
            raise NotFound(f"no vhost '{vhost}'")
        return found.ref


def _wait(under_way: deque[Order], most: int) -> None:
    while len(under_way) > most:
        order = under_way.popleft()
        if not order.outcome.wait(SECONDS) and not order.outcome.ready():
            raise Unavailable(f"no answer came in {SECONDS:g} s")
        order.outcome.get()
