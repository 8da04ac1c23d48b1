"""What of the container's files has to fit the program; nothing here builds an image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dispatchd
from dispatchd.config_sources import gather

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_image_is_labelled_with_the_version(dockerfile: str) -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.MULTILINE) == [dispatchd.__version__]


def test_the_images_own_settings_are_understood(dockerfile: str) -> None:
    settings = dict(re.findall(r"\b(DISPATCHD_[A-Z_]+)=(\S+)", dockerfile))
    sources = gather({}, settings)
    assert sources.config.guest_from_anywhere
    assert sources.remarks == ()
    assert set(settings) == {"DISPATCHD_GUEST_FROM_ANYWHERE", "DISPATCHD_CONFIG_FILE_IF_EXISTS"}


def test_the_entry_point_adds_no_options() -> None:
    """It only gives up root: what it said on the command line could not be set otherwise."""
    last = (ROOT / "docker-entrypoint.sh").read_text().splitlines()[-1]
    assert last == 'exec dispatchd "$@"'
