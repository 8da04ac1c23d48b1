"""The manifests fit Kubernetes' own schema, of the last version that the validator knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
OTHERS = {"kustomization.yaml", "servicemonitor.yaml"}
"""Of which Kubernetes itself has no schema."""


@pytest.mark.skipif("DISPATCHD_IMAGE" not in os.environ, reason="`make test-image` has what it needs")
def test_all_fit_the_schema() -> None:
    import kubernetes_validate

    def check(document: Any) -> None:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)

    for path in FOLDER.glob("*.yaml"):
        if path.name not in OTHERS:
            for document in yaml.safe_load_all(path.read_text()):
                check(document)
    [wrong] = yaml.safe_load_all((FOLDER / "statefulset.yaml").read_text())
    wrong["spec"]["frob"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="frob"):
        check(wrong)
