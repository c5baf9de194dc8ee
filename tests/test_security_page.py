"""SECURITY.md names tests, make targets and files; each of them is there."""

from __future__ import annotations

import re

import pytest
from commands import would_make
from dependencies import ROOT

PAGE = ROOT / "SECURITY.md"
TEXT = PAGE.read_text("utf-8")
TESTS = sorted(set(re.findall(r"tests/[\w*]+\.\w+", TEXT)))
TARGETS = sorted(set(re.findall(r"`make ([a-z-]+)", TEXT)))


@pytest.mark.parametrize("pattern", TESTS)
def test_every_test_that_the_page_names_is_there_and_holds_tests(pattern: str) -> None:
    found = list(ROOT.glob(pattern))
    assert found
    assert all("\ndef test_" in file.read_text("utf-8") for file in found)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_that_the_page_names_can_be_made(target: str) -> None:
    asked = would_make(target)
    assert (asked.returncode, asked.stderr) == (0, "")


def test_every_file_that_the_page_links_or_names_is_there() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    named = re.findall(r"`(requirements-\w+\.lock)`", TEXT)
    assert linked
    assert named
    assert [name for name in (*linked, *named) if not (ROOT / name).is_file()] == []


def test_the_page_says_how_to_report_what_is_supported_and_what_is_not_defended() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings == ["Reporting a weakness", "Supported versions", "What is defended", "What is not defended"]
    assert len(TESTS) > 30
    assert not re.search(r"\S@\S|://", TEXT)  # nobody's address is made up
