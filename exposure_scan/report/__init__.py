"""What people and programs read of a scan: JSON and HTML, the page of several sites, the terminal.

Adding a format is one function and one row in the tables below. A format takes a `Material` and returns
text, or bytes; it opens no file and knows no time of day, so that the same scan always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from exposure_scan.model import Past, Problem, Scan

from .document import load_scan, schema_json
from .fleet import render_fleet
from .fleet_csv import fleet_csv_rows
from .machine import render_junit, render_sarif
from .mail import mail_subject as _mail_subject
from .mail import render_mail_html, render_mail_text
from .material import Material
from .page import render_html, render_index
from .pdf import check_pdf, render_pdf
from .plain import render_csv, render_markdown
from .templates import check_templates
from .terminal import summary
from .text import html_text, terminal_text
from .words import PracticeText

__all__ = [
    "FORMATS",
    "PracticeText",
    "check_pdf",
    "check_templates",
    "fleet_csv_rows",
    "html_text",
    "load_scan",
    "mail_subject",
    "render",
    "render_bytes",
    "render_fleet",
    "render_index",
    "schema_json",
    "summary",
    "terminal_text",
]

_FORMATS: Mapping[str, Callable[[Material], str]] = MappingProxyType(
    {
        "html": render_html,
        "json": lambda material: material.scan.to_json(),
        "csv": render_csv,
        "markdown": render_markdown,
        "sarif": render_sarif,
        "junit": render_junit,
        "mail-html": render_mail_html,
        "mail-text": render_mail_text,
    }
)
_BINARY: Mapping[str, Callable[[Material], bytes]] = MappingProxyType({"pdf": render_pdf})
FORMATS: tuple[str, ...] = (*_FORMATS, *_BINARY)


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
        raise Problem(f"There is no format {format!r} in text; choose one of: {', '.join(_FORMATS)}.")
    return _FORMATS[format](Material(scan, tuple(practices), past or Past(), templates))


def render_bytes(
    scan: Scan,
    format: str,  # noqa: A002 - the contract
    *,
    practices: Sequence[PracticeText],
    past: Past | None = None,
    templates: Path | None = None,
) -> bytes:
    """The scan in any of `FORMATS`, as it stands in a file; text in UTF-8. For the arguments see `render`.

    Raises:
        Problem: there is no such format, what it needs is not installed, or a template of `templates` is wrong.
    """
    if format in _BINARY:
        return _BINARY[format](Material(scan, tuple(practices), past or Past(), templates))
    if format not in _FORMATS:
        raise Problem(f"There is no format {format!r}; choose one of: {', '.join(FORMATS)}.")
    return render(scan, format, practices=practices, past=past, templates=templates).encode()


def mail_subject(scan: Scan, past: Past) -> str:
    """The subject of the mail about a scan: the verdict, the site, and what changed; one clean line."""
    return _mail_subject(Material(scan, (), past, None))
