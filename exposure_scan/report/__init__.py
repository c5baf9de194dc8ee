"""What people and programs read of a scan: JSON and HTML, the page of several sites, the terminal.

Adding a format is one function and one row in the table below. A format takes the scan and the
practice texts, and returns text; it opens no file and knows no time of day, so that the same scan
always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from exposure_scan.model import Problem, Scan

from .document import load_scan, schema_json
from .page import render_html, render_index
from .terminal import summary
from .text import html_text, terminal_text
from .words import PracticeText

__all__ = [
    "FORMATS",
    "PracticeText",
    "html_text",
    "load_scan",
    "render",
    "render_index",
    "schema_json",
    "summary",
    "terminal_text",
]

_FORMATS: Mapping[str, Callable[[Scan, Sequence[PracticeText]], str]] = MappingProxyType(
    {
        "html": render_html,
        "json": lambda scan, _: scan.to_json(),
    }
)
FORMATS: tuple[str, ...] = tuple(_FORMATS)


def render(scan: Scan, format: str, *, practices: Sequence[PracticeText]) -> str:  # noqa: A002 - the contract
    """The scan in one of `FORMATS`. `practices` add why, menu path and bulletin part to the findings.

    Raises:
        Problem: there is no such format.
    """
    if format not in _FORMATS:
        raise Problem(f"There is no format {format!r}; choose one of: {', '.join(FORMATS)}.")
    return _FORMATS[format](scan, practices)
