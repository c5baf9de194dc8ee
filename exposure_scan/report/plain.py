"""The scan for people who read it in a spreadsheet or beside their code: CSV and Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from exposure_scan.model import Finding
from exposure_scan.model.text import CELL_LIMIT, HTML_LIMIT, csv_text, markdown_text, within

from . import words
from .host import HostView
from .material import Material
from .verdict import Step
from .view import Page, page

_COLUMNS = (
    "site",
    "host",
    "practice",
    "status",
    "severity",
    "title",
    "because",
    "remedy",
    "confidence",
    "evidence",
    "waived_by",
    "waived_until",
    "waived_because",
    "verdict",
    "verdict_because",
    "scan",
    "started",
    "finished",
    "vantage",
)
_LONG = 8_000  # characters
_LENGTHS = {"evidence": _LONG, "verdict_because": _LONG, "Evidence": _LONG, "Port": _LONG}  # of the lists; by column
_REASON = 300  # of one reason among others


# --- CSV -----------------------------------------------------------------------------------------


def render_csv(material: Material) -> str:
    """One row a finding, with what is true of the whole scan repeated in each (RFC 4180).

    A cell that a spreadsheet would take for a formula begins with an apostrophe; no cell holds a line break.
    """
    scan = material.scan
    whole = (
        scan.verdict.value,
        " ".join(within(reason, _REASON) for reason in scan.because),
        scan.id,
        f"{words.utc(scan.started):%Y-%m-%dT%H:%M:%SZ}",
        f"{words.utc(scan.finished):%Y-%m-%dT%H:%M:%SZ}",
        scan.vantage.name,
    )
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for finding in scan.findings:
        row = (scan.site.name, *_finding_cells(finding), *whole)
        writer.writerow(
            csv_text(cell, _LENGTHS.get(name, CELL_LIMIT)) for name, cell in zip(_COLUMNS, row, strict=True)
        )
    return file.getvalue()


def _finding_cells(finding: Finding) -> tuple[str, ...]:
    waived = finding.waived
    return (
        finding.host,
        finding.practice,
        finding.status.value,
        finding.severity.value,
        finding.title,
        finding.because,
        finding.remedy,
        "" if finding.confidence is None else str(finding.confidence),
        " ".join(within(id_, 20) for id_ in finding.evidence),
        waived.by if waived else "",
        waived.until.isoformat() if waived else "",
        waived.because if waived else "",
    )


# --- Markdown ------------------------------------------------------------------------------------


def render_markdown(material: Material) -> str:
    """The report as Markdown: CommonMark, and GitHub's tables."""
    view = page(material)
    parts = (
        _head(view),
        _course(view),
        _steps(view),
        _findings(view),
        _second(view),
        *(_ports(host) for host in view.hosts),
        _about(view),
    )
    return "\n".join(line for part in parts for line in part)


def _head(view: Page) -> Iterable[str]:
    box = view.box
    yield f"# Exposure scan: {markdown_text(view.scan.site.name, 120)}"
    yield ""
    yield f"**{box.mark.word}** (`{view.scan.verdict.value}`). {markdown_text(box.why)}"
    yield ""
    yield f"- **What it means:** {markdown_text(box.cost)}"
    yield f"- **Who fixes it:** {markdown_text(box.who)}"
    yield f"- **What to do:** {markdown_text(box.do)}"
    yield from (f"- **Mind:** {markdown_text(told, 900)}" for told in (*view.sources.top, *box.cautions))
    yield from ("", f"## {box.reasons_title}", "")
    yield from (f"- {markdown_text(reason)}" for reason in (*box.reasons, *box.more_reasons))
    yield from ("", "## How the practices stand", "")
    rows = [(count.mark.word, str(count.number), count.mark.meaning) for count in view.counts]
    yield from _table(("Status", "Findings", "What it says"), rows)
    made = view.scan.declarations
    yield from ("", f"Declarations: {made.made} of {made.of} made; {made.of - made.made} undeclared.", "")


def _course(view: Page) -> Iterable[str]:
    course = view.course
    yield from ("## What changed", "", markdown_text(course.summary), "")
    told = [
        f"- {row.mark.word}: {markdown_text(row.title)}{_at(row.hosts)}, {markdown_text(row.told)}"
        for row in course.changes
    ]
    told += [f"- and {words.count(course.more_changes, 'more change', 'more changes')}"] if course.more_changes else []
    told += [f"- {markdown_text(line)}" for line in course.lines]
    yield from (*told, *[""] * bool(told))


def _steps(view: Page) -> Iterable[str]:
    yield from ("## What to do, in this order", "")
    for number, step in enumerate(view.steps, 1):
        yield f"{number}. {' '.join(_step(step))}"
    if view.more_steps:
        yield from ("", f"And {words.count(view.more_steps, 'more step', 'more steps')}: see the table below.")
    if not view.steps:
        yield "Nothing is left to do."
    yield ""


def _step(step: Step) -> Iterable[str]:
    yield f"**{markdown_text(step.title, 160)}**{_at(step.hosts)} ({step.label})."
    yield markdown_text(step.what)
    yield f"Why: {markdown_text(step.why)}"
    if step.menu_path:
        yield f"Where: {markdown_text(step.menu_path)}."
    if step.check:
        yield f"Check again: {_code(step.check)}"
    if step.record:
        yield f"Record in the sites file, under `[site.declares]`: {_code(step.record)}"


def _code(text: str) -> str:
    """A text of one line as a code span (CommonMark 0.31, section 6.1), whose fence it cannot hold."""
    clean = within(text, HTML_LIMIT)
    longest = max((len(run) for run in re.findall("`+", clean)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {clean} {fence}" if longest else f"{fence}{clean}{fence}"


def _findings(view: Page) -> Iterable[str]:
    columns = ("Status", "Severity", "Practice", "Host", "Title", "Why", "Remedy", "Confidence", "Evidence", "Waived")
    order = list(words.STATUSES)
    yield from ("## Every finding", "")
    findings = sorted(view.scan.findings, key=lambda finding: order.index(finding.status))
    yield from _table(columns, [_finding_row(finding) for finding in findings])
    yield ""


def _finding_row(finding: Finding) -> tuple[str, ...]:
    waived = finding.waived
    return (
        finding.status.value,
        finding.severity.value,
        finding.practice,
        finding.host,
        finding.title,
        finding.because,
        finding.remedy,
        "" if finding.confidence is None else str(finding.confidence),
        " ".join(within(id_, 20) for id_ in finding.evidence),
        f"by {within(waived.by)} until {waived.until}: {within(waived.because, 200)}" if waived else "",
    )


def _ports(host: HostView) -> Iterable[str]:
    yield from (f"## Ports of {markdown_text(host.address, 60)}", "")
    doubt = f" {markdown_text(host.doubt)}." if host.doubt else ""
    devices = "; ".join(
        f"{device.name}{f', {within(device.detail, 120)}' if device.detail else ''}, {device.how}"
        for device in host.devices
    )
    yield f"{markdown_text(host.tally)} {markdown_text(host.echo)} What it is: {markdown_text(devices)}.{doubt}"
    yield ""
    rows = [
        (
            row.key,
            row.mark.word,
            within(row.service, 40),
            within(row.banner or row.product or next(iter(row.notes), ""), 160),
            row.reason,
        )
        for row in host.rows
    ]
    rows += [(group.ports, group.mark.word, "", "", group.reason) for group in host.others]
    yield from _table(("Port", "State", "Service", "What it says", "Why it counts so"), rows)
    if host.more_rows:
        yield from ("", f"And {words.count(host.more_rows, 'more port', 'more ports')}: see the JSON.")
    yield ""
    facts = [f"- {fact.name}: {' '.join(markdown_text(line) for line in fact.lines)}" for fact in host.way]
    yield from (*facts, *[""] * bool(facts))


def _second(view: Page) -> Iterable[str]:
    second, several = view.sources.second, len(view.hosts) > 1
    if second is None:
        return
    yield from ("## Second opinion", "", markdown_text(" ".join(second.lines)), "")
    if second.rows:
        columns = (*["Host"] * several, "Port", "This scan", "The other", "Why they differ")
        rows = [(*[row.host] * several, row.port, row.ours, row.theirs, row.because) for row in second.rows]
        yield from _table(columns, rows)
        if second.more:
            yield from ("", f"And {words.count(second.more, 'more port', 'more ports')}: see the JSON.")
        yield ""


def _about(view: Page) -> Iterable[str]:
    scan = view.scan
    yield from ("## About this scan", "")
    rows = [
        ("Site", scan.site.name),
        ("Scan", scan.id),
        ("Started", f"{words.utc(scan.started):%Y-%m-%dT%H:%M:%SZ}"),
        ("Finished", f"{words.utc(scan.finished):%Y-%m-%dT%H:%M:%SZ}"),
        *view.authorization,
        *((fact.name, " ".join(fact.lines)) for fact in view.facts),
        ("Scanner", f"exposure-scan {within(scan.scanner.version, 40)}"),
        ("Capture", view.sources.capture),
        ("SHA-256 of the JSON", view.sha256),
    ]
    yield from (f"- **{name}:** {markdown_text(value)}" for name, value in rows)
    yield ""


def _at(hosts: Sequence[str]) -> str:
    return f" at {', '.join(markdown_text(host, 60) for host in hosts)}" if hosts else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """A table of GitHub's kind; its cells are made safe here."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        cells = (markdown_text(cell, _LENGTHS.get(name, HTML_LIMIT)) for name, cell in zip(columns, row, strict=True))
        yield f"| {' | '.join(cells)} |"
