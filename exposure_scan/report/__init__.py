"""What people and programs read of a scan: JSON and HTML, the page of several sites, the terminal.

Adding a format is one function and one row in the tables below. A format takes a `Material` and returns
text, or bytes; it opens no file and knows no time of day, so that the same scan always gives the same bytes.
A format, and every other name here, is loaded when it is asked for: who wants one format waits for no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from exposure_scan.model import Past, Problem, Scan

from .material import Material
from .words import PracticeText

if TYPE_CHECKING:
    from collections.abc import Callable

    from .document import load_scan, schema_json
    from .fleet import render_fleet
    from .fleet_csv import fleet_csv_rows
    from .page import render_index
    from .pdf import check_pdf
    from .templates import check_templates
    from .terminal import summary

__all__ = [
    "FORMATS",
    "PracticeText",
    "check_pdf",
    "check_templates",
    "fleet_csv_rows",
    "load_scan",
    "mail_subject",
    "render",
    "render_bytes",
    "render_fleet",
    "render_index",
    "schema_json",
    "summary",
]

# Each format's module here and its function, of a `Material`; those of _BINARY return bytes.
_FORMATS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "html": ("page", "render_html"),
        "json": ("document", "render_json"),
        "csv": ("plain", "render_csv"),
        "markdown": ("plain", "render_markdown"),
        "sarif": ("machine", "render_sarif"),
        "junit": ("machine", "render_junit"),
        "mail-html": ("mail", "render_mail_html"),
        "mail-text": ("mail", "render_mail_text"),
    }
)
_BINARY: Mapping[str, tuple[str, str]] = MappingProxyType({"pdf": ("pdf", "render_pdf")})
_HOMES = MappingProxyType(
    {
        "check_pdf": "pdf",
        "check_templates": "templates",
        "fleet_csv_rows": "fleet_csv",
        "load_scan": "document",
        "render_fleet": "fleet",
        "render_index": "page",
        "schema_json": "document",
        "summary": "terminal",
    }
)
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
    made = cast("Callable[[Material], str]", _named(*_FORMATS[format]))
    return made(Material(scan, tuple(practices), past or Past(), templates))


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
        made = cast("Callable[[Material], bytes]", _named(*_BINARY[format]))
        return made(Material(scan, tuple(practices), past or Past(), templates))
    if format not in _FORMATS:
        raise Problem(f"There is no format {format!r}; choose one of: {', '.join(FORMATS)}.")
    return render(scan, format, practices=practices, past=past, templates=templates).encode()


def mail_subject(scan: Scan, past: Past) -> str:
    """The subject of the mail about a scan: the verdict, the site, and what changed; one clean line."""
    from .mail import mail_subject as subject

    return subject(Material(scan, (), past, None))


def _named(module: str, name: str) -> object:
    return getattr(import_module(f".{module}", __name__), name)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _named(_HOMES[name], name)
