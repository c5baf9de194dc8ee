"""Which software a server runs: how versions compare, whose word counts, and how surely."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from exposure_scan.assess import assess_host
from exposure_scan.assess.software import facts, read, read_version
from exposure_scan.model import Alive, Device, DeviceClass, Echo, Finding, Host, Site, Status, Support

ON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def shown(version: str, *, confidence: float = 0.85, heuristic: bool = False, **more: Any) -> Device:
    """A server whose synthetic title shows a version; something surer, without one, names the class."""
    server = more.get("class_", DeviceClass.SERVER)
    title = Support(
        fingerprint="synthetic-title",
        says=server,
        confidence=confidence,
        field="http.title",
        value=f"Synthetic page {version}",
        heuristic=heuristic,
        evidence=("e8",),
    )
    surer = Support(
        fingerprint="synthetic-greeting",
        says=server,
        confidence=0.95,
        field="smtp.greeting",
        value="220 synthetic",
        evidence=("e3",),
    )
    values = {"class_": server, "confidence": 0.97, "version": version, "evidence": ("e3", "e8")}
    return Device(**values | {"support": (surer, title)} | more)


def judged(device: Device | None = None, *also: Device, **operator: Any) -> Finding:
    host = Host(
        address="198.51.100.10",
        alive=Alive(proven=True, by="it answered ping"),
        echo=Echo.REPLIED,
        device=device or Device(class_=DeviceClass.SERVER, confidence=0.95),
        also=also,
    )
    site = Site(name="Synthetic site", targets=(host.address,), **operator)
    (finding,) = (found for found in assess_host(host, site, ON) if found.practice == "software.supported")
    return finding


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7.6.2.3", (7, 6, 2, 3)),
        (" v8.0", (8, 0)),
        ("7.3.14.8-synthetic", (7, 3, 14, 8)),
        ("7.6.x", (7, 6)),
        ("7", None),
        ("7.123456", None),
        ("build 7.6", None),
        ("", None),
        (None, None),
    ],
)
def test_a_version_is_read_as_numbers(text: str | None, numbers: tuple[int, ...] | None) -> None:
    assert read_version(text) == numbers


@pytest.mark.parametrize(
    ("version", "status", "told"),
    [
        ("7.5.11.7", "not-met", "The wire shows software 7.5.11.7. That is older than 7.6."),
        (
            "7.3.9.1",
            "not-met",
            "older than 7.6. It is below 7.3.14.8, the least patch of 7.3 by a dealer's copy of a vendor advisory.",
        ),
        ("7.3.14.8", "not-met", "It is not below 7.3.14.8, the least patch of 7.3"),
        ("7.3.20", "not-met", "It is not below 7.3.14.8,"),
        ("7.4.10.1", "not-met", "It is below 7.4.10.2,"),
        ("7.3.14", "not-met", "Whether it is below 7.3.14.8, the least patch of 7.3 by"),
        ("7.6.2.3", "undeclared", "A dealer's copy of the 2014 advisory asks for it"),
        ("8.2.1.0", "met", "The wire shows software 8.2.1.0. That is later than 7.6."),
        ("7.10.0", "met", "later than 7.6. No document known to this scanner names 7.10; check the number."),
        ("7.7.1", "met", "No document known to this scanner names 7.7;"),
        ("10.0", "met", "later than 7.6."),
    ],
)
def test_a_version_on_the_wire_is_judged_number_by_number(version: str, status: str, told: str) -> None:
    finding = judged(shown(version))
    assert finding.status is Status(status)
    assert told in finding.because


def test_the_confidence_and_the_evidence_are_those_of_what_shows_the_version() -> None:
    for version in ("7.5.1", "9.1"):
        finding = judged(shown(version, confidence=0.85))
        assert (finding.confidence, finding.evidence) == (0.85, ("e8",))
    bare = judged(shown("9.1", support=()))
    assert (bare.confidence, bare.evidence) == (0.97, ("e3", "e8"))


def test_where_wire_and_record_differ_the_wire_counts_and_that_is_said() -> None:
    for version, status in (("7.5.1", Status.NOT_MET), ("9.1.0.2", Status.MET)):
        finding = judged(shown(version), software="8.2.1")
        assert finding.status is status
        assert ". The operator's record says 8.2.1, but what the wire shows counts." in finding.because
    same = judged(shown("9.1.0.2"), software="9.1")  # less exact, not different
    assert "record" not in same.because


def test_a_record_alone_is_judged_by_the_same_facts_and_never_called_seen() -> None:
    old = judged(software="7.3.9.1")
    assert old.status is Status.NOT_MET
    assert old.because.startswith("Software 7.3.9.1 is on the operator's record. That is older than 7.6. It is below")
    assert judged(software="9.1").status is Status.DECLARED
    assert (old.confidence, old.evidence) == (None, ())


def test_what_only_a_heuristic_shows_decides_nothing_and_is_told() -> None:
    for version in ("7.5.1", "9.1"):
        finding = judged(shown(version, confidence=0.6, heuristic=True))
        assert finding.status is Status.UNDECLARED
        assert f"A heuristic, which decides nothing, hints at software {version}." in finding.because
        assert finding.evidence == ("e8",)
    doubted = judged(shown("7.5.1", heuristic=True), software="9.1")
    assert doubted.status is Status.UNDECLARED
    assert "hints at software 7.5.1" in doubted.because
    assert judged(shown("9.1", heuristic=True), software="7.5.1").status is Status.NOT_MET
    assert judged(shown("9.1.0.4", heuristic=True), software="9.1").status is Status.DECLARED


def test_what_is_certain_counts_before_a_hint() -> None:
    hint = shown("7.5.1", heuristic=True, class_=DeviceClass.ALLWORX)
    assert judged(hint, shown("9.1")).status is Status.MET


@pytest.mark.parametrize("class_", [DeviceClass.OTHER, DeviceClass.HANDSET, DeviceClass.UNKNOWN])
def test_the_version_of_another_product_says_nothing_of_the_server(class_: DeviceClass) -> None:
    for version in ("2.4.57", "9.1"):
        finding = judged(shown(version, class_=class_), Device(class_=DeviceClass.SERVER, confidence=0.9))
        assert finding.status is Status.UNDECLARED
        assert version not in finding.because


def test_a_version_that_the_wire_makes_up_bursts_no_sentence() -> None:
    finding = judged(shown("7.5.1" + "A" * 500 + "\x1b[31m"))
    assert finding.because.startswith("The wire shows software 7.5.1. That is older")


def test_every_fact_has_a_source_and_the_lines_are_in_order() -> None:
    lines = [row.line for row in facts().line]
    assert lines == sorted(set(lines))
    assert facts().covered.line in lines
    for row in facts().line:
        assert row.confidence == "unknown" or len(row.source) > 20


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ('floor = "7.3.14.8"', 'floor = "7.4.1"', "of another line"),
        ("latest = true", "", "belong together"),
        ('line = "7.0"', 'line = "7"', "line"),
        ('confidence = "copy"', 'confidence = "sure"', "confidence"),
        ('line = "7.0"', 'line = "7.0"\ncolour = "red"', "colour"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused(was: str, becomes: str, complaint: str) -> None:
    text = files("exposure_scan").joinpath("data", "software.toml").read_text("utf-8")
    assert was in text
    with pytest.raises(ValueError, match=complaint):
        read(text.replace(was, becomes, 1))
