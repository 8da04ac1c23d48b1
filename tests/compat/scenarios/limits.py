"""Limits of vhosts and users: what is refused, with which code and text."""

from __future__ import annotations

from compat.script import Bind, Connect, Limit, Open, Permit, PutUser, Queue, scenario

EVERYTHING = Permit("ann", ".*", ".*", ".*")
ANN = Connect(on=2, response="\0ann\0secret")

SCENARIOS = [
    scenario(
        "queues of a vhost",
        Queue("a"),
        Limit("vhost-limits", "/", "max-queues", 0),
        Queue("b"),
        Queue("a", on=2),
        Queue("a", passive=True, on=3),
        Queue("", on=4),
        Queue("amq.x", on=5),
        Queue("b", arguments={"x-max-length": "x"}, on=6),
        Limit("vhost-limits", "/", "max-queues", -1),
        Queue("b", on=7),
        Bind("b", "amq.direct", "k", on=7),
    ),
    scenario(
        "no connections of a user",
        PutUser("ann", ""),
        EVERYTHING,
        Limit("user-limits", "ann", "max-connections", 0),
        ANN,
        Limit("user-limits", "ann", "max-connections", -1),
        ANN,
    ),
    scenario(
        "no connections of a vhost",
        PutUser("ann", ""),
        EVERYTHING,
        Limit("vhost-limits", "/", "max-connections", 0),
        ANN,
    ),
    scenario(
        "no connections of a vhost, nor permissions there",
        PutUser("ann", ""),
        Limit("vhost-limits", "/", "max-connections", 0),
        ANN,
    ),
    scenario(
        "no channels of a user",
        PutUser("ann", ""),
        EVERYTHING,
        Limit("user-limits", "ann", "max-channels", 0),
        ANN,
        Open(on=(2, 1)),
    ),
    scenario(
        "what is no limit",
        PutUser("ann", ""),
        Limit("vhost-limits", "/", "max-cats", 1),
        Limit("vhost-limits", "/", "max-queues", "many"),
        Limit("user-limits", "ann", "max-queues", 1),
        Limit("user-limits", "ann", "max-channels", "many"),
    ),
]
