"""What people see on the page, and wait for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def expect_text(where: Locator, pattern: str) -> None:
    where.filter(has_text=re.compile(pattern)).first.wait_for()


def fact(page: Page, name: str, value: str) -> None:
    """Wait until the page says so."""
    term = page.locator("dt").filter(has_text=re.compile(f"^{re.escape(name)}$"))
    expect_text(term.locator("xpath=following-sibling::dd"), f"^{re.escape(value)}$")


def wait_for_tile(page: Page, title: str, value: str) -> None:
    expect_text(page.locator(".tile").filter(has=page.get_by_text(title, exact=True)), f"{re.escape(value)}$")


def toast(page: Page, words: str) -> None:
    expect_text(page.locator(".toast"), re.escape(words))


def row_of(page: Page, name: str) -> Locator:
    return page.locator(".rows tbody tr").filter(has=page.get_by_role("link", name=name, exact=True))


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
