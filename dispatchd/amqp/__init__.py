"""The wire of AMQP 0-9-1 and RabbitMQ's additions to it: bytes to typed values and back, without I/O."""
