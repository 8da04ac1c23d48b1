from collections.abc import Iterator

import pytest
from actors.harness import Client, World


@pytest.fixture
def world() -> Iterator[World]:
    """A broker in memory, without ports."""
    world = World()
    yield world
    world.end()


@pytest.fixture
def client(world: World) -> Client:
    """An open connection with channel 1."""
    return Client(world).open().open_channel()
