"""CSV, Markdown, SARIF and JUnit XML: each tells every finding, and an attacker's texts do nothing in any of them."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cmarkgfm
import jsonschema
import pytest
import samples
import samples_doubt
import samples_evidence
from formats_read import READ, by_name, everywhere, expected, from_csv, on_github, one_finding, render
from markdown_it import MarkdownIt

from exposure_scan import report
from exposure_scan.model import Scan, Severity, Status, Verdict, Waiver
from exposure_scan.model.text import csv_text, html_text, markdown_text

Sample = Callable[[], Scan]
EVERY = (*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL)
FULL_WIDTH = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # = + - @
FORMATS = ("csv", "markdown", "sarif", "junit")
SARIF_SCHEMA = Path(__file__).parent / "data" / "sarif-2.1.0.schema.json"
every_sample = pytest.mark.parametrize("sample", EVERY, ids=lambda sample: sample.__name__)
every_format = pytest.mark.parametrize("format_", FORMATS)


# --- every format --------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize(
    "sample", [one for one in EVERY if one is not samples.hostile], ids=lambda sample: sample.__name__
)
def test_every_finding_is_told_whole(sample: Sample, format_: str) -> None:
    wanted = by_name(expected(sample()))
    found = by_name(READ[format_](render(sample(), format_)))
    assert [{name: row[name] for name in wanted[0]} for row in found] == wanted


@every_format
@every_sample
def test_the_statuses_are_those_of_the_json(sample: Sample, format_: str) -> None:
    saved = json.loads(sample().to_json())["findings"]
    wanted = Counter((one["practice"], one["host"], one["status"]) for one in saved)
    found = READ[format_](render(sample(), format_))
    assert Counter((row["practice"], row["host"], row["status"]) for row in found) == wanted


@every_format
@every_sample
def test_the_same_scan_gives_the_same_bytes_and_not_many(sample: Sample, format_: str) -> None:
    text = render(sample(), format_)
    assert text == render(sample(), format_)
    assert len(text.encode()) < 100_000 * len(sample().hosts)


@every_format
@every_sample
def test_no_invisible_character_comes_through(sample: Sample, format_: str) -> None:
    text = render(sample(), format_)
    if format_ == "csv":
        text = text.replace("\r\n", "\n")
    bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn")}
    assert bad <= {"\n"}
    assert "owned" not in text  # what stood in a terminal command
    assert "A" * 1000 not in text


@every_format
def test_the_whole_scan_is_named(format_: str) -> None:
    scan = samples_doubt.went_dark()
    text = render(scan, format_)
    for told in (scan.id, scan.site.name, scan.verdict.value, scan.because[0], scan.vantage.name):
        assert told in text
    assert "2026-11-03T14:05:00Z" in text
    assert "2026-11-03T14:05:12Z" in text
    if format_ != "csv":  # a caution stands with the verdict, always
        assert "Something on the way began to block the scanner" in text


@every_format
def test_each_reason_is_told(format_: str) -> None:
    scan = samples.exposed_server()
    text = render(scan, format_)
    assert len(scan.because) == 6
    assert [reason for reason in scan.because[1:] if reason not in text] == []  # the first holds marks that are escaped


@every_format
def test_no_evidence_is_left_out(format_: str) -> None:
    many = tuple(f"e{number}" for number in range(1000, 2000))
    (row,) = READ[format_](render(one_finding(evidence=many), format_))
    assert row["evidence"].split() == list(many)


# --- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t=", "\r=", "\x00=", " \u200b =", *FULL_WIDTH])
def test_no_cell_is_a_formula(mark: str) -> None:
    text = f"{mark}HYPERLINK(0)"
    assert csv_text(text) == "'" + text.lstrip("\t\r\x00 \u200b")
    assert csv_text(f"a{mark}1").startswith("a")
    rows = list(csv.reader(io.StringIO(render(everywhere(text), "csv"), newline=""), strict=True))
    assert len({len(row) for row in rows}) == 1
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", *FULL_WIDTH))]
    assert sum(cell.startswith("'") for cell in cells) > 5 * len(rows[1:])


def test_a_line_of_csv_is_a_finding() -> None:
    text = render(everywhere('a "quoted", text\r\nof two lines'), "csv")
    lines = text.split("\r\n")
    assert len(lines) == 1 + len(samples.ROWS) + 1
    assert lines[-1] == ""
    assert "\n" not in text.replace("\r\n", "")
    assert next(iter(from_csv(text)))["because"] == 'a "quoted", text of two lines'


# --- Markdown ------------------------------------------------------------------------------------

ATTACKS = (
    *("# x", "1. x", "12) x", "- x", "+ x", "* x", "===", "---", "***", "~~~", "```x", "> x", ":-:", "|---|", "a|b|c"),
    *("<b>x</b>", "<!-- x", "[a](http://x)", "![a](http://x)", "[a]: http://x", "[^1]", "[a][b]", "a\\|b", "a\\", "\\"),
    *(
        "http://evil.example",
        "HTTPS://evil.example/?a=b&c=d",
        "ftp://evil.example",
        "www.evil.example",
        "\\www.e.example",
    ),
    *("a@evil.example", "mailto:a@evil.example", "<http://evil.example>", "\\@e a\\@evil.example", "www.@a.example"),
    *("@owner", "#12", "o/r#12", "$x$", "$`x`$", "`x`", "``", "\\`http://x", "{{7*7}}", "{% raw %}", "&lt;b&gt;"),
    *("&#64;x", "**b** _i_ ~~s~~", "__init__", "www.www.evil.example", samples.HOSTILE),
)
PLACES = ("{}", "x\n{}", "x {} y", "- {}", "1. {}", "**x:** {}", "| a | b |\n| --- | --- |\n| {} | c |", "# {}")


@pytest.mark.parametrize("text", ATTACKS)
def test_untrusted_text_is_nothing_but_text_in_markdown(text: str) -> None:
    for place in PLACES:
        harmless = on_github(place.replace("{}", "x"))
        attacked = on_github(place.replace("{}", markdown_text(text)))
        assert [tag for tag in attacked.tags if tag[0] != "code"] == harmless.tags
        source = MarkdownIt("commonmark").enable("table")
        kinds = [token.type for token in source.parse(place.replace("{}", markdown_text(text)))]
        assert kinds == [token.type for token in source.parse(place.replace("{}", "x"))]
    shown = on_github("| a |\n| --- |\n| {} |".replace("{}", markdown_text(text))).rows[1][0]
    assert shown == html_text(text)


@pytest.mark.parametrize("text", ["http://e.example", "WWW.e.example", "a@e.example", "@owner", "#12", "$x$"])
def test_what_github_would_find_in_finished_text_is_cut_by_code(text: str) -> None:
    html = cmarkgfm.github_flavored_markdown_to_html(markdown_text(text))
    pieces = re.split(r"<code>.*?</code>", html)
    assert not [piece for piece in pieces if re.search(r"://|WWW\.|[@#$]", piece)]


def test_a_markdown_report_holds_no_markup_of_others() -> None:
    own = {"h1", "h2", "p", "strong", "code", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"}
    plain = on_github(render(everywhere("harmless"), "markdown"))
    wanted = Counter(tag for tag, _ in plain.tags if tag != "code")
    assert set(wanted) | {"code"} == own
    for text in ATTACKS:
        page = on_github(render(everywhere(text), "markdown"))
        assert Counter(tag for tag, _ in page.tags if tag != "code") == wanted
        assert [attrs for _, attrs in page.tags if attrs] == []


@every_sample
def test_a_markdown_report_has_the_headings_of_its_template(sample: Sample) -> None:
    tags = Counter(tag for tag, _ in on_github(render(sample(), "markdown")).tags)
    assert tags["h1"] == 1
    assert tags["h2"] == 6 + len(sample().hosts)
    assert tags["table"] == 2 + len(sample().hosts)
    assert not set(tags) & {"a", "img", "script", "br", "input"}


def test_a_markdown_report_tells_the_verdict_the_steps_and_the_ports() -> None:
    text = render(samples.exposed_server(), "markdown")
    assert "**NO-GO** (`no-go`). 5 important security practices are broken" in text
    assert "1. **SIP cannot be reached from outside** (Not met: fix it)." in text
    assert "| Not met | 6 |" in text
    assert "| tcp/25 | Open | SMTP | 220 synthetic.example synthetic mail ready |" in text
    assert "| udp/161 | Not measured |" in text
    assert "- **Authorized by:** the sample's owner" in text


# --- SARIF ---------------------------------------------------------------------------------------


def the_run(scan: Scan) -> Any:
    (run,) = json.loads(render(scan, "sarif"))["runs"]
    return run


@every_sample
def test_sarif_fits_the_schema_of_its_standard(sample: Sample) -> None:
    schema = json.loads(SARIF_SCHEMA.read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    document = json.loads(render(sample(), "sarif"))
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(document | {"version": "2.0.0"}))
    without = json.loads(report.render(sample(), "sarif", practices=()))
    assert list(validator.iter_errors(without)) == []
    assert {rule["id"] for rule in without["runs"][0]["tool"]["driver"]["rules"]} == {id_ for id_, *_ in samples.ROWS}


def test_sarif_has_the_kind_and_the_level_of_each_status() -> None:
    seen = {
        (status, severity): (result["kind"], result["level"])
        for status in Status
        for severity in Severity
        for result in the_run(one_finding(status=status, severity=severity))["results"]
    }
    levels = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
    kinds = {
        "met": "pass",
        "cannot-tell": "review",
        "undeclared": "open",
        "declared": "informational",
        "not-applicable": "notApplicable",
    }
    assert seen == {
        (status, severity): ("fail", levels[severity]) if status is Status.NOT_MET else (kinds[status], "none")
        for status in Status
        for severity in Severity
    }


def test_sarif_has_a_rule_for_each_practice() -> None:
    rules = the_run(samples.exposed_server())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [id_ for id_, *_ in samples.ROWS]
    first = rules[0]
    assert first["shortDescription"]["text"] == "SIP cannot be reached from outside"
    assert first["fullDescription"]["text"] == "Sample reason of sip.not-reachable."
    assert "Remedy: Close the port" in first["help"]["text"]
    scores = {rule["properties"]["severity"]: float(rule["properties"]["security-severity"]) for rule in rules}
    assert scores["critical"] > 9 >= scores["high"] >= 7 > scores["medium"] >= 4 > scores["low"] > 0
    assert {rule["defaultConfiguration"]["level"] for rule in rules} == {"error", "warning", "note"}


def test_sarif_places_are_relative_and_fingerprints_stay() -> None:
    scan = samples.two_hosts()
    later = scan.model_copy(update={"id": "another", "started": scan.started + timedelta(days=1)})
    results = the_run(scan)["results"]
    marks = [json.dumps(result["partialFingerprints"]) for result in results]
    assert len(set(marks)) == len(results)
    assert [json.dumps(result["partialFingerprints"]) for result in the_run(later)["results"]] == marks
    assert all("primaryLocationLineHash" in mark for mark in marks)
    for address in ("198.51.100.10", "2001:db8::1", "../x y?#<b>", "http://x"):
        (result,) = the_run(one_finding(host=address))["results"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"hosts/[A-Za-z0-9._~%-]+", uri)


def test_a_sarif_message_holds_no_link_and_no_placeholder() -> None:
    (result,) = the_run(one_finding(because="see [here](http://evil.example), {0} of {{x}}"))["results"]
    said = result["message"]["text"]
    assert "](" not in said
    assert "{{0}} of {{{{x}}}}" in said
    assert result["properties"]["because"] == "see [here](http://evil.example), {0} of {{x}}"


def test_a_waiver_is_a_suppression_in_sarif() -> None:
    results = {result["ruleId"]: result for result in the_run(samples.exposed_server())["results"]}
    (waived,) = results["server.stealth"].pop("suppressions")
    assert waived == {
        "kind": "external",
        "status": "accepted",
        "justification": "sample owner accepted this until 2026-12-01: the provider wants ping",
    }
    assert results["server.stealth"]["kind"] == "fail"
    assert not [rule for rule, result in results.items() if "suppressions" in result]


# --- JUnit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "waived", "tag"),
    [
        (Status.NOT_MET, False, "failure"),
        (Status.NOT_MET, True, "skipped"),
        (Status.CANNOT_TELL, False, "error"),
        (Status.CANNOT_TELL, True, "error"),
        (Status.UNDECLARED, False, "skipped"),
        (Status.NOT_APPLICABLE, False, "skipped"),
        (Status.MET, False, None),
        (Status.DECLARED, False, None),
    ],
)
def test_what_a_status_is_in_junit(status: Status, waived: bool, tag: str | None) -> None:
    waiver = Waiver(practice="sip.not-reachable", until=date(2027, 1, 1), because="sample", by="sample owner")
    text = render(one_finding(status=status, waived=waiver if waived else None), "junit")
    (case,) = ET.fromstring(text).findall("testsuite")[1].findall("testcase")
    outcomes = [child for child in case if child.tag != "system-out"]
    assert [child.tag for child in outcomes] == ([tag] if tag else [])
    assert all(child.get("message") for child in outcomes)
    if tag == "skipped" and waived:
        assert outcomes[0].get("message") == "Waived: sample owner accepted this until 2027-01-01: sample"


@pytest.mark.parametrize(
    ("verdict", "tag"), [(Verdict.NO_GO, "failure"), (Verdict.INCONCLUSIVE, "error"), (Verdict.GO, None)]
)
def test_the_verdict_is_a_case_of_junit(verdict: Verdict, tag: str | None) -> None:
    scan = one_finding(status=Status.MET).model_copy(update={"verdict": verdict})
    root = ET.fromstring(render(scan, "junit"))
    (case,) = root.findall("testsuite")[0].findall("testcase")
    assert [child.tag for child in case] == [*([tag] if tag else []), "system-out"]
    assert root.get("failures") == str(int(tag == "failure"))
    assert root.get("errors") == str(int(tag == "error"))


@every_sample
def test_the_numbers_of_junit_add_up(sample: Sample) -> None:
    text = render(sample(), "junit")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ET.fromstring(text.encode())
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites[1:]] == [host.address for host in sample().hosts]
    tags = (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    for place in (root, *suites):
        counted = {name: str(len(list(place.iter(tag)))) for name, tag in tags}
        if place is root:  # Jenkins's schema has no such attribute there
            del counted["skipped"]
        assert {name: place.get(name) for name, _ in tags if place.get(name)} == counted
