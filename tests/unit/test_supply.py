"""What the image is built of: the lock files hold all that is needed and nothing else, and each licence is told."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from locks import BUILD, ROOT, RUNTIME, is_for_this_system, locked, version
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
UNNAMED = {"License :: OSI Approved :: BSD License": "BSD-3-Clause"}
"""What packages declare that have no name of SPDX's."""


def is_here(name: str, requirement: Requirement) -> bool:
    """Whether the locked version is installed here; of another one nothing follows for the lock."""
    try:
        return metadata(name)["Version"] == version(requirement)
    except PackageNotFoundError:
        return False


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
            left += needed(requirement) if is_here(name, found[name]) else ()
    here = {name for name, each in found.items() if is_for_this_system(each)}
    if all(is_here(name, found[name]) for name in here):
        assert here == reached, f"{file} has more than is needed: make lock"


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
        if is_here(name, requirement):
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
