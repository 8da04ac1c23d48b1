"""A vhost's policies, and how a change of them comes to all that they govern, a few queues and exchanges at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.messages import ActorMessage, Define, Govern
from dispatchd.actors.orders import ClearPolicy, Fulfilled, Order, SetPolicy
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.amqp.errors import NotFound
from dispatchd.model.policies import Governance, Policy, VhostPolicies
from dispatchd.model.policy_checks import make_policy, policy_from_record
from dispatchd.model.stored_definitions import StoredVhost, policy_row

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.definitions import ExchangeDefinition, QueueDefinition

    Governed = QueueDefinition | ExchangeDefinition

MATCHES_IN_ONE_TURN = 500
"""Of one name with one policy: so many take less than a millisecond."""


@dataclass(frozen=True, slots=True)
class ReviewPolicies(ActorMessage):
    """A vhost to itself: there are queues or exchanges for which other policies may be the ones by now."""

    is_repeatable: ClassVar[bool] = True


class Governor:
    """Changes the policies for their vhost, whose actor hands it orders, and messages that it tells that actor."""

    def __init__(self, vhost: Ref, catalogue: Catalogue, persistence: Ref) -> None:
        self._vhost = vhost
        self._catalogue = catalogue
        self._persistence = persistence
        self._policies = VhostPolicies()
        self._unreviewed: list[Governed] = []
        self._carried_out: list[tuple[Order, Any, tuple[bytes, bytes | None]]] = []

    def restore(self, stored: StoredVhost) -> None:
        """Take in what the store kept. Raises KeyError or AmqpError for records that make no sense."""
        for record in stored.policies:
            self._policies.set(policy_from_record(record, is_operator=False), is_operator=False)
        for record in stored.operator_policies:
            self._policies.set(policy_from_record(record, is_operator=True), is_operator=True)
        for exchange in self._catalogue.exchanges.values():
            self._review(exchange)

    def govern(self, definition: Governed) -> None:
        """See which policies are for something that is new."""
        definition.governance = self._governance(definition)

    def set(self, order: SetPolicy) -> None:
        """Carry out an order. Raises PreconditionFailed (406)."""
        policy = make_policy(
            order.name, order.is_operator, order.pattern, order.apply_to, order.priority, order.definition
        )
        old = self._policies.of(order.is_operator).get(order.name)
        row = policy_row(self._catalogue.vhost, policy, order.is_operator)
        unreviewed = self._unreviewed
        if old is None or old.to_record() != policy.to_record():
            unreviewed = self._everything()
            self._policies.set(policy, order.is_operator)
        self._unreviewed = unreviewed
        self._carried_out += [(order, old is None, row)]

    def clear(self, order: ClearPolicy) -> None:
        """Carry out an order. Raises NotFound (404)."""
        policy = self._policies.of(order.is_operator).get(order.name)
        if policy is None:
            kind = "operator policy" if order.is_operator else "policy"
            raise NotFound(f"no {self._catalogue.resource(kind, order.name)}")
        key, _ = policy_row(self._catalogue.vhost, policy, order.is_operator)
        unreviewed = self._everything()
        self._policies.clear(order.name, order.is_operator)
        self._unreviewed = unreviewed
        self._carried_out += [(order, None, (key, None))]

    def _everything(self) -> list[Governed]:
        return [*self._catalogue.queues.values(), *self._catalogue.exchanges.values()]

    def restart(self) -> None:
        """The vhost failed, and with it the turn in which there is more to review."""
        if self._carried_out:
            self._vhost.tell(ReviewPolicies())

    def review(self) -> None:
        """Tell some of those for whom the policies have changed; when all are told, store what has been ordered."""
        count = max(MATCHES_IN_ONE_TURN // (1 + len(self)), 1)
        for _ in range(min(count, len(self._unreviewed))):
            self._review(self._unreviewed[-1])
            del self._unreviewed[-1]
        if self._unreviewed:
            self._vhost.tell(ReviewPolicies())
            return
        told: Told = [
            (self._persistence, Define([row], then=(self._vhost, Fulfilled(order, answer))))
            for order, answer, row in self._carried_out
        ]
        self._carried_out = []
        tell_all(told)

    def _review(self, definition: Governed) -> None:
        governance = self._governance(definition)
        if governance is not definition.governance:
            told: Told = [(definition.destination.ref, Govern())]
            definition.governance = governance
            tell_all(told)

    def _governance(self, definition: Governed) -> Governance:
        return self._policies.governing(definition.destination.kind, definition.name)

    def end(self, reason: str) -> list[tuple[bytes, None]]:
        """The vhost goes: nobody waits any more. Returns what the store has to forget."""
        for order, _, _ in self._carried_out:
            order.refuse(reason)
        self._carried_out.clear()
        self._unreviewed.clear()
        return [
            (policy_row(self._catalogue.vhost, policy, is_operator)[0], None)
            for is_operator in (False, True)
            for policy in self._policies.of(is_operator).in_order()
        ]

    def rows(self, is_operator: bool) -> list[dict[str, Any]]:
        """The policies as the admin shows them."""
        return [self._row(policy) for policy in self._policies.of(is_operator).in_order()]

    def _row(self, policy: Policy) -> dict[str, Any]:
        return {"vhost": self._catalogue.vhost, **policy.to_record()}

    def __len__(self) -> int:
        """All policies and operator policies."""
        return len(self._policies.policies) + len(self._policies.operator_policies)
