"""A pytest plugin for suites that start RabbitMQ in a container by themselves: their container is the broker at hand.

It runs in the environment of the suite, and stands in for aiormq's and aio-pika's `tests.docker_client`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest
from yarl import URL


class DockerNotAvailableError(Exception):
    pass


@dataclass
class DockerHostInfo:
    pass


@dataclass
class ContainerInfo:
    id: str = "at hand"
    ports: dict[str, int] = field(default_factory=lambda: {"5672/tcp": 5672, "5671/tcp": 5671})
    host: str = "127.0.0.1"


class DockerClient:
    def __init__(self, docker_host_info: DockerHostInfo | None = None) -> None:
        self.docker_host_info = docker_host_info

    def run(self, _image: str, _ports: list[str], environment: dict[str, str] | None = None) -> ContainerInfo:
        del environment
        return ContainerInfo()

    def kill(self, container_id: str) -> None:
        pass

    def remove(self, container_id: str) -> None:
        pass


def check_docker_available() -> DockerHostInfo:
    return DockerHostInfo()


sys.modules["tests.docker_client"] = sys.modules[__name__]


@pytest.fixture(scope="session")
def rabbitmq_container() -> ContainerInfo:
    return ContainerInfo()


@pytest.fixture(scope="session")
def amqp_direct_url(rabbitmq_container: ContainerInfo) -> URL:
    return URL.build(scheme="amqp", user="guest", password="guest", host=rabbitmq_container.host, path="//", port=5672)
