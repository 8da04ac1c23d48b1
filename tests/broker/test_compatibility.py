"""Differences from RabbitMQ that other people's test suites and a comparison with RabbitMQ 3.10 have found."""

from __future__ import annotations

from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from broker.conftest import OpenRaw


def test_close_ok_reaches_a_client_that_goes_on_sending_after_its_close(raw: OpenRaw) -> None:
    """amqplib sends what it has queued for channels even after connection.close."""
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Connection.Close(200, "bye", 0, 0))
    publish = (
        marshal(spec.Basic.Publish(routing_key="nowhere"), 1)
        + marshal(ContentHeader(0, 1000, spec.Basic.Properties()), 1)
        + marshal(ContentBody(bytes(1000)), 1)
    )
    client.send_bytes(publish * 1000)
    client.expect(spec.Connection.CloseOk)


def test_a_close_right_behind_a_violation_is_answered(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send_bytes(marshal(spec.Basic.Qos(), 7) + marshal(spec.Connection.Close(200, "bye", 0, 0), 0))
    client.expect(spec.Connection.Close)
    client.expect(spec.Connection.CloseOk)
