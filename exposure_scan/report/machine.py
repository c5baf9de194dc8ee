"""The scan for programs that collect the results of many tools: SARIF 2.1.0 and JUnit XML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import quote
from xml.etree import ElementTree as ET

from exposure_scan.model import Finding, Scan, Severity, Status, Verdict
from exposure_scan.model.text import json_text, markdown_text, within

from . import words
from .doubt import doubts
from .material import Material
from .words import PracticeText

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

_TOOL = "exposure-scan"
_NAME, _SENTENCE, _LONG = 120, 600, 1000  # characters


def _stamp(scan: Scan) -> tuple[str, str]:
    """When the scan began and ended, in UTC."""
    return f"{words.utc(scan.started):%Y-%m-%dT%H:%M:%SZ}", f"{words.utc(scan.finished):%Y-%m-%dT%H:%M:%SZ}"


def _reasons(scan: Scan) -> list[str]:
    return [within(reason, _SENTENCE) for reason in dict.fromkeys(scan.because)]


def _cautions(scan: Scan) -> list[str]:
    return [within(doubt.caution, _LONG) for doubt in doubts(scan) if doubt.caution]


def _waiver(finding: Finding) -> str:
    waived = finding.waived
    if waived is None:
        return ""
    return f"{within(waived.by)} accepted this until {waived.until}: {within(waived.because, _SENTENCE)}"


# --- SARIF ---------------------------------------------------------------------------------------

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
# SARIF 2.1.0, 3.27.9. A declared practice is `informational`, not `pass`: the scan did not evaluate it, it
# repeats a person's word. `review` wants a person to settle what the scan could not; `open` says that nothing
# was seen and nothing proven, and that an assertion would help: here, a declaration.
_KINDS: Mapping[Status, str] = MappingProxyType(
    {
        Status.NOT_MET: "fail",
        Status.CANNOT_TELL: "review",
        Status.UNDECLARED: "open",
        Status.DECLARED: "informational",
        Status.MET: "pass",
        Status.NOT_APPLICABLE: "notApplicable",
    }
)
# Level of a breach, and the score in the range that GitHub's code scanning gives the same word for.
_LEVELS: Mapping[Severity, tuple[str, str]] = MappingProxyType(
    {
        Severity.CRITICAL: ("error", "9.5"),
        Severity.HIGH: ("error", "8.0"),
        Severity.MEDIUM: ("warning", "5.5"),
        Severity.LOW: ("note", "2.5"),
    }
)


def render_sarif(material: Material) -> str:
    """One run with a rule for each practice and a result for each finding (SARIF 2.1.0).

    The status itself stands in a result's `properties.status`, the verdict in the run's `properties`.
    """
    scan = material.scan
    rules = _rules(material)
    order = {str(rule["id"]): number for number, rule in enumerate(rules)}
    began, ended = _stamp(scan)
    site = within(scan.site.name, _NAME)
    run: dict[str, Json] = {
        "tool": {"driver": {"name": _TOOL, "version": within(scan.scanner.version, 40), "rules": rules}},
        # what stands before the last slash tells the sites of one repository apart
        "automationDetails": {"id": f"{_TOOL}/{site.replace('/', '-')}/{within(scan.id, _NAME).replace('/', '-')}"},
        "invocations": [{"executionSuccessful": True, "startTimeUtc": began, "endTimeUtc": ended}],
        "results": [_result(finding, order) for finding in scan.findings],
        "properties": {
            "verdict": scan.verdict.value,
            "because": _reasons(scan),
            "cautions": _cautions(scan),
            "site": site,
            "scan": within(scan.id, _NAME),
            "hosts": [within(host.address) for host in scan.hosts],
            "vantage": {
                "name": within(scan.vantage.name, _NAME),
                "checked": scan.vantage.checked,
                "outside": scan.vantage.outside,
            },
            "declarations": {"made": scan.declarations.made, "of": scan.declarations.of},
        },
    }
    document: Json = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_text(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def _message(text: str) -> str:
    """A finished text as a plain message: its brackets make no link, its braces no placeholder (3.11.5, 3.11.6)."""
    return text.replace("](", "] (").replace("{", "{{").replace("}", "}}")


def _rules(material: Material) -> list[dict[str, Json]]:
    """A rule for each practice, also for one that only the scan knows."""
    texts = {text.id: text for text in material.practices}
    seen = {finding.practice: finding for finding in material.scan.findings}
    ids = dict.fromkeys((*texts, *seen))
    return [_rule(id_, texts.get(id_), seen.get(id_)) for id_ in ids]


def _rule(id_: str, text: PracticeText | None, finding: Finding | None) -> dict[str, Json]:
    title = within(text.title if text else finding.title if finding else id_, 255)
    why = within(text.why, _LONG) if text else title
    steps = [("Remedy", finding.remedy)] if finding else []
    steps += [("Menu", text.menu_path)] if text and text.menu_path else []
    steps += [("Bulletin", text.part)] if text and text.part else []
    lines = [(name, within(said, _SENTENCE)) for name, said in steps]
    known: dict[str, Json] = {"part": within(text.part), "known": text.known} if text else {}
    rule: dict[str, Json] = {
        "id": within(id_, _NAME),
        "shortDescription": {"text": _message(title)},
        "fullDescription": {"text": _message(why)},
        "help": {
            "text": _message("\n".join((why, *(f"{name}: {said}" for name, said in lines)))),
            "markdown": "\n\n".join(
                (markdown_text(why, _LONG), *(f"**{name}:** {markdown_text(said)}" for name, said in lines))
            ).replace("}", "}}"),
        },
    }
    if finding is not None:
        level, score = _LEVELS[finding.severity]
        rule["defaultConfiguration"] = {"level": level}
        known |= {"severity": finding.severity.value, "security-severity": score}
    rule["properties"] = {"tags": ["security"], **known}
    return rule


def _result(finding: Finding, order: Mapping[str, int]) -> dict[str, Json]:
    broken = finding.status is Status.NOT_MET
    host, rule = within(finding.host), within(finding.practice, _NAME)
    # The same for a practice and an address in every scan; GitHub looks at the first of the two names only.
    digest = hashlib.sha256(f"{finding.practice}\n{finding.host}".encode("utf-8", "backslashreplace")).hexdigest()
    said = within(finding.because, _LONG)
    if finding.status in (Status.NOT_MET, Status.CANNOT_TELL, Status.UNDECLARED):
        said += f" What to do: {within(finding.remedy, _SENTENCE)}"
    result: dict[str, Json] = {
        "ruleId": rule,
        "ruleIndex": order[rule],
        "kind": _KINDS[finding.status],
        "level": _LEVELS[finding.severity][0] if broken else "none",  # 3.27.10: none wherever the kind is not fail
        "message": {"text": _message(said)},
        "locations": [
            {
                # GitHub refuses results without a file, and there is none: the address stands for it.
                "physicalLocation": {
                    "artifactLocation": {"uri": f"hosts/{quote(host, safe='')}"},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"name": host, "fullyQualifiedName": host, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": f"{digest[:16]}:1", "practiceAndHost/v1": digest},
    }
    if finding.waived is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": _waiver(finding)}]
    result["properties"] = {
        "status": finding.status.value,
        "severity": finding.severity.value,
        "host": host,
        "title": within(finding.title, 255),
        "because": within(finding.because, _LONG),
        "remedy": within(finding.remedy, _SENTENCE),
        "confidence": finding.confidence,
        "evidence": [within(id_, 20) for id_ in finding.evidence],
    }
    return result


# --- JUnit ---------------------------------------------------------------------------------------


def render_junit(material: Material) -> str:
    """A suite for the verdict and one for each host, with a case for each practice (JUnit XML).

    A breach fails, doubt is an error, and what nobody vouched for or does not apply is skipped, as is a
    breach that somebody accepted. The whole finding stands in the case's output.
    """
    scan = material.scan
    began, ended = _stamp(scan)
    root = ET.Element("testsuites", {"name": _TOOL})
    _suite(root, scan, "verdict", [_verdict_case(scan)])
    hosts = dict.fromkeys((*(host.address for host in scan.hosts), *(finding.host for finding in scan.findings)))
    for host in hosts:
        _suite(root, scan, within(host), [_case(finding) for finding in scan.findings if finding.host == host])
    for count in ("tests", "failures", "errors"):  # not the skipped: Jenkins's schema knows them for a suite only
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    root.set("time", f"{max((scan.finished - scan.started).total_seconds(), 0):.3f}")
    properties = ET.Element("properties")
    for name, value in (
        ("site", within(scan.site.name, _NAME)),
        ("scan", within(scan.id, _NAME)),
        ("started", began),
        ("finished", ended),
        ("vantage", within(scan.vantage.name, _NAME)),
        ("verdict", scan.verdict.value),
        ("scanner", f"{_TOOL} {within(scan.scanner.version, 40)}"),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": value})
    root[0].insert(0, properties)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(root: ET.Element, scan: Scan, name: str, cases: Sequence[ET.Element]) -> None:
    def having(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "name": name,
            "tests": str(len(cases)),
            "failures": having("failure"),
            "errors": having("error"),
            "skipped": having("skipped"),
            "time": "0",
            "timestamp": f"{words.utc(scan.started):%Y-%m-%dT%H:%M:%S}",
        },
    )
    suite.extend(cases)


def _verdict_case(scan: Scan) -> ET.Element:
    reasons = _reasons(scan)
    case = ET.Element("testcase", {"classname": "verdict", "name": within(scan.site.name, _NAME), "time": "0"})
    tag = {Verdict.NO_GO: "failure", Verdict.INCONCLUSIVE: "error"}.get(scan.verdict)
    if tag is not None:
        message = within(f"{words.VERDICTS[scan.verdict].word}: {' '.join(reasons)}", _LONG)
        ET.SubElement(case, tag, {"message": message, "type": scan.verdict.value}).text = "\n".join(reasons)
    lines = [f"verdict: {scan.verdict.value}"]
    lines += [f"because: {reason}" for reason in reasons]
    lines += [f"caution: {caution}" for caution in _cautions(scan)]
    ET.SubElement(case, "system-out").text = "\n".join(lines)
    return case


def _case(finding: Finding) -> ET.Element:
    because, remedy = within(finding.because, _LONG), within(finding.remedy, _SENTENCE)
    name = within(finding.practice, _NAME)
    case = ET.Element("testcase", {"classname": within(finding.host), "name": name, "time": "0"})
    if finding.status is Status.NOT_MET and finding.waived is not None:
        ET.SubElement(case, "skipped", {"message": f"Waived: {_waiver(finding)}"})
    elif finding.status in (Status.NOT_MET, Status.CANNOT_TELL):
        tag = "failure" if finding.status is Status.NOT_MET else "error"
        kind = f"{finding.status.value} ({finding.severity.value})"
        ET.SubElement(case, tag, {"message": because, "type": kind}).text = f"{because}\nWhat to do: {remedy}"
    elif finding.status in (Status.UNDECLARED, Status.NOT_APPLICABLE):
        ET.SubElement(case, "skipped", {"message": f"{words.STATUSES[finding.status].word}: {because}"})
    lines = [
        f"status: {finding.status.value}",
        f"severity: {finding.severity.value}",
        f"title: {within(finding.title, 255)}",
        f"because: {because}",
        f"remedy: {remedy}",
        f"confidence: {'' if finding.confidence is None else finding.confidence}",
        f"evidence: {' '.join(within(id_, 20) for id_ in finding.evidence)}",
        f"waived: {_waiver(finding)}",
    ]
    ET.SubElement(case, "system-out").text = "\n".join(lines)
    return case
