"""The mail: both parts say the same, tell everything that the customer needs, and the subject tells the gist."""

from __future__ import annotations

import re

import pytest
import samples
from mails import (
    EVERY,
    PASTS,
    Reader,
    Sample,
    changed,
    every_past,
    every_sample,
    html_part,
    material,
    parts,
    plain_words,
    squeezed,
    text_part,
)

from exposure_scan.model import Status, Turn, Verdict
from exposure_scan.model.text import html_text
from exposure_scan.report import words
from exposure_scan.report.mail import mail_subject
from exposure_scan.report.view import page

FRIENDLY = tuple(sample for sample in EVERY if sample is not samples.hostile)
friendly_sample = pytest.mark.parametrize("sample", FRIENDLY, ids=lambda sample: sample.__name__)
MENU = " \u203a "


# --- both parts ----------------------------------------------------------------------------------


@every_sample
@every_past
def test_both_parts_say_the_same_in_the_same_order(sample: Sample, past: str) -> None:
    html = Reader(html_part(sample, past))
    assert squeezed(html.text) == squeezed(plain_words(text_part(sample, past)))


@friendly_sample
def test_both_parts_tell_every_practice_of_every_host(sample: Sample) -> None:
    scan = sample()
    for told in parts(scan):
        for finding in scan.findings:
            word = words.STATUSES[finding.status].word
            row = f"{word}: {finding.title} ({finding.severity}) Seen: {finding.because}"
            assert row in told
            rest = told.split(row, 1)[1]
            mended = finding.status not in (Status.NOT_MET, Status.CANNOT_TELL, Status.UNDECLARED)
            assert (f"Fix: {finding.remedy}" in rest) or mended
            if finding.waived:
                assert f"Waived: {finding.waived.by} accepted this until {finding.waived.until}" in rest


@friendly_sample
def test_both_parts_tell_the_verdict_the_cautions_and_the_steps(sample: Sample) -> None:
    view = page(material(sample()))
    assert view.steps
    for told in parts(sample()):
        assert f"{view.box.mark.symbol} {view.box.mark.word}" in told
        box = (view.box.why, view.box.do, view.box.who, view.box.cost, *view.box.cautions, *view.box.reasons)
        assert [said for said in box if said not in told] == []
        for number, step in enumerate(view.steps, 1):
            assert f"{number}. {step.title} {step.mark.symbol} {step.label}" in told
            assert f"What: {step.what} Why: {step.why}" in told
            assert not step.menu_path or f"Where: {step.menu_path.replace(' > ', MENU)}" in told
        for count in view.counts:
            assert f"{count.mark.symbol} {count.number} {count.mark.word}" in told
        for host in view.hosts:
            assert host.address in told
            assert host.tally in told
        assert view.sha256 in told
        assert view.scan.id in told


def test_both_parts_tell_who_vouched_what_was_not_measured_and_whom_to_ask() -> None:
    for told in parts(samples.exposed_server()):
        assert "The admin password is strong: declared by sample technician on 2026-11-01" in told
        assert "accepted by sample owner until 2026-12-01 (expires in 28 days), because the provider wants ping" in told
        assert "1 of 14 practices that cannot be seen from outside were declared" in told
        assert "Not measured, and nothing is known of them: udp/161." in told
        assert "No login, password or call was tried" in told
        assert "Contact: Sample Partner, 555-0100, help@partner.example" in told
        assert "Allworx server (software 7.5.9.9): nearly certain (98%)" in told
        assert "attached" not in told


def test_a_doubtful_finding_is_told_with_its_doubt() -> None:
    scan = samples.exposed_server()
    doubtful = tuple(one.model_copy(update={"confidence": 0.9}) for one in scan.findings)
    for told in parts(scan.model_copy(update={"findings": doubtful})):
        assert "How surely: Not beyond doubt: such a sighting is mistaken about 1 time in 10." in told


def test_a_go_promises_nothing() -> None:
    for told in parts(samples.silent_with_presence()):
        assert "✓ GO At the time of the scan, nothing seen from outside broke" in told
        assert "That is a person's word, not a measurement" in told
        assert not re.search(r"\b(safe|secure|protected)\b", told, re.IGNORECASE)


# --- what changed --------------------------------------------------------------------------------


def test_the_first_scan_is_said_to_be_the_first() -> None:
    for told in parts(samples.exposed_server()):
        assert "What changed This is the first scan of this site." in told


def test_both_parts_tell_what_changed() -> None:
    for told in parts(samples.exposed_server(), changed()):
        assert "The verdict was GO and is now NO-GO." in told
        for turn, mark in words.TURNS.items():
            assert f"{mark.symbol} {mark.word}: Sample practice that is {turn} (" in told
        assert "Open now and not at the last scan: tcp/8081, tcp/8443." in told
        assert "Open at the last scan and not now: tcp/23." in told
        assert "Scanned now and not the last time: 198.51.100.77." in told
        assert "Scanned the last time and not now: 198.51.100.78, 198.51.100.79." in told


# --- the subject ---------------------------------------------------------------------------------


@every_sample
@every_past
def test_a_subject_is_one_clean_short_line(sample: Sample, past: str) -> None:
    subject = mail_subject(material(sample(), PASTS[past]))
    assert len(subject) < 120
    assert subject == html_text(subject)
    assert subject.startswith(f"{words.VERDICTS[sample().verdict].word}: ")
    assert subject.endswith(")")


def test_a_subject_names_the_site_and_the_weightiest_changes() -> None:
    scan = samples.exposed_server()
    assert mail_subject(material(scan)) == "NO-GO: exposed-server (first scan)"
    told = "was GO, 1 new, 1 back again, 1 no longer seen, 1 fixed"
    assert mail_subject(material(scan, changed())) == f"NO-GO: exposed-server ({told})"
    assert mail_subject(material(scan, PASTS["same"])) == "NO-GO: exposed-server (no change)"


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"changes": (Turn.STILL,)}, "no change, 1 still broken"),
        ({"changes": (Turn.OTHER,)}, "1 other change"),
        ({"doors": True}, "2 ports opened, 1 port shut"),
        ({"came": True, "went": True}, "1 address came, 2 addresses went"),
    ],
)
def test_a_subject_tells_smaller_changes_where_there_are_no_greater(kept: dict[str, object], told: str) -> None:
    past = changed()
    turns = kept.get("changes", ())
    assert isinstance(turns, tuple)
    only = past.model_copy(
        update={
            "was": Verdict.NO_GO,
            "changes": tuple(one for one in past.changes if one.turn in turns),
            "doors": past.doors if "doors" in kept else (),
            "came": past.came if "came" in kept else (),
            "went": past.went if "went" in kept else (),
        }
    )
    assert mail_subject(material(samples.exposed_server(), only)) == f"NO-GO: exposed-server ({told})"


def test_a_change_at_several_addresses_counts_once_as_in_the_report() -> None:
    past = changed()
    new = past.changes[0]
    twice = past.model_copy(
        update={"changes": (new, new.model_copy(update={"host": "198.51.100.44"})), "was": Verdict.NO_GO, "doors": ()}
    )
    scan = samples.two_hosts()
    assert "(1 new, 1 address came" in mail_subject(material(scan, twice))
    assert "Practices: 1 new." in parts(scan, twice)[1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\r\nBcc: x@evil.example", "a Bcc: x@evil.example"),
        ("=?utf-8?q?GO=3A_all_is_well?=", "= ?utf-8?q?GO=3A_all_is_well?="),
        ("=\u200b?utf-8?q?x?=", "= ?utf-8?q?x?="),
        ("\u202e\x00", "a site without a name"),
        ("=?" * 100, ("= ?" * 15)[: 45 - len("… (cut)")].rstrip() + "… (cut)"),
    ],
)
def test_a_site_name_can_not_write_the_header(name: str, shown: str) -> None:
    scan = samples.silent_site()
    site = scan.site.model_copy(update={"name": name})
    subject = mail_subject(material(scan.model_copy(update={"site": site})))
    assert subject == f"INCONCLUSIVE: {shown} (first scan)"
