"""Each claim of the report can be followed to the bytes that made it."""

from __future__ import annotations

import re

import pytest
import samples
import samples_evidence
from test_report import Reader, html
from test_report_terminal import plain, shown

from exposure_scan.model import Scan


def item(text: str, anchor: str) -> str:
    """The words of one piece of evidence on the page."""
    match = re.search(rf'<li id="{anchor}">(.*?)</li>', text, re.DOTALL)
    assert match is not None, anchor
    return " ".join(Reader(match[1]).words.split())


def test_every_cited_piece_is_linked_where_the_page_holds_it_and_named_where_not() -> None:
    text = html(samples_evidence.disputed_device())
    read = Reader(text)
    ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
    links = {attrs["href"] for tag, attrs in read.tags if tag == "a"}
    assert {"#e1", "#e2", "#e3", "#e4", "#e5"} <= links
    assert {"e1", "e2", "e3", "e4", "e5"} <= ids
    assert "#e99" not in links
    assert "e99" in read.words


def test_a_piece_shows_what_was_asked_when_and_both_sides_of_the_talk() -> None:
    text = html(samples_evidence.disputed_device())
    assert item(text, "e1") == (
        "e1: tcp/25 listened for a mail or other greeting; 2026-11-03 14:05:00.120 UTC; open: accepted the connection "
        "Sent EHLO scanner.sample.example\\r\\n Received 220 mail.sample.example ESMTP Postfix\\r\\n"
    )
    assert "tcp ports 100-64099" in item(text, "e5")
    assert "a connection, without a word (in the sweep of all ports)" in item(text, "e5")


def test_the_bytes_that_a_claim_rests_on_are_shown_even_where_they_lie_far_behind() -> None:
    shown = item(html(samples_evidence.disputed_device()), "e2")
    assert f"<title>{samples_evidence.TITLE}</title>" in shown
    assert "characters more" in shown
    assert len(shown) < 900


def test_for_and_against_stand_side_by_side_and_a_heuristic_is_explained() -> None:
    words = Reader(html(samples_evidence.disputed_device())).words
    assert (
        "Allworx equipment of unknown kind, likely (60%), a heuristic : sip.server on udp/5060 is "
        "“ synthetic allworx-like name ” Fingerprint sip-server-name ; source: a rule of thumb; evidence e3 "
        "Against: Another product, not Allworx, nearly certain (95%): smtp.greeting on tcp/25 is"
    ).replace(" :", ":") in words.replace(" :", ":")
    assert "Heuristic: a rule of thumb without a captured source; never surer than 70%." in words
    assert "Heuristic:" not in Reader(html(samples.exposed_server())).words


def test_a_pack_is_named_with_its_origin_wherever_it_spoke() -> None:
    scan = samples_evidence.disputed_device()
    words = Reader(html(scan)).words
    assert "by pack bench-px alone" in words
    assert "by pack bench-px ; source: learnt from a unit of one's own" in words
    origin = "bench-px: Sample technician's bench unit, 2026-10-01. SHA-256 starts 0123456789ab."
    assert origin in words
    terminal = " ".join(plain(shown(scan, width=200)).split())
    assert "by pack bench-px alone" in terminal
    assert origin in terminal
    none = Reader(html(samples.exposed_server())).words
    assert "by pack" not in none
    assert "Fingerprint packs" not in none


def test_a_foreign_product_is_called_by_its_name_and_not_the_phone_system() -> None:
    scan = samples_evidence.disputed_device()
    words = Reader(html(scan)).words
    assert "tcp/25 SMTP: Postfix, not your phone system" in words
    assert "Postfix, not your phone system, nearly certain (95%)" in words
    row = next(line for line in plain(shown(scan, width=160)).splitlines() if line.startswith("tcp/25 "))
    assert row.rstrip().endswith("Postfix, not Allworx")


def test_a_certificate_is_told_in_full() -> None:
    scan = samples_evidence.disputed_device()
    for text in (Reader(html(scan)).words, " ".join(plain(shown(scan, width=250, verbose=True)).split())):
        for told in (
            "Encrypted with TLSv1, SYNTHETIC-CIPHER",
            "Certificate for CN=mail.sample.example",
            "Issued by CN=Synthetic CA",
            "Names: mail.sample.example, imap.sample.example",
            "Valid from 29 September 2025 until 29 September 2026",
            "The certificate expired on 2026-09-29.",
            "It speaks an old version of TLS or SSL that OpenSSL on the scanner refuses (UNSUPPORTED_PROTOCOL)",
        ):
            assert told in text


def test_a_sweep_counts_all_its_ports_and_says_which_it_did_not_reach() -> None:
    scan = samples_evidence.disputed_device()
    words = Reader(html(scan)).words
    assert "65,430 ports were asked" in words
    assert "Shut (64,000): the address refused" in words
    assert "64,000 refused" in words
    assert "64,000 ports: tcp ports 100-64099 : refused".replace(" :", ":") in words.replace(" :", ":")
    assert "1,400 ports: tcp ports 64100-65499" in words
    assert "not asked: it had gone silent" in words
    terminal = " ".join(plain(shown(scan, width=200)).split())
    assert "In the sweep, 65,400 more TCP ports were asked: 0 answered, 64,000 refused, 1,400 could" in terminal
    assert "tcp ports 64100-65499: not asked" in " ".join(plain(shown(scan, width=200, verbose=True)).split())


@pytest.mark.parametrize("number", [30, 300])
def test_much_evidence_stays_bounded_and_what_is_left_out_is_counted(number: int) -> None:
    scan = samples_evidence.disputed_device()
    more = tuple(
        samples_evidence.proof(id_, "tcp", id_, "any", "A" * 5_000, "B" * 5_000) for id_ in range(100, 100 + number)
    )
    cited = tuple(one.id for one in more)
    findings = tuple(one.model_copy(update={"evidence": cited}) for one in scan.findings)
    text = html(scan.model_copy(update={"evidence": (*scan.evidence, *more), "findings": findings}))
    assert len(text.encode()) < 100_000
    pieces = text.count('<li id="e')
    left = re.search(r"([0-9,]+) more pieces are cited above", text)
    assert left is not None
    assert pieces + int(left[1]) == number + 4  # and those of the four open ports


def test_an_id_that_the_scanner_cannot_have_written_becomes_no_anchor() -> None:
    scan = samples_evidence.disputed_device()
    bad = '"><b id=x>'
    evidence = tuple(one.model_copy(update={"id": bad}) if one.id == "e4" else one for one in scan.evidence)
    findings = tuple(one.model_copy(update={"evidence": (bad,)}) for one in scan.findings)
    forged: Scan = scan.model_copy(update={"evidence": evidence, "findings": findings})
    ids = {attrs["id"] for _, attrs in Reader(html(forged)).tags if "id" in attrs}
    assert not {id_ for id_ in ids if id_ is None or not re.fullmatch(r"[a-z0-9-]+", id_)}
