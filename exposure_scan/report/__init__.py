"""What people and programs read of a scan: JSON and HTML, the page of several sites, the terminal.

Adding a format is one function and one row in the table below. A format takes a `Material` and returns
text; it opens no file and knows no time of day, so that the same scan always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from exposure_scan.model import Past, Problem, Scan

from .document import load_scan, schema_json
from .material import Material
from .page import render_html, render_index
from .templates import check_templates
from .terminal import summary
from .text import html_text, terminal_text
from .words import PracticeText

__all__ = [
    "FORMATS",
    "PracticeText",
    "check_templates",
    "html_text",
    "load_scan",
    "render",
    "render_index",
    "schema_json",
    "summary",
    "terminal_text",
]

_FORMATS: Mapping[str, Callable[[Material], str]] = MappingProxyType(
    {
        "html": render_html,
        "json": lambda material: material.scan.to_json(),
    }
)
FORMATS: tuple[str, ...] = tuple(_FORMATS)


def render(
    scan: Scan,
    format: str,  # noqa: A002 - the contract
    *,
    practices: Sequence[PracticeText],
    past: Past | None = None,
    templates: Path | None = None,
) -> str:
    """The scan in one of `FORMATS`.

    Args:
        scan: what to tell.
        format: one of `FORMATS`.
        practices: why, menu path and bulletin part of each practice.
        past: how it stands against earlier scans; by default it is the first.
        templates: a folder whose files are taken before the product's own of the same name.

    Raises:
        Problem: there is no such format, or a template of `templates` is wrong.
    """
    if format not in _FORMATS:
        raise Problem(f"There is no format {format!r}; choose one of: {', '.join(FORMATS)}.")
    return _FORMATS[format](Material(scan, tuple(practices), past or Past(), templates))
