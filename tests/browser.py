"""Debian's Chromium, driven over a pipe: a page as its reader sees it, and what it asks for while it is shown.

A page of ours asks for nothing. `shown` fails where it asks for anything but itself, or complains of anything.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

try:
    from playwright.sync_api import Browser, Page, Route, sync_playwright
except ImportError as missing:
    _MISSING = f"playwright is missing: {missing}"
else:
    _MISSING = ""

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage

CHROMIUM = shutil.which("chromium")
WHY_NOT = _MISSING or ("" if CHROMIUM else "there is no chromium; tests/install_browser.sh installs Debian's")
needs_browser = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is a browser")

# Quiet, and without a wish of its own to talk to anybody.
_ARGUMENTS = (
    "--no-sandbox",  # root may not use it, and a page of ours runs no script
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def started() -> Iterator[Browser]:
    """The browser. While it runs, its thread runs no other asyncio loop: end it before other tests begin."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown(
    browser: Browser,
    file: Path,
    *,
    width: int = 1280,
    height: int = 900,
    scripts: bool = True,
    obeys_policy: bool = True,
) -> Iterator[Page]:
    """A file in a window of this size, in CSS pixels. `obeys_policy` is the page's content security policy.

    Raises:
        AssertionError: the page asked for something, or had an error in the console.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="light",
        java_script_enabled=scripts,
        bypass_csp=not obeys_policy,
        service_workers="block",
    )
    own = file.resolve().as_uri()
    asked: list[str] = []
    said: list[str] = []

    def answer(route: Route) -> None:
        if route.request.url.partition("#")[0] == own:
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(message.text)

    context.route("**/*", answer)
    try:
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(own)
        yield page
    finally:
        context.close()
    assert asked == [], f"{file.name} asked for something"
    assert said == [], f"{file.name} has errors in the console"


def open_all(page: Page) -> None:
    """Open everything that a reader can fold out."""
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page for a person, where EXPOSURE_SCAN_SHOTS names a folder."""
    if folder := os.environ.get("EXPOSURE_SCAN_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder, re.sub(r"[^\w.-]", "_", name) + ".png"), full_page=True)


def paper(page: Page, form: str, name: str) -> bytes:
    """The page as it is printed on paper of this form, kept beside the pictures."""
    printed: bytes = page.pdf(format=form, print_background=False, prefer_css_page_size=False)
    if folder := os.environ.get("EXPOSURE_SCAN_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, re.sub(r"[^\w.-]", "_", name) + ".pdf").write_bytes(printed)
    return printed


# What sticks out: boxes past the window's right edge, and words past the edge of the card that they stand in.
_OUTSIDE = """
() => {
  const found = [];
  const tell = (what, node, right) =>
    found.push(`${what} to ${Math.round(right)}: ${node.textContent.trim().slice(0, 60)}`);
  const width = document.documentElement.clientWidth;
  const scrolls = document.documentElement.scrollWidth;
  if (scrolls > width) found.push(`the page scrolls to ${scrolls}`);
  const clipped = (element) =>  // told to a screen reader alone
    element.closest('thead') && getComputedStyle(element.closest('thead')).clipPath !== 'none';
  for (const element of document.body.querySelectorAll('*')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.height && !clipped(element) && (box.right > width + 0.5 || box.left < -0.5))
      tell(`a ${element.tagName.toLowerCase()} reaches`, element, box.right);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!text.textContent.trim() || clipped(parent) || !parent.checkVisibility()) continue;
    const card = parent.closest('section, header, footer, main').getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const box of range.getClientRects())
      if (box.width > 1 && (box.right > Math.min(card.right, width) + 0.5 || box.left < card.left - 0.5))
        tell('words reach', text, box.right);
  }
  return found;
}
"""


def sticking_out(page: Page) -> list[str]:
    """What is wider than the window or than its card, one line each."""
    found: list[str] = page.evaluate(_OUTSIDE)
    return found


_SMALL = """
least => {
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!text.textContent.trim() || !parent.checkVisibility()) continue;
    const drawing = parent.closest('svg');  // its words shrink with it
    const scale = drawing && drawing.viewBox.baseVal.width ? drawing.getScreenCTM().a : 1;
    const size = parseFloat(getComputedStyle(parent).fontSize) * scale;
    if (size < least) found.add(`${size.toFixed(1)} px: ${text.textContent.trim().slice(0, 40)}`);
  }
  return [...found];
}
"""


def smaller_than(page: Page, least: float) -> list[str]:
    """Words that are shown in letters smaller than this, in CSS pixels, one line each."""
    found: list[str] = page.evaluate(_SMALL, least)
    return found


def words_of(page: Page) -> str:
    """The text of the page as it is shown, its spaces made single."""
    return " ".join(page.inner_text("body").split())


def violations(page: Page, *, contrast: bool = True) -> list[str]:
    """What axe-core holds against the page: WCAG 2.2 A and AA and its best practices, one line each.

    Args:
        page: shown without obeying its policy, since axe-core is a script.
        contrast: look at colours, too, which takes most of the time.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    rules = {"target-size": {"enabled": True}, "color-contrast": {"enabled": contrast}}
    result: dict[str, Any] = page.evaluate(
        "rules => axe.run(document, {rules, resultTypes: ['violations']})",
        rules,
    )
    assert len(result["passes"]) > 20, "axe-core checked too little"
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:120]} {node.get('failureSummary', '')[:300]}"
        for rule in result["violations"]
        for node in rule["nodes"][:3]
    ]
