"""What the image is built of: the lock files hold all that is needed and nothing else, and each licence is told."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME, BUILD = "requirements.lock", "requirements-build.lock"
UNNAMED = {"License :: OSI Approved :: BSD License": "BSD-3-Clause"}
"""What packages declare that have no name of SPDX's."""


def locked(file: str) -> dict[str, Requirement]:
    """Each package's requirement; all have hashes."""
    text = (ROOT / file).read_text().replace("\\\n", "")
    found: dict[str, Requirement] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            assert hashes, line
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), line
            found[canonicalize_name(Requirement(requirement).name)] = Requirement(requirement)
    return found


def version(requirement: Requirement) -> str:
    [pin] = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def needed(requirement: Requirement) -> Iterator[Requirement]:
    """What a package that is installed here needs itself."""
    for text in metadata(requirement.name).get_all("Requires-Dist") or ():
        found = Requirement(text)
        extras = requirement.extras or {""}
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras):
            yield found


@pytest.mark.parametrize(
    ("file", "asked"), [(RUNTIME, PROJECT["project"]["dependencies"]), (BUILD, PROJECT["build-system"]["requires"])]
)
def test_a_lock_has_what_is_asked_for_and_what_that_needs(file: str, asked: list[str]) -> None:
    found = locked(file)
    reached = set()
    left = [Requirement(each) for each in asked]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        assert name in found, f"{requirement} is missing in {file}: make lock"
        assert requirement.specifier.contains(version(found[name])), f"{file} has {found[name]}: make lock"
        if name not in reached:
            reached.add(name)
            try:
                left += needed(requirement)
            except PackageNotFoundError:
                pytest.skip(f"{name} is not installed here")
    here = {name for name, each in found.items() if each.marker is None or each.marker.evaluate()}
    assert here == reached


def test_both_locks_have_the_same_versions() -> None:
    runtime, build = locked(RUNTIME), locked(BUILD)
    assert {"librt", "mypy-extensions"} <= runtime.keys() & build.keys()
    for name in runtime.keys() & build.keys():
        assert version(runtime[name]) == version(build[name]), name


def test_no_lock_says_where_to_get_it_from() -> None:
    for file in (RUNTIME, BUILD):
        assert "://" not in (ROOT / file).read_text()


def declared(name: str) -> str:
    about = metadata(name)
    classifiers = [each for each in about.get_all("Classifier") or () if each.startswith("License :: OSI")]
    named = [*(about.get_all("License-Expression") or ()), *(about.get_all("License") or ()), *classifiers]
    return UNNAMED.get(named[0], named[0])


def test_all_licences_are_told() -> None:
    text = (ROOT / "docs/licences.md").read_text()
    told = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+?) \|", text, re.MULTILINE))
    assert told.pop("package") == "licence"
    assert told.keys() == locked(RUNTIME).keys()
    for name, requirement in locked(RUNTIME).items():
        if requirement.marker is None or requirement.marker.evaluate():
            assert told[name] == declared(name), name
    for path in (ROOT / "dispatchd/web/static/vendor").glob("*.LICENSE"):
        assert f"vendor/{path.name})" in text


def test_the_image_installs_from_the_locks() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for file in (RUNTIME, BUILD):
        assert f"--require-hashes --requirement {file}" in dockerfile
    assert len(re.findall(r"pip[^&]* install ", dockerfile)) == 3
    assert "--no-deps" in dockerfile
    assert "--no-build-isolation" in dockerfile
