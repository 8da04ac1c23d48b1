"""Definitions as the store keeps them: a record for each user, each vhost, and for each thing in it that is to be kept.

Those are durable exchanges, queues and bindings, policies and operator policies. A record is JSON; its key is a digest
of what identifies it, because names together are longer than a store's key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dispatchd.model.binding import Binding
from dispatchd.model.definitions import (
    ExchangeDefinition,
    QueueDefinition,
    Record,
    VhostDefinition,
    binding_to_record,
    vhost_from_record,
)
from dispatchd.model.policies import Policy

VHOSTS: Final = "vhost"
EXCHANGES: Final = "exchange"
QUEUES: Final = "queue"
BINDINGS: Final = "binding"
POLICIES: Final = "policy"
OPERATOR_POLICIES: Final = "operator policy"
USERS: Final = "user"
"""Of the vhost "", which is none. What a user may do is part of the record, see `users`."""
_KINDS: Final = (VHOSTS, EXCHANGES, QUEUES, BINDINGS, POLICIES, OPERATOR_POLICIES, USERS)
_KEY_OCTETS: Final = 20


class StoredVhost:
    """The records of one vhost. Without a `definition` they are what an interrupted deletion left behind."""

    def __init__(self, definition: VhostDefinition | None = None) -> None:
        self.definition = definition
        self.keys: list[bytes] = []
        self.exchanges: list[Record] = []
        self.queues: list[Record] = []
        self.bindings: list[Record] = []
        self.policies: list[Record] = []
        self.operator_policies: list[Record] = []


def vhost_row(vhost: VhostDefinition) -> tuple[bytes, bytes]:
    """Key and value of a vhost itself."""
    return _row(vhost.name, VHOSTS, [], vhost.to_record())


def exchange_row(vhost: str, exchange: ExchangeDefinition) -> tuple[bytes, bytes]:
    """Key and value of an exchange."""
    return _row(vhost, EXCHANGES, [exchange.name], exchange.to_record())


def queue_row(vhost: str, queue: QueueDefinition) -> tuple[bytes, bytes]:
    """Key and value of a queue."""
    return _row(vhost, QUEUES, [queue.name], queue.to_record())


def binding_row(vhost: str, binding: Binding) -> tuple[bytes, bytes]:
    """Key and value of a binding."""
    record = binding_to_record(binding)
    identity = [record[name] for name in ("source", "kind", "destination", "routing_key", "arguments")]
    return _row(vhost, BINDINGS, identity, record)


def policy_row(vhost: str, policy: Policy, is_operator: bool) -> tuple[bytes, bytes]:
    """Key and value of a policy, or of an operator policy."""
    return _row(vhost, OPERATOR_POLICIES if is_operator else POLICIES, [policy.name], policy.to_record())


def user_row(record: Record) -> tuple[bytes, bytes]:
    """Key and value of a user."""
    return _row("", USERS, [record["name"]], record)


def user_key(name: str) -> bytes:
    """The key of a user."""
    return _key("", USERS, [name])


def _key(vhost: str, kind: str, identity: list[str]) -> bytes:
    return blake2b(json.dumps([vhost, kind, *identity]).encode(), digest_size=_KEY_OCTETS).digest()


def _row(vhost: str, kind: str, identity: list[str], record: Record) -> tuple[bytes, bytes]:
    key = _key(vhost, kind, identity)
    return key, json.dumps({"vhost": vhost, "what": kind, "record": record}).encode()


def read_rows(rows: dict[bytes, bytes]) -> dict[str, StoredVhost]:
    """The records of vhosts, by vhost. Raises ValueError or KeyError for a row that isn't one."""
    vhosts: dict[str, StoredVhost] = {}
    for key, value in rows.items():
        row = read_row(value)
        if row["what"] == USERS:
            continue
        vhost = vhosts.setdefault(row["vhost"], StoredVhost())
        vhost.keys.append(key)
        if row["what"] == VHOSTS:
            vhost.definition = vhost_from_record(row["record"])
        elif row["what"] == EXCHANGES:
            vhost.exchanges.append(row["record"])
        elif row["what"] == QUEUES:
            vhost.queues.append(row["record"])
        elif row["what"] == BINDINGS:
            vhost.bindings.append(row["record"])
        elif row["what"] == POLICIES:
            vhost.policies.append(row["record"])
        else:
            vhost.operator_policies.append(row["record"])
    return vhosts


def user_records(rows: dict[bytes, bytes]) -> list[Record]:
    """The records of users. Raises ValueError for a row that isn't one."""
    return [row["record"] for row in [read_row(value) for value in rows.values()] if row["what"] == USERS]


class Owner(NamedTuple):
    """A queue, or an exchange that keeps messages, by its names."""

    vhost: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' in vhost '{self.vhost}'"


def owners(values: Iterable[bytes]) -> dict[int, Owner]:
    """Whose the stored entries are, by queue id. Rows that make no sense are passed over."""
    found: dict[int, Owner] = {}
    for value in values:
        try:
            row = read_row(value)
        except ValueError:
            continue
        queue_id = row["record"].get("queue_id")
        if isinstance(queue_id, int) and queue_id and row["what"] in (QUEUES, EXCHANGES):
            found[queue_id] = Owner(row["vhost"], row["what"], str(row["record"].get("name")))
    return found


def read_row(value: bytes) -> Record:
    """What a record is about: "vhost", "what" and "record". Raises ValueError if it makes no sense."""
    try:
        row: Any = json.loads(value)
    except (ValueError, RecursionError):
        row = None
    if not (
        isinstance(row, dict)
        and row.get("what") in _KINDS
        and isinstance(row.get("vhost"), str)
        and isinstance(row.get("record"), dict)
    ):
        raise ValueError(f"not a definition: {value[:100]!r}")
    return row
