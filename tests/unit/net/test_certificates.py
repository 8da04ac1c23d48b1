from __future__ import annotations

from typing import Any

import pytest

from dispatchd.net.certificates import COMMON_NAME, DISTINGUISHED_NAME, name_of


def certificate(*parts: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """As `getpeercert` has it."""
    return {"subject": parts}


FULL = certificate((("countryName", "DE"),), (("organizationName", "a, b"),), (("commonName", "bob"), ("userId", "7")))


@pytest.mark.parametrize(
    ("shown", "login_from", "name"),
    [
        (None, COMMON_NAME, ""),
        (None, DISTINGUISHED_NAME, ""),
        (certificate(), DISTINGUISHED_NAME, ""),
        (FULL, COMMON_NAME, "bob"),
        (FULL, DISTINGUISHED_NAME, "CN=bob+UID=7,O=a\\, b,C=DE"),
        (certificate((("organizationName", "x"),)), COMMON_NAME, ""),
        (certificate((("commonName", '#a"+\\<> '),)), DISTINGUISHED_NAME, 'CN=\\#a\\"\\+\\\\\\<\\>\\ '),
    ],
)
def test_names(shown: dict[str, Any] | None, login_from: str, name: str) -> None:
    assert name_of(shown, login_from) == name
