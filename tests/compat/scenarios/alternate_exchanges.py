"""alternate-exchange: where a message goes that its exchange has no queue for."""

from compat.script import Bind, Confirm, DeleteExchange, Exchange, Get, Publish, Queue, scenario

TO_ALT = {"alternate-exchange": "alt"}
ALT = (Exchange("alt", "fanout"), Queue("q"), Bind("q", "alt"))

SCENARIOS = [
    scenario("takes what finds no queue", *ALT, Exchange("e", arguments=TO_ALT), Publish("e", "k", "1"), Get("q")),
    scenario(
        "takes nothing that finds one",
        *ALT,
        Exchange("e", arguments=TO_ALT),
        Queue("r"),
        Bind("r", "e", "k"),
        Publish("e", "k", "1"),
        Publish("e", "other", "2"),
        Get("q"),
        Get("q"),
        Get("r"),
        Get("r"),
    ),
    scenario(
        "mandatory is content with it",
        *ALT,
        Exchange("e", arguments=TO_ALT),
        Confirm(),
        Publish("e", "k", "1", mandatory=True),
        Get("q"),
    ),
    scenario("is not there", Exchange("e", arguments=TO_ALT), Publish("e", "k", "1", mandatory=True)),
    scenario(
        "has no queue either",
        Exchange("alt"),
        Exchange("e", arguments=TO_ALT),
        Publish("e", "k", "1", mandatory=True),
    ),
    scenario(
        "comes later",
        Exchange("e", arguments=TO_ALT),
        Publish("e", "k", "1"),
        *ALT,
        Publish("e", "k", "2"),
        Get("q"),
        Get("q"),
    ),
    scenario(
        "goes",
        *ALT,
        Exchange("e", arguments=TO_ALT),
        DeleteExchange("alt"),
        Publish("e", "k", "1", mandatory=True),
    ),
    scenario(
        "a chain",
        *ALT,
        Exchange("b", arguments=TO_ALT),
        Exchange("a", arguments={"alternate-exchange": "b"}),
        Publish("a", "k", "1", mandatory=True),
        Get("q"),
    ),
    scenario(
        "a circle",
        Exchange("a", arguments={"alternate-exchange": "b"}),
        Exchange("b", arguments={"alternate-exchange": "a"}),
        Publish("a", "k", "1", mandatory=True),
    ),
    scenario("its own", Exchange("a", arguments={"alternate-exchange": "a"}), Publish("a", "k", "1", mandatory=True)),
    scenario(
        "is internal",
        Exchange("alt", "fanout", internal=True),
        *ALT[1:],
        Exchange("e", arguments=TO_ALT),
        Publish("e", "k", "1"),
        Get("q"),
    ),
    scenario("is no text", Exchange("e", arguments={"alternate-exchange": True})),
    scenario("once other, once none", Exchange("e", arguments=TO_ALT), Exchange("e")),
    scenario("once none, once other", Exchange("e"), Exchange("e", arguments=TO_ALT)),
    scenario("two that differ", Exchange("e", arguments=TO_ALT), Exchange("e", arguments={"alternate-exchange": "b"})),
]
