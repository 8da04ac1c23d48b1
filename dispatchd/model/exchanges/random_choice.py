"""The random exchange (RabbitMQ's plugin): each message to one binding, whatever the keys say."""

import random
from collections.abc import Callable
from typing import Final

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.direct import NOWHERE
from dispatchd.model.exchanges.table import RoutingTable

RANDOM: Final = "x-random"


class RandomTable(RoutingTable):
    """One binding as good as the other: a destination that is bound twice gets twice as much.

    `draw` gives numbers from 0 up to, and without, 1.
    """

    by_key_only: bool = False  # nothing decides for two messages

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        super().__init__()
        self._draw = draw
        self._choices: list[list[Destination]] = []

    def added(self, binding: Binding) -> None:
        """One more to choose from."""
        self._choices.append([binding.destination])

    def removed(self, binding: Binding) -> None:
        """One less to choose from."""
        self._choices.remove([binding.destination])

    def match(self, message: Message) -> list[Destination]:
        """The destination of one of the bindings; none while nothing is bound."""
        if not self._choices:
            return NOWHERE
        return self._choices[int(self._draw() * len(self._choices))]
