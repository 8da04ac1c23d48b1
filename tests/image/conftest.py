from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from image.container import IMAGE, Container, Files, build, run

missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]


@pytest.fixture(scope="session")
def files() -> Iterator[Files]:
    """Of the image that the Dockerfile makes."""
    if "DISPATCHD_IMAGE" not in os.environ:
        pytest.skip("`make test-image` builds and runs the image")
    assert os.geteuid() == 0, "only root can build and run an image without a container engine"
    assert not missing, f"{' and '.join(missing)} is missing"
    build()
    files = Files()
    yield files
    files.remove()
    run("buildah", "rmi", IMAGE)


@pytest.fixture
def start(files: Files) -> Iterator[Callable[..., Container]]:
    """Start a broker from the image, with a folder of data, as a user and a group."""
    started: list[Container] = []

    def start(data: Path, user: str, **more: Any) -> Container:
        started.append(Container(files.root, data, user, **more))
        return started[-1]

    yield start
    for container in started:
        container.remove()
