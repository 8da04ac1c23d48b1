"""Policies: arguments that an operator gives to all queues and exchanges of a vhost whose names match.

Rules are RabbitMQ 3.10's (rabbit_policy, rabbit_policies, rabbit_queue_type_util).
"""

from __future__ import annotations

from typing import Any, Final

from dispatchd.model.binding import EXCHANGE, QUEUE, Kind
from dispatchd.model.patterns import Pattern

Number = int | float
Record = dict[str, Any]

ALL: Final = "all"
APPLY_TO: Final[dict[str, tuple[Kind, ...]]] = {ALL: (QUEUE, EXCHANGE), "queues": (QUEUE,), "exchanges": (EXCHANGE,)}

SMALLER_COUNTS: Final = frozenset(
    {
        "consumer-timeout",
        "delivery-limit",
        "expires",
        "max-in-memory-bytes",
        "max-in-memory-length",
        "max-length",
        "max-length-bytes",
        "message-ttl",
    }
)
"""Where several say how much, the least of it is what holds. In all else an argument goes before the policies."""

OF_QUEUES: Final = {
    key: f"x-{key}"
    for key in (
        "consumer-timeout",
        "dead-letter-exchange",
        "dead-letter-routing-key",
        "delivery-limit",
        "expires",
        "max-length",
        "max-length-bytes",
        "message-ttl",
        "overflow",
        "queue-mode",
    )
}
"""What a policy can ask of a queue, and the argument that asks the same."""

LARGEST: Final = 1 << 60
"""What numbers may come to, in octets or milliseconds: more is the same."""

NOT_OF_CLASSIC_QUEUES: Final = frozenset(
    {
        "dead-letter-strategy",
        "initial-cluster-size",
        "max-age",
        "queue-leader-locator",
        "stream-max-segment-size-bytes",
    }
)
"""A policy with one of these is for quorum queues or streams, and governs no other queue."""


class Policy:
    """One policy, which never changes: another one takes its place. `policy_checks` sees that it makes sense.

    `pattern` is a regular expression that is looked for anywhere in a name; see `patterns`.
    """

    def __init__(self, name: str, pattern: str, apply_to: str, priority: Number, definition: dict[str, Any]) -> None:
        self.name = name
        self.pattern = pattern
        self.apply_to = apply_to
        self.priority: Number = priority
        self.definition = definition
        self._pattern = Pattern(pattern)
        self._kinds: list[Kind] = list(APPLY_TO[apply_to])
        if not NOT_OF_CLASSIC_QUEUES.isdisjoint(definition) and QUEUE in self._kinds:
            self._kinds.remove(QUEUE)

    def matches(self, kind: Kind, name: bytes) -> bool:
        """Whether it is for a queue, or an exchange, of this name."""
        return kind in self._kinds and self._pattern.found_in(name)

    def to_record(self) -> Record:
        """The policy as JSON has it."""
        return {
            "name": self.name,
            "pattern": self.pattern,
            "apply-to": self.apply_to,
            "definition": self.definition,
            "priority": self.priority,
        }

    def __repr__(self) -> str:
        return f"policy {self.name!r}"


class Governance:
    """The policy and the operator policy that govern a queue or an exchange, and what both together ask of it."""

    def __init__(self, policy: Policy | None, operator_policy: Policy | None) -> None:
        self.policy = policy
        self.operator_policy = operator_policy
        definition: dict[str, Any] = dict(policy.definition) if policy is not None else {}
        if operator_policy is not None:
            for key, value in operator_policy.definition.items():
                definition[key] = min(value, definition.get(key, value))
        self.definition = definition

    def to_row(self) -> dict[str, Any]:
        """What the rows of queues and exchanges tell of it, as RabbitMQ's management does."""
        return {
            "policy": self.policy.name if self.policy is not None else None,
            "operator_policy": self.operator_policy.name if self.operator_policy is not None else None,
            "effective_policy_definition": self.definition,
        }


UNGOVERNED: Final = Governance(None, None)


class Policies:
    """All policies of a vhost, or all its operator policies."""

    def __init__(self) -> None:
        self._by_name: dict[str, Policy] = {}
        self._in_order: list[Policy] = []

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Policy | None:
        """The policy of this name."""
        return self._by_name.get(name)

    def set(self, policy: Policy) -> None:
        """Add a policy; it takes the place of one with its name."""
        self._by_name[policy.name] = policy
        self._sort()

    def clear(self, name: str) -> Policy | None:
        """Remove a policy; returns it, None if there is none."""
        cleared = self._by_name.pop(name, None)
        self._sort()
        return cleared

    def _sort(self) -> None:
        self._in_order = sorted(self._by_name.values(), key=_rank)

    def in_order(self) -> list[Policy]:
        """The first of them that matches governs: the one of the highest priority, among equals by name."""
        return self._in_order

    def governing(self, kind: Kind, name: bytes) -> Policy | None:
        """The policy that governs a queue, or an exchange, of this name."""
        for policy in self._in_order:
            if policy.matches(kind, name):
                return policy
        return None


def _rank(policy: Policy) -> tuple[Number, str]:
    return -policy.priority, policy.name


class VhostPolicies:
    """Policies and operator policies of one vhost, and what they come to for a name."""

    def __init__(self) -> None:
        self.policies = Policies()
        self.operator_policies = Policies()
        self._known: dict[tuple[str | None, str | None], Governance] = {}

    def of(self, is_operator: bool) -> Policies:
        """The ones or the others."""
        return self.operator_policies if is_operator else self.policies

    def set(self, policy: Policy, is_operator: bool) -> None:
        """Add a policy; it takes the place of one with its name."""
        self.of(is_operator).set(policy)
        self._forget(policy.name, is_operator)

    def clear(self, name: str, is_operator: bool) -> Policy | None:
        """Remove a policy; returns it, None if there is none."""
        self._forget(name, is_operator)
        return self.of(is_operator).clear(name)

    def _forget(self, name: str, is_operator: bool) -> None:
        for key in list(self._known):
            if (key[1] if is_operator else key[0]) == name:
                del self._known[key]

    def governing(self, kind: Kind, name: str) -> Governance:
        """What governs a queue, or an exchange, of this name: the same object as long as the same policies do."""
        octets = name.encode()
        policy = self.policies.governing(kind, octets)
        operator_policy = self.operator_policies.governing(kind, octets)
        if policy is None and operator_policy is None:
            return UNGOVERNED
        key = (policy.name if policy else None, operator_policy.name if operator_policy else None)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Governance(policy, operator_policy)
        return known


def governed_arguments(declared: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a queue with what its policies ask, by which it is to behave."""
    if not definition:
        return declared
    arguments = dict(declared)
    for key, value in definition.items():
        name = OF_QUEUES.get(key)
        if name is None:
            continue
        if key in SMALLER_COUNTS:
            arguments[name] = min(value, declared.get(name, value), LARGEST)
        elif name not in declared:
            arguments[name] = value
    return arguments
