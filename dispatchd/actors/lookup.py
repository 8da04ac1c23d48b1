"""Finding what an operator names: in the catalogues, which are shared, so that nobody has to be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp.errors import NotFound

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor, Ref, System
    from dispatchd.model.definitions import ExchangeDefinition


def find_vhost(system: System, name: str) -> VhostActor:
    """The actor of a vhost. Raises NotFound (404)."""
    for actor in system.actors.values():
        if isinstance(actor, VhostActor) and actor.name == name:
            return actor
    raise NotFound(f"no vhost '{name}'")


def find_queue(system: System, vhost: str, name: str) -> Ref:
    """The reference of a queue, exclusive or not. Raises NotFound (404)."""
    catalogue = find_vhost(system, vhost).catalogue
    queue = catalogue.queues.get(name)
    if queue is None:
        raise NotFound(f"no {catalogue.resource('queue', name)}")
    ref: Ref = queue.destination.ref
    return ref


def find_exchange(system: System, vhost: str, name: str, *, to_publish: bool = False) -> Ref:
    """The reference of an exchange. Raises NotFound (404), or AccessRefused (403) if nobody may publish to it."""
    catalogue = find_vhost(system, vhost).catalogue
    find = catalogue.exchange_to_publish_to if to_publish else catalogue.existing_exchange
    ref: Ref = find(name).destination.ref
    return ref


def find_exchange_definition(system: System, vhost: str, name: str) -> ExchangeDefinition:
    """How an exchange was declared. Raises NotFound (404)."""
    return find_vhost(system, vhost).catalogue.existing_exchange(name)


def find_by_name(system: System, kind: str, name: str) -> Actor:
    """The actor of this kind and name, such as a connection. Raises NotFound (404)."""
    for actor in system.actors.values():
        if actor.name == name and actor.kind == kind:
            return actor
    raise NotFound(f"no {kind} '{name}'")
