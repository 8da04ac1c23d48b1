"""The bill of materials has what is in the image, each with its licence. `make test-image` writes it before."""

from __future__ import annotations

import json
import os

import pytest
from locks import ROOT, RUNTIME, is_for_this_system, locked, version
from packaging.utils import canonicalize_name


@pytest.mark.skipif("DISPATCHD_IMAGE" not in os.environ, reason="`make test-image` writes it")
def test_all_that_is_locked_is_in_it_with_a_licence() -> None:
    found = json.loads((ROOT / "build/dispatchd.cdx.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    root = found["metadata"]["component"]
    assert (root["name"], root["type"]) == ("dispatchd", "application")
    parts = {canonicalize_name(part["name"]): part for part in found["components"]}
    expected = {name: version(each) for name, each in locked(RUNTIME).items() if is_for_this_system(each)}
    assert {name: part["version"] for name, part in parts.items()} == expected
    assert all(part["licenses"] for part in parts.values())
