"""The test suites of client libraries, as package registries carry them, run here and on RabbitMQ."""
