"""What operators ask for, by the API or the command line: each order is told to an actor, and waits for its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from gevent.event import AsyncResult

from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.runtime import Ref
from dispatchd.amqp.errors import AmqpError, Unavailable
from dispatchd.model.definitions import VhostDefinition
from dispatchd.model.policies import ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(ActorMessage):
    """`outcome` becomes the answer, or the AmqpError that says why there is none."""

    outcome: AsyncResult[Any] = field(default_factory=AsyncResult, repr=False, compare=False)

    def fulfil(self, answer: Any) -> None:
        """Tell whoever gave the order that it was carried out, and is on disk where that matters."""
        self.outcome.set(answer)

    def deny(self, error: AmqpError) -> None:
        """Tell whoever gave the order why it was not carried out."""
        self.outcome.set_exception(error)

    def refuse(self, reason: str) -> None:
        """Deny it with 541: an actor on its way failed."""
        self.deny(Unavailable(reason))


@dataclass(frozen=True, slots=True)
class Fulfilled(ActorMessage):
    """Persistence to the actor that carried out an order: what it changed is on disk."""

    order: Order
    answer: Any
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        """The change is made, but is not on disk."""
        self.order.refuse(reason)


def carry_out(actor: Ref, order: Order, seconds: float) -> Any:
    """Give an order and wait for its outcome, so many seconds at most; only the calling greenlet waits.

    Raises the AmqpError that it was denied with, or Unavailable (541) if nothing comes in time.
    """
    actor.tell(order)
    if not order.outcome.wait(seconds) and not order.outcome.ready():
        raise Unavailable(f"{actor.name} did not answer in {seconds:g} s")
    return order.outcome.get()


# --- Virtual hosts


@dataclass(frozen=True, slots=True)
class DefineVhost(Order):
    """To the broker, which hands it to the vhost if there is one. None leaves what is there, or makes it the default.

    The answer is whether the vhost is new.
    """

    name: str
    description: str | None = None
    tags: list[str] | None = None
    tracing: bool | None = None

    def apply_to(self, definition: VhostDefinition) -> None:
        """Change what the order names."""
        if self.description is not None:
            definition.description = self.description
        if self.tags is not None:
            definition.tags = self.tags
        if self.tracing is not None:
            definition.tracing = self.tracing


@dataclass(frozen=True, slots=True)
class LimitVhost(Order):
    """To the vhost: set one of its limits, or (None) clear it."""

    limit: str
    value: int | None

    def apply_to(self, definition: VhostDefinition) -> None:
        """Change what the order names."""
        if self.value is None:
            definition.limits.pop(self.limit, None)
        else:
            definition.limits[self.limit] = self.value


@dataclass(frozen=True, slots=True)
class ShowVhost(Order):
    """To the vhost: the answer is its own record."""


@dataclass(frozen=True, slots=True)
class AddDefinitions(Order):
    """To the vhost: add what is not there of these `kind` ("exchanges", "queues", "bindings"); what is there stays.

    The items are as JSON has them. Denied with the first that makes no sense; those before it are added then.
    """

    kind: str
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DeleteVhost(Order):
    """To the broker: delete the vhost with all that is in it, and close its connections. Denied if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class VhostGone(ActorMessage):
    """Vhost to broker, by way of persistence: everything of it is deleted, on disk too."""

    name: str
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ForgetVhost(ActorMessage):
    """Broker to authenticator: nobody may do anything there any more."""

    name: str
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class UserGone(ActorMessage):
    """Authenticator to broker: a user is deleted."""

    name: str
    is_repeatable: ClassVar[bool] = True


# --- Queues


@dataclass(frozen=True, slots=True)
class Peek(Order):
    """To a queue: show so many of the messages that are ready and in memory, and leave them where they are.

    The answer is a list of rows, from the head on. `truncate` is how many octets of a body are wanted.
    """

    count: int
    skip: int = 0
    encoding: str = "auto"
    truncate: int | None = None


# --- Policies, of a vhost that is told itself


@dataclass(frozen=True, slots=True)
class SetPolicy(Order):
    """Add a policy, or an operator policy; it takes the place of one with its name. The fields are as JSON has them.

    The answer is whether its name is new. By then all that it governs has been told. Denied if it makes no sense.
    """

    name: str
    is_operator: bool
    pattern: Any
    definition: Any
    priority: Any = 0
    apply_to: Any = ALL


@dataclass(frozen=True, slots=True)
class ClearPolicy(Order):
    """Remove a policy, or an operator policy. Denied if there is none."""

    name: str
    is_operator: bool


@dataclass(frozen=True, slots=True)
class ShowPolicies(Order):
    """The answer is a list of rows."""

    is_operator: bool
