"""`dispatchd perf`, a load for any AMQP 0-9-1 broker, in the shape of RabbitMQ's PerfTest."""
