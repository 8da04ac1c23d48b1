"""Which figures of queues, channels, connections and exchanges Prometheus is told, under RabbitMQ's names."""

from __future__ import annotations

from typing import Final, NamedTuple

GAUGE: Final = "gauge"
COUNTER: Final = "counter"


class Metric(NamedTuple):
    """A figure of one kind of actors: its name behind the prefix, what it is, and under what an actor has it."""

    name: str
    kind: str
    about: str
    figure: str


FAMILIES: Final[dict[str, tuple[str, tuple[Metric, ...]]]] = {
    "queue_coarse_metrics": (
        "queue",
        (
            Metric("queue_messages_ready", GAUGE, "Messages ready to be delivered", "messages_ready"),
            Metric("queue_messages_unacked", GAUGE, "Messages delivered, not acknowledged", "messages_unacknowledged"),
            Metric("queue_messages", GAUGE, "Sum of ready and unacknowledged messages", "messages"),
        ),
    ),
    "queue_consumer_count": ("queue", (Metric("queue_consumers", GAUGE, "Consumers of a queue", "consumers"),)),
    "queue_metrics": (
        "queue",
        (
            Metric("queue_messages_ready_ram", GAUGE, "Messages ready that are in memory", "messages_ready_ram"),
            Metric(
                "queue_messages_unacked_ram",
                GAUGE,
                "Messages unacknowledged, all of them in memory",
                "messages_unacknowledged_ram",
            ),
            Metric("queue_messages_ram", GAUGE, "Messages in memory", "messages_ram"),
            Metric("queue_messages_paged_out", GAUGE, "Messages that only the disk has", "messages_paged_out"),
            Metric("queue_messages_bytes", GAUGE, "Octets of all messages", "message_bytes"),
            Metric("queue_messages_ready_bytes", GAUGE, "Octets of the messages ready", "message_bytes_ready"),
            Metric(
                "queue_messages_unacked_bytes", GAUGE, "Octets of those unacknowledged", "message_bytes_unacknowledged"
            ),
            Metric("queue_messages_ram_bytes", GAUGE, "Octets of those in memory", "message_bytes_ram"),
            Metric(
                "queue_messages_paged_out_bytes",
                GAUGE,
                "Octets of those that only the disk has",
                "message_bytes_paged_out",
            ),
            Metric("queue_messages_persistent", GAUGE, "Persistent messages of durable queues", "messages_persistent"),
            Metric("queue_messages_persistent_bytes", GAUGE, "Octets of those", "message_bytes_persistent"),
            Metric("queue_process_memory_bytes", GAUGE, "Memory that messages of a queue take", "memory"),
            Metric("queue_disk_reads_total", COUNTER, "Messages read from the disk", "disk_reads"),
            Metric("queue_disk_writes_total", COUNTER, "Messages given to the disk", "disk_writes"),
        ),
    ),
    "queue_delivery_metrics": (
        "queue",
        (
            Metric("queue_messages_published_total", COUNTER, "Messages that came into a queue", "published"),
            Metric("queue_messages_deliver_get_total", COUNTER, "Messages delivered, or got", "delivered"),
            Metric("queue_messages_delivered_ack_total", COUNTER, "Delivered, to be acknowledged", "delivered_ack"),
            Metric("queue_messages_delivered_total", COUNTER, "Delivered without that", "delivered_no_ack"),
            Metric("queue_get_ack_total", COUNTER, "Got, to be acknowledged", "got"),
            Metric("queue_get_total", COUNTER, "Got without that", "got_no_ack"),
            Metric("queue_get_empty_total", COUNTER, "Times that a basic.get found nothing", "got_nothing"),
            Metric("queue_messages_redelivered_total", COUNTER, "Messages delivered again", "redelivered"),
            Metric("queue_messages_acked_total", COUNTER, "Messages acknowledged", "acknowledged"),
        ),
    ),
    "channel_metrics": (
        "channel",
        (
            Metric("channel_consumers", GAUGE, "Consumers of a channel", "consumer_count"),
            Metric("channel_messages_unacked", GAUGE, "Delivered, not acknowledged", "messages_unacknowledged"),
            Metric("channel_messages_unconfirmed", GAUGE, "Published, not confirmed", "messages_unconfirmed"),
        ),
    ),
    "channel_queue_metrics": (
        "channel",
        (
            Metric("channel_get_ack_total", COUNTER, "Got, to be acknowledged", "got"),
            Metric("channel_get_total", COUNTER, "Got without that", "got_no_ack"),
            Metric("channel_get_empty_total", COUNTER, "Times that a basic.get found nothing", "got_nothing"),
            Metric("channel_messages_delivered_ack_total", COUNTER, "Delivered, to be acknowledged", "delivered_ack"),
            Metric("channel_messages_delivered_total", COUNTER, "Delivered without that", "delivered_no_ack"),
            Metric("channel_messages_redelivered_total", COUNTER, "Messages delivered again", "redelivered"),
            Metric("channel_messages_acked_total", COUNTER, "Messages acknowledged", "acknowledged"),
        ),
    ),
    "channel_exchange_metrics": (
        "channel",
        (
            Metric("channel_messages_published_total", COUNTER, "Messages published by a channel", "published"),
            Metric("channel_messages_confirmed_total", COUNTER, "Messages confirmed to it", "confirmed"),
            Metric(
                "channel_messages_unroutable_returned_total", COUNTER, "Mandatory ones that found no queue", "returned"
            ),
            Metric("channel_messages_unroutable_dropped_total", COUNTER, "Others that found none", "dropped"),
        ),
    ),
    "connection_coarse_metrics": (
        "connection",
        (
            Metric("connection_incoming_bytes_total", COUNTER, "Octets received", "recv_oct"),
            Metric("connection_outgoing_bytes_total", COUNTER, "Octets sent", "send_oct"),
        ),
    ),
    "connection_metrics": (
        "connection",
        (
            Metric("connection_incoming_packets_total", COUNTER, "Reads of the socket", "recv_cnt"),
            Metric("connection_outgoing_packets_total", COUNTER, "Writes to the socket", "send_cnt"),
            Metric("connection_channels", GAUGE, "Channels of a connection", "channels"),
        ),
    ),
    "exchange_metrics": (
        "exchange",
        (
            Metric("exchange_messages_published_in_total", COUNTER, "Messages to an exchange", "published_in"),
            Metric("exchange_messages_published_out_total", COUNTER, "Messages it routed", "published_out"),
        ),
    ),
}
"""RabbitMQ's names of families for `/metrics/detailed`; the last one is ours."""
