"""CC and BCC: further routing keys of one publish."""

from typing import Any

from compat.script import Bind, Get, Publish, Queue, Scenario, scenario


def copied(name: str, headers: dict[str, Any], key: str = "a", exchange: str = "", mandatory: bool = False) -> Scenario:
    """What comes to the queues a, b and c."""
    queues = "abc"
    return scenario(
        name,
        *(Queue(queue) for queue in queues),
        *(Bind(queue, "amq.direct", queue) for queue in queues),
        Publish(exchange, key, "1", {"headers": headers}, mandatory=mandatory),
        *(Get(queue) for queue in queues for _ in range(2)),
    )


SCENARIOS = [
    copied("cc", {"CC": ["b", "c"]}),
    copied("bcc", {"BCC": ["b", "c"]}),
    copied("both", {"CC": ["b"], "BCC": ["c"], "kept": 1}),
    copied("through an exchange", {"CC": ["b"], "BCC": ["c"]}, exchange="amq.direct"),
    copied("the same queue twice", {"CC": ["a", "a"]}),
    copied("the key goes nowhere", {"CC": ["b"]}, key="none", mandatory=True),
    copied("none goes anywhere", {"CC": ["x"], "BCC": ["y"]}, key="none", mandatory=True),
    copied("no keys", {"CC": [], "BCC": []}),
    copied("cc is no list", {"CC": "b"}),
    copied("bcc is no list", {"BCC": True}),
    copied("a key is no text", {"CC": ["b", 1]}),
    copied("lower case is not meant", {"cc": ["b"]}),
]
