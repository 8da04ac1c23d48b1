"""Which methods need which permission, what else is told before that, and the texts.

`rest` is read by the player itself.
"""

from __future__ import annotations

from compat.script import (
    Bind,
    BindExchange,
    Connect,
    Consume,
    Delete,
    DeleteExchange,
    Exchange,
    Get,
    Permit,
    PermitTopics,
    Publish,
    Purge,
    PutUser,
    Queue,
    Scenario,
    Select,
    Step,
    Unbind,
    UnbindExchange,
    scenario,
)

THERE = tuple(
    step for name in ("c", "w", "r", "n") for step in (Queue(name), Exchange(f"x{name}"), Exchange(name, "topic"))
)
DLX, AE = "x-dead-letter-exchange", "alternate-exchange"


def as_ann(name: str, *steps: Step, tags: str = "", before: tuple[Step, ...] = ()) -> Scenario:
    """What ann does on connection 2, who may configure c…, write w… and read r…; each step on a channel of its own."""
    return scenario(
        name,
        *THERE,
        PutUser("ann", tags),
        Permit("ann", "^c", "^w", "^r|^compat-probe$"),
        *before,
        Connect(on=2, response="\0ann\0secret"),
        *steps,
    )


def on(number: int) -> tuple[int, int]:
    return 2, number


SCENARIOS = [
    as_ann(
        "declaring queues",
        Queue("n", on=on(1)),
        Queue("n", passive=True, on=on(2)),
        Queue("nowhere", passive=True, on=on(3)),
        Queue("amq.q", on=on(4)),
        Queue("c", on=on(5)),
        Queue("c2", arguments={DLX: "w"}, on=on(6)),
        Queue("c", arguments={DLX: "n"}, on=on(7)),
        Queue("c2", arguments={DLX: True}, on=on(8)),
        Queue("n2", arguments={"x-max-length": "a"}, on=on(9)),
        Queue("c2", arguments={DLX: "n", "x-max-length": "a"}, on=on(10)),
    ),
    as_ann("a queue that the server names", Queue("", on=on(1))),
    as_ann(
        "with all of a dead letter exchange",
        Queue("crw", arguments={DLX: "w"}, on=on(1)),
        Queue("cr", arguments={DLX: "n"}, on=on(2)),
        before=(Permit("ann", "^c", "^w", "^(cr|r)|^compat-probe$"),),
    ),
    as_ann(
        "declaring exchanges",
        Exchange("n2", on=on(1)),
        Exchange("", on=on(2)),
        Exchange("", passive=True, on=on(3)),
        Exchange("n", "topic", passive=True, on=on(4)),
        Exchange("nowhere", passive=True, on=on(5)),
        Exchange("amq.n", on=on(6)),
        Exchange("c3", on=on(7)),
        Exchange("c4", arguments={AE: "w"}, on=on(8)),
        Exchange("c3", arguments={AE: "w"}, on=on(9)),
        Exchange("c5", arguments={AE: True}, on=on(10)),
    ),
    as_ann("an unknown type is told first", Exchange("n", "no-such-type", on=on(1))),
    as_ann(
        "deleting",
        Delete("n", on=on(1)),
        Delete("nowhere", on=on(2)),
        DeleteExchange("n", on=on(3)),
        DeleteExchange("nowhere", on=on(4)),
        DeleteExchange("amq.direct", on=on(5)),
        DeleteExchange("", on=on(6)),
        Delete("c", on=on(7)),
        DeleteExchange("c", on=on(8)),
    ),
    as_ann(
        "binding queues",
        Bind("n", "r", "k", on=on(1)),
        Bind("w", "n", "k", on=on(2)),
        Bind("w", "r", "k", on=on(3)),
        Bind("w", "", "k", on=on(4)),
        Bind("n", "", "k", on=on(5)),
        Bind("nowhere", "r", "k", on=on(6)),
        Bind("w", "nowhere", "k", on=on(7)),
        Bind("wx", "r", "k", on=on(8)),
        Unbind("w", "n", "k", on=on(9)),
        Unbind("n", "r", "k", on=on(10)),
        Unbind("w", "r", "k", on=on(11)),
    ),
    as_ann(
        "binding exchanges",
        BindExchange("n", "r", "k", on=on(1)),
        BindExchange("w", "n", "k", on=on(2)),
        BindExchange("w", "r", "k", on=on(3)),
        BindExchange("", "r", "k", on=on(4)),
        BindExchange("w", "", "k", on=on(5)),
        UnbindExchange("n", "r", "k", on=on(6)),
        UnbindExchange("w", "r", "k", on=on(7)),
    ),
    as_ann(
        "reading",
        Get("n", on=on(1)),
        Get("nowhere", on=on(2)),
        Get("r", on=on(3)),
        Consume("n", on=on(4)),
        Consume("nowhere", arguments={"x-priority": "a"}, on=on(5)),
        Consume("n", arguments={"x-priority": "a"}, on=on(6)),
        Consume("r", on=on(7)),
        Consume("amq.rabbitmq.reply-to", no_ack=True, on=on(8)),
        Purge("n", on=on(9)),
        Purge("nowhere", on=on(10)),
        Purge("r", on=on(11)),
        Get("", on=on(12)),
    ),
    as_ann(
        "publishing",
        Publish("n", "k", on=on(1)),
        Publish("nowhere", "k", on=on(2)),
        Publish("", "w", on=on(3)),
        Publish("w", "k", mandatory=True, on=on(4)),
        Publish("amq.rabbitmq.trace", "k", on=on(5)),
        Publish("n", "k", "", {"user_id": "bob"}, on=on(6)),
        Publish("w", "k", "", {"user_id": "bob"}, on=on(7)),
        Select(on=on(8)),
        Publish("n", "k", on=on(8)),
    ),
    as_ann(
        "publishing as another",
        Publish("w", "k", "", {"user_id": "bob"}, mandatory=True, on=on(1)),
        tags="impersonator",
    ),
    as_ann(
        "topic permissions",
        Publish("w", "ann./", mandatory=True, on=on(1)),
        Publish("w", "bob./", mandatory=True, on=on(2)),
        Publish("xw", "bob./", mandatory=True, on=on(3)),
        Bind("w", "r", "r.1", on=on(4)),
        Bind("w", "r", "w.1", on=on(5)),
        Unbind("w", "r", "w.1", on=on(6)),
        BindExchange("w", "r", "w.1", on=on(7)),
        before=(
            PermitTopics("ann", "w", r"^{username}\.{vhost}$", ""),
            PermitTopics("ann", "r", "", r"^r\."),
            PermitTopics("ann", "xw", "^nothing", ""),
        ),
    ),
    as_ann(
        "look-ahead",
        Queue("n2", on=on(1)),
        Queue("m", on=on(2)),
        Queue("x-n", on=on(3)),
        Bind("w", "r", "secret.1", on=on(4)),
        Bind("w", "r", "public", on=on(5)),
        before=(Permit("ann", "^(?!n|x).*", ".*", ".*"), PermitTopics("ann", "r", "", "^(?!secret).+$")),
    ),
    as_ann(
        "nothing at all", Queue("", on=on(1)), Get("r", on=on(2)), before=(Permit("ann", "", "", "^compat-probe$"),)
    ),
    scenario("outside", PutUser("ann", ""), Connect(on=2, response="\0ann\0secret")),
    scenario(
        "outside, and the vhost is not there",
        PutUser("ann", ""),
        Connect(on=2, response="\0ann\0secret", virtual_host="no"),
    ),
    scenario(
        "a wrong password",
        PutUser("ann", ""),
        Connect(on=2, response="\0ann\0wrong", capabilities={"authentication_failure_close": True}),
    ),
]
