"""HTML through Jinja2: where the templates are, and how everything that they show is made safe.

Every value that a template shows passes `html_text` and then the escaping, whether the template
remembers to ask for it or not; the filter `wire` sets a tighter limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from exposure_scan.model import Scan, Status

from . import words
from .device import device_view
from .text import html_text
from .view import Count, counts, page
from .words import PracticeText

if TYPE_CHECKING:
    from jinja2 import Environment


def templates_folder() -> Path:
    """Where the templates are: in the installed package, else in the checkout above it.

    Raises:
        FileNotFoundError: in neither place; the installation is damaged.
    """
    package = Path(__file__).parent.parent
    packaged, checkout = package / "templates", package.parent / "templates"
    for folder in (packaged, checkout):
        if (folder / "report.html.j2").is_file():
            return folder
    raise FileNotFoundError(
        f"The report templates are neither in {packaged} nor in {checkout}; install exposure-scan again."
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def safe(value: object) -> object:
        return html_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=safe,
    )
    environment.filters["wire"] = lambda value, limit=200: html_text(str(value), limit)
    environment.filters["plural"] = words.count
    return environment


def render_html(scan: Scan, practices: Sequence[PracticeText]) -> str:
    """The report page of one scan: self-contained, without script or external request."""
    return _environment().get_template("report.html.j2").render(page=page(scan, practices))


def render_index(scans: Sequence[tuple[str, Scan]]) -> str:
    """The page that links the reports of several sites, each in the folder of the given name."""
    return _environment().get_template("index.html.j2").render(
        rows=[_index_row(folder, scan) for folder, scan in scans],
        verdicts=_verdict_counts([scan for _, scan in scans]),
    )  # fmt: skip


def _verdict_counts(scans: Sequence[Scan]) -> list[Count]:
    found = [scan.verdict for scan in scans]
    return [Count(mark, found.count(verdict)) for verdict, mark in words.VERDICTS.items()]


def _index_row(folder: str, scan: Scan) -> dict[str, object]:
    numbers = {count.mark.word: count.number for count in counts(scan.findings)}
    wanted = (Status.NOT_MET, Status.CANNOT_TELL, Status.UNDECLARED)
    marks = [words.STATUSES[status] for status in wanted]
    return {
        "folder": folder,
        "link": f"{quote(folder, safe='')}/report.html",
        "name": scan.site.name,
        "mark": words.VERDICTS[scan.verdict],
        "why": scan.because[0] if scan.because else "",
        "addresses": [host.address for host in scan.hosts],
        "devices": list(dict.fromkeys(device_view(host.device).name for host in scan.hosts)),
        "counts": [Count(mark, numbers[mark.word]) for mark in marks],
        "when": words.moment(scan.started),
    }
