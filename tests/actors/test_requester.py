"""Direct reply-to between actors."""

from typing import Any

import pytest
from actors.harness import FRAME_MAX, Client, FakeTransport, Listener, World
from pamqp import commands as spec
from pamqp.header import ContentHeader

from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.messages import Accepted, Drained, Enqueue, Released, Restart, Routed
from dispatchd.actors.requester import Requester
from dispatchd.actors.runtime import tell_all
from dispatchd.actors.session import Session, Vhost
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.access import unrestricted
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.direct_replies import ADDRESS_PREFIX, REPLY_TO
from dispatchd.model.router import Publishing


@pytest.fixture
def server(world: World) -> Client:
    """Another connection, with channel 1 and the queue q, which requests go to."""
    server = Client(world).open().open_channel()
    server.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    return server


def begin_to_listen(client: Client, channel: int = 1) -> None:
    client.call(channel, spec.Basic.Consume(queue=REPLY_TO, consumer_tag="r", no_ack=True), spec.Basic.ConsumeOk)


def address_of(client: Client, server: Client) -> str:
    """The address that the client's channel 1 puts into its requests."""
    client.publish(1, b"request", "q", reply_to=REPLY_TO)
    client.world.settle()
    server.call(1, spec.Basic.Get(queue="q", no_ack=True), spec.Basic.GetOk)
    address = str(server.expect(ContentHeader, 1).properties.reply_to)
    server.rest()
    assert address.startswith(ADDRESS_PREFIX)
    return address


def test_answers_come_to_the_channel_that_asked(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    client.open_channel(2)
    server.publish(1, b"answer", address)
    deliver, body = client.delivery()
    assert (deliver.consumer_tag, deliver.routing_key, deliver.exchange, body) == ("r", address, "", b"answer")
    client.expect_nothing(2)
    client.transport.assert_all_credit_is_back()
    server.transport.assert_all_credit_is_back()


def test_answers_are_confirmed(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    server.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    server.publish(1, b"answer", address, persistent=True)
    assert server.expect(spec.Basic.Ack, 1).delivery_tag == 1
    client.delivery()


def test_a_mandatory_answer_is_delivered_and_returned(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    server.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    server.publish(1, b"answer", address, mandatory=True)
    assert server.returned()[1] == b"answer"
    server.expect(spec.Basic.Ack, 1)
    assert client.delivery()[1] == b"answer"


def test_a_transaction_may_answer(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    server.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    server.publish(1, b"answer", address)
    client.expect_nothing()
    server.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    assert client.delivery()[1] == b"answer"


def test_a_transaction_may_ask(client: Client, server: Client) -> None:
    begin_to_listen(client)
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.publish(1, b"request", "q", reply_to=REPLY_TO)
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    server.call(1, spec.Basic.Get(queue="q", no_ack=True), spec.Basic.GetOk)
    assert str(server.expect(ContentHeader, 1).properties.reply_to).startswith(ADDRESS_PREFIX)


@pytest.mark.parametrize(
    ("no_ack", "text"),
    [
        (False, "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
        (True, "PRECONDITION_FAILED - reply consumer already set"),
    ],
)
def test_what_a_second_reply_consumer_is_told(client: Client, no_ack: bool, text: str) -> None:
    begin_to_listen(client)
    close = client.call(1, spec.Basic.Consume(queue=REPLY_TO, no_ack=no_ack), spec.Channel.Close)
    assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == (406, text, 60, 20)


def test_a_request_without_a_reply_consumer_closes_the_channel_behind_what_came_before(
    client: Client, server: Client
) -> None:
    client.publish(1, b"before", "q")
    client.publish(1, b"request", "q", reply_to=REPLY_TO)
    client.publish(1, b"behind", "q")
    close = client.expect(spec.Channel.Close, 1)
    assert close.reply_text == "PRECONDITION_FAILED - fast reply consumer does not exist"
    assert server.get(no_ack=True)[1] == b"before"
    server.call(1, spec.Basic.Get(queue="q"), spec.Basic.GetEmpty)
    client.transport.assert_all_credit_is_back()


def leave_by_cancel(client: Client) -> None:
    client.call(1, spec.Basic.Cancel(consumer_tag="r"), spec.Basic.CancelOk)


def leave_by_close(client: Client) -> None:
    client.call(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)


def leave_by_error(client: Client) -> None:
    client.call(1, spec.Basic.Get(queue="none"), spec.Channel.Close)


def disconnect(client: Client) -> None:
    client.disconnect()
    client.world.settle()


@pytest.mark.parametrize("leave", [leave_by_cancel, leave_by_close, leave_by_error, disconnect])
def test_an_address_goes_with_its_consumer(client: Client, server: Client, leave: Any) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    leave(client)
    server.publish(1, b"answer", address, mandatory=True)
    assert server.returned()[1] == b"answer"
    close = server.call(1, spec.Queue.Declare(queue=address, passive=True), spec.Channel.Close)
    assert close.reply_text == f"NOT_FOUND - no queue '{address}' in vhost '/'"


def test_an_address_goes_when_its_channel_fails(world: World, server: Client) -> None:
    client = Client(world).open().open_channel()
    begin_to_listen(client)
    address = address_of(client, server)
    (failing,) = [actor for actor in world.actors(ChannelActor) if actor.parent is client.connection]
    failing.ref.tell(Restart())
    client.expect(spec.Channel.Close, 1)
    server.publish(1, b"answer", address, mandatory=True)
    server.returned()


def test_after_a_cancel_there_may_be_another_consumer_with_another_address(client: Client, server: Client) -> None:
    begin_to_listen(client)
    first = address_of(client, server)
    leave_by_cancel(client)
    begin_to_listen(client)
    second = address_of(client, server)
    assert first != second
    server.publish(1, b"late", first)
    server.publish(1, b"answer", second)
    assert client.delivery()[1] == b"answer"
    client.expect_nothing()


def test_declaring_is_looking_whether_it_is_there(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    for name in (REPLY_TO, address):
        for passive in (True, False):
            answer = server.call(1, spec.Queue.Declare(queue=name, passive=passive), spec.Queue.DeclareOk)
            assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 1)


def test_a_declared_pseudo_queue_is_the_channels_last(client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue=REPLY_TO), spec.Queue.DeclareOk)
    answer = client.call(1, spec.Basic.Consume(queue="", no_ack=True), spec.Basic.ConsumeOk)
    assert str(answer.consumer_tag).startswith("amq.ctag-")


def test_a_tag_in_use(client: Client, server: Client) -> None:
    client.call(1, spec.Basic.Consume(queue="q", consumer_tag="c"), spec.Basic.ConsumeOk)
    client.send(1, spec.Basic.Consume(queue=REPLY_TO, consumer_tag="c", no_ack=True))
    assert client.expect(spec.Connection.Close).reply_code == 530


class Asking:
    """A requester whose neighbours only listen."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.publisher: Any = Listener("publisher")
        catalogue = Catalogue("/", lambda octets: b"x" * octets, lambda: 1)
        vhost: Any = Listener("vhost")
        persistence: Any = Listener("persistence")
        ref: Any = Listener("channel")
        host = Vhost("/", vhost, catalogue, persistence)
        session = Session("session", 5, unrestricted("guest", "/"), self.transport, FRAME_MAX, {}, host)
        self.requester = Requester(1, ref, session)
        self.requester.consume("r")

    def answer(self) -> Publishing:
        message: Message = make_message("", self.requester.address, Properties(), b"x" * 100)
        publishing = Publishing(self.publisher, [message], 1, False)
        tell_all(self.requester.receive(Enqueue(publishing, [message]), 1))
        return publishing


def test_who_answers_faster_than_the_client_reads_is_held_back_until_the_socket_has_room() -> None:
    asking = Asking()
    asking.answer()
    assert not asking.publisher.take(Accepted).held
    asking.transport.outlet.unsent = asking.transport.outlet.limit
    publishings = [asking.answer() for _ in range(2)]
    assert all(answer.held for answer in asking.publisher.take_all())
    assert asking.transport.outlet.starved  # so that the writer tells when there is room
    asking.requester.release()
    assert [message.publishing for message in asking.publisher.take_all()] == publishings
    asking.requester.release()
    assert asking.publisher.told == []


def test_the_end_lets_those_go_who_were_held_back() -> None:
    asking = Asking()
    asking.transport.outlet.unsent = asking.transport.outlet.limit
    asking.answer()
    assert asking.publisher.take(Accepted).held
    asking.requester.end()
    asking.publisher.take(Released)
    asking.answer()
    assert not asking.publisher.take(Accepted).held


def test_a_channel_with_room_again_lets_those_go_who_were_held_back(client: Client, server: Client) -> None:
    begin_to_listen(client)
    address = address_of(client, server)
    client.transport.outlet.unsent = client.transport.outlet.limit
    server.publish(1, b"answer", address)
    client.delivery()
    server.world.settle()
    assert server.transport.granted < server.transport.taken
    client.transport.outlet.unsent = 0
    client.connection.tell(Drained())
    server.world.settle()
    server.transport.assert_all_credit_is_back()


def test_an_answer_that_comes_too_late_is_taken_for_nothing() -> None:
    asking = Asking()
    asking.requester.end()
    message = make_message("", "gone", Properties(), b"x")
    message.mandatory, message.queues = True, 1
    tell_all(asking.requester.receive(Enqueue(Publishing(asking.publisher, [message], 1, False), [message]), 1))
    routed, accepted = asking.publisher.take_all()
    assert isinstance(routed, Routed)
    assert routed.returned == [message]
    assert isinstance(accepted, Accepted)
    assert not accepted.held
    assert asking.transport.frames() == []
