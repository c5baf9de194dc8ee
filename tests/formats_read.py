"""The formats of a report read back, each with a parser of its own, and scans made to measure for their tests."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import cmarkgfm
import samples
from cmarkgfm.cmark import Options

from exposure_scan import report
from exposure_scan.model import Scan

Row = dict[str, str]


def render(scan: Scan, format_: str) -> str:
    return report.render(scan, format_, practices=samples.PRACTICES)


class Page(HTMLParser):
    """The tags of a page, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def on_github(text: str) -> Page:
    """As GitHub's parser reads it, its own filter of dangerous HTML switched off."""
    return Page(cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE))


def from_csv(text: str) -> Iterable[Row]:
    for row in csv.DictReader(io.StringIO(text, newline=""), strict=True):
        waived = f"{row['waived_by']} until {row['waived_until']}: {row['waived_because']}" if row["waived_by"] else ""
        yield row | {"waived": waived}


def from_markdown(text: str) -> Iterable[Row]:
    rows = on_github(text).rows
    names = ("Status", "Severity", "Practice", "Host", "Title", "Why", "Remedy", "Confidence", "Evidence", "Waived")
    start = rows.index(list(names))
    for cells in rows[start + 1 :]:
        if len(cells) != len(names):
            break
        row = {name.lower(): cell for name, cell in zip(names, cells, strict=True)}
        yield row | {"because": row["why"], "waived": row["waived"].removeprefix("by ")}


def from_sarif(text: str) -> Iterable[Row]:
    (run,) = json.loads(text)["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        told = result["properties"]
        (place,) = result["locations"][0]["logicalLocations"]
        assert place["fullyQualifiedName"] == told["host"]
        waived = [one["justification"] for one in result.get("suppressions", ())]
        yield {name: str(told[name]) for name in ("host", "status", "severity", "title", "because", "remedy")} | {
            "practice": result["ruleId"],
            "evidence": " ".join(told["evidence"]),
            "confidence": "" if told["confidence"] is None else str(told["confidence"]),
            "waived": " ".join(waived).replace(" accepted this", ""),
        }


def from_junit(text: str) -> Iterable[Row]:
    for suite in ET.fromstring(text).findall("testsuite")[1:]:
        for case in suite.findall("testcase"):
            lines = (line.partition(": ") for line in case.findtext("system-out", "").split("\n"))
            row = {name: value for name, _, value in lines}
            yield row | {
                "host": suite.get("name", ""),
                "practice": case.get("name", ""),
                "waived": row["waived"].replace(" accepted this", ""),
            }


READ: dict[str, Callable[[str], Iterable[Row]]] = {
    "csv": from_csv,
    "markdown": from_markdown,
    "sarif": from_sarif,
    "junit": from_junit,
}


def expected(scan: Scan) -> Iterable[Row]:
    for finding in scan.findings:
        waived = finding.waived
        yield {
            "practice": finding.practice,
            "host": finding.host,
            "status": finding.status.value,
            "severity": finding.severity.value,
            "title": finding.title,
            "because": finding.because,
            "remedy": finding.remedy,
            "evidence": " ".join(finding.evidence),
            "confidence": "" if finding.confidence is None else str(finding.confidence),
            "waived": f"{waived.by} until {waived.until}: {waived.because}" if waived else "",
        }


def by_name(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["host"], row["practice"]))


def one_finding(**changes: object) -> Scan:
    scan = samples.silent_with_presence()
    return scan.model_copy(update={"findings": (scan.findings[0].model_copy(update=changes),)})


def everywhere(text: str) -> Scan:
    """A scan in which a text stands wherever the network or the sites file can put it."""
    written = json.loads(samples.hostile(1000).to_json().replace("A" * 100, ""))

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {replaced(name): replaced(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [replaced(inner) for inner in value]
        return text if isinstance(value, str) and samples.MARKUP in value else value

    return report.load_scan(json.dumps(replaced(written)))
