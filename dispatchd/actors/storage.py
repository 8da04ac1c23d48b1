"""Who stores what for queues, and how much of them is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatchd.actors.held_credit import Crowd
from dispatchd.actors.pressure import Pressure
from dispatchd.model.residency import Residency

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.queue_rules import QueueRules

RESIDENT = Residency(32_768, 32 << 20)
"""Ready messages of one queue, and octets of their bodies. Many more than a queue has whose consumers keep up."""
RESIDENT_IF_LAZY = Residency(512, 1 << 20)
"""With x-queue-mode=lazy: what is needed next, and what is on its way to the disk."""


@dataclass(frozen=True, slots=True)
class Storage:
    """`persistence` keeps what outlives the broker, and `pressure` says how far it is behind.

    `scratch` has what only has to leave memory.
    """

    persistence: Ref
    scratch: Ref
    pressure: Pressure = field(default_factory=Pressure)
    resident: Residency = RESIDENT
    resident_if_lazy: Residency = RESIDENT_IF_LAZY
    crowd: Crowd = field(default_factory=Crowd)

    def residency(self, rules: QueueRules) -> Residency:
        """How much of a queue with these rules is in memory."""
        return self.resident_if_lazy if rules.lazy else self.resident
