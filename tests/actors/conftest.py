from collections.abc import Iterator

import pytest
from actors.harness import Client, World, wait_until

from dispatchd.actors.runtime import System


@pytest.fixture
def system() -> Iterator[System]:
    """No actors but those that the test begins."""
    system = System()
    yield system
    for actor in list(system.actors.values()):
        actor.end()
    wait_until(lambda: not system.actors)


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
