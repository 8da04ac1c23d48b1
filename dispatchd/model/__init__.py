"""What AMQP means, without sockets, actors or clocks: bindings, exchanges, queues, ledgers, definitions."""
