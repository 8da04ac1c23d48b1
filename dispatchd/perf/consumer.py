"""A client that consumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.methods import BasicConsume, BasicQos, BasicQosOk, ChannelClose
from dispatchd.perf.client import CHANNEL, Client
from dispatchd.perf.counting.scanner import UNLIMITED, Scanner
from dispatchd.perf.pace import Pace

if TYPE_CHECKING:
    from dispatchd.perf.counting.histogram import Histogram
    from dispatchd.perf.options import Load
    from dispatchd.perf.topology import Topology

GRANT = 1_000
"""Deliveries that are taken at once at most, when they are limited."""


class Consumer:
    """Connects, and declares its queue if that is its own, when it is made; raises PerfError then and while it runs."""

    def __init__(self, load: Load, number: int, topology: Topology, latency: Histogram) -> None:
        self.scanner = Scanner(latency, load.ack_every)
        self.client = Client(load.uri, f"consumer {number}", self.scanner)
        self._queues = topology.queues_of(number, self.client)
        if load.qos:
            self.client.call(BasicQos(prefetch_count=load.qos), BasicQosOk)
        self._load = load

    def run(self) -> None:
        """Consume, until it has taken as many as it may."""
        load, client, scanner = self._load, self.client, self.scanner
        is_limited = bool(load.consumer_rate or load.cmessages)
        pace = Pace(load.consumer_rate)
        left = load.cmessages or UNLIMITED
        scanner.allowance = 0 if is_limited else UNLIMITED
        for queue in self._queues:
            # Without an answer: that might stand behind deliveries which may not be taken yet.
            consume = BasicConsume(queue, consumer_tag=queue, no_ack=load.autoack, nowait=True)
            client.send(encode_method(CHANNEL, consume))
        while True:
            has_more = scanner.is_holding
            if scanner.allowance == 0:
                if left == 0:
                    break
                scanner.allowance = pace.take(min(left, GRANT))
                left -= scanner.allowance
            if has_more:
                client.scan(b"")
            else:
                client.receive()
            self._ack()
        scanner.ack_rest()
        self._ack()

    def leave(self) -> None:
        """Consume no more, and give back what was sent too much."""
        self.client.send(encode_method(CHANNEL, ChannelClose(200, "it has enough")))

    def _ack(self) -> None:
        if acks := self.scanner.take_acks():
            self.client.send(acks)
