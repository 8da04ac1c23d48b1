"""What an actor publishes that it holds itself."""

from dispatchd.actors.messages import Committed
from dispatchd.actors.republisher import Republisher
from dispatchd.actors.runtime import Actor, System
from dispatchd.amqp.message import make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import QueueEntry


def test_one_commit_answers_for_several_queues() -> None:
    republisher = Republisher(Actor(System(), "publisher", None).ref)
    message = make_message("", "q", Properties(delivery_mode=2), b"x")
    publishing = republisher.publishing([message])
    publishing.hops = 0
    publishing.uncommitted = 3
    republisher.on_their_way[publishing] = [QueueEntry(message, "queue", 1)]
    assert republisher.arrived(republisher.heard(Committed([publishing]))) == []
    assert republisher.arrived(republisher.heard(Committed([publishing, publishing]))) == [publishing]
