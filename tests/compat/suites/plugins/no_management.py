"""A pytest plugin for amqpstorm's suite, which tidies up through RabbitMQ's management API: it does so by AMQP.

It runs in the environment of the suite.
"""

from __future__ import annotations

from contextlib import suppress

import amqpstorm
from amqpstorm.tests import HOST, PASSWORD, USERNAME
from amqpstorm.tests.functional import utility


def clean(names: list[str], queue: bool = False, exchange: bool = False) -> None:
    with amqpstorm.Connection(HOST, USERNAME, PASSWORD, timeout=10) as connection:
        for name in names:
            for asked, kind in ((queue, "queue"), (exchange, "exchange")):
                if asked:
                    with suppress(amqpstorm.AMQPError), connection.channel() as channel:
                        getattr(channel, kind).delete(name)


utility.clean = clean
