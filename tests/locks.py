"""The lock files, of which the image is built."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
RUNTIME, BUILD = "requirements.lock", "requirements-build.lock"


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


def is_for_this_system(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()
