"""The HTML pages: the report of one scan, and the page that links several."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from exposure_scan.model import Scan, Status

from . import words
from .device import device_view
from .material import Material
from .templates import render_template
from .view import Count, counts, page


def render_html(material: Material) -> str:
    """The report page of one scan: self-contained, without script or external request."""
    return render_template("report.html.j2", material.templates, page=page(material))


def render_index(scans: Sequence[tuple[str, Scan]]) -> str:
    """The page that links the reports of several sites, each in the folder of the given name."""
    return render_template(
        "index.html.j2",
        None,
        rows=[_index_row(folder, scan) for folder, scan in scans],
        verdicts=_verdict_counts([scan for _, scan in scans]),
    )


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
