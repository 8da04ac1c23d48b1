"""A client that does everything right, all the time, beside others that do not."""

from __future__ import annotations

import time

import gevent
from broker.raw import RawClient
from gevent.event import Event
from pamqp import commands as spec


class Innocent:
    """Publishes with confirms and consumes what it published, one at a time, all the time.

    `done` is how many messages went round, `longest_wait` how many seconds one of them took at most.
    """

    def __init__(self, host: str, port: int, *, persistent: bool = False) -> None:
        self.done = 0
        self.longest_wait = 0.0
        self._stopping = False
        self._progressed = Event()
        self._properties = spec.Basic.Properties(delivery_mode=2 if persistent else 1)
        self._client = client = RawClient(host, port)
        client.open(channel_max=20, frame_max=4096)
        client.open_channel()
        client.send(spec.Queue.Declare(queue="innocent", durable=persistent), 1)
        client.expect(spec.Queue.DeclareOk)
        client.send(spec.Basic.Consume(queue="innocent"), 1)
        client.expect(spec.Basic.ConsumeOk)
        client.send(spec.Confirm.Select(), 1)
        client.expect(spec.Confirm.SelectOk)
        self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            self._send_one_round()
            self.longest_wait = max(self.longest_wait, time.monotonic() - began)
            self.done += 1
            self._progressed.set()
            gevent.sleep(0.001)

    def _send_one_round(self) -> None:
        body = b"%d" % self.done
        self._client.publish(1, "innocent", body, properties=self._properties)
        kinds: set[type] = set()
        while kinds != {spec.Basic.Ack, spec.Basic.Deliver}:
            _, frame = self._client.receive()
            kinds.add(type(frame))
            if isinstance(frame, spec.Basic.Deliver):
                assert self._client.content()[1] == [body]
                self._client.send(spec.Basic.Ack(frame.delivery_tag or 0), 1)
            else:
                assert isinstance(frame, spec.Basic.Ack)
                assert frame.delivery_tag == self.done + 1

    def expect_progress(self) -> None:
        """It gets through two more messages: one of them was sent after this was called."""
        until = self.done + 2
        while self.done < until:
            self._progressed.clear()
            assert self._progressed.wait(10), "an innocent client waits in vain"
            assert self._greenlet.exception is None, self._greenlet.exception

    def stop(self) -> None:
        """Have it end after the message that is on its way."""
        self._stopping = True
        self._greenlet.join(10)
        assert self._greenlet.successful(), self._greenlet.exception
        self._client.close()
