"""The report says whose observations it tells, what its frame numbers are, and what another scanner found."""

from __future__ import annotations

import re

import pytest
import samples
import samples_evidence
from test_report import Reader, html
from test_report_evidence import item
from test_report_terminal import plain, shown

from exposure_scan.model import Opinion, Origin, PortState, Scan, SecondOpinion
from exposure_scan.report import render

WIRE = "The frame numbers are those of capture.pcap in evidence.zip."
REBUILT = "It was rebuilt from what the sockets said and saw: headers and times of the handshake are not observed."


def with_frames(capture: str) -> Scan:
    scan = samples_evidence.disputed_device()
    pieces = tuple(piece.model_copy(update={"frames": "40-58,61"}) for piece in scan.evidence)
    return scan.model_copy(update={"evidence": pieces, "capture": capture})


def markdown(scan: Scan) -> str:
    return render(scan, "markdown", practices=samples.PRACTICES)


@pytest.mark.parametrize(
    ("capture", "made", "said"),
    [
        ("wire", "seen on the wire", WIRE),
        ("transcript", "rebuilt from the record (transcript)", REBUILT),
        ("none", "none", None),
    ],
)
def test_each_piece_names_its_frames_and_the_page_says_what_they_are(capture: str, made: str, said: str | None) -> None:
    text = html(with_frames(capture))
    words = Reader(text).words
    assert item(text, "e1").startswith(
        "e1: tcp/25 " + ("frames 40–58, 61 " if said else "") + "listened"  # noqa: RUF001 - ranges
    )
    assert f"Capture {made} SHA-256 of the JSON" in words
    assert f"- **Capture:** {made}" in markdown(with_frames(capture))
    for other in (WIRE, REBUILT):
        assert (other in words) == (other == said)
    assert WIRE not in Reader(html(samples_evidence.disputed_device())).words  # no piece names frames


def test_an_attacker_s_frames_are_left_out() -> None:
    scan = with_frames("wire")
    pieces = tuple(piece.model_copy(update={"frames": "1<script>"}) for piece in scan.evidence)
    text = html(scan.model_copy(update={"evidence": pieces}))
    assert "frames" not in item(text, "e1")
    assert WIRE not in text


def test_what_was_read_from_a_file_is_said_at_the_top_of_every_format() -> None:
    origin = Origin(kind="nmap", name="office <b>.xml", sha256="0123456789abcdef" * 4, by="Nmap 7.93")
    scan = samples.exposed_server().model_copy(update={"origin": origin})
    said = f"Read from office <b>.xml (an Nmap scan by Nmap 7.93), SHA-256 {origin.sha256}; no packet was sent."
    text = html(scan)
    head = text[text.index("<header") : text.index("</header>") + len("</header>")]
    assert said in Reader(head).words
    assert said in " ".join(plain(shown(scan, width=400)).split())
    assert "- **Mind:** Read from office &lt;b&gt;.xml (an Nmap scan by Nmap 7.93)" in markdown(scan)
    for told in (
        html(samples.exposed_server()),
        plain(shown(samples.exposed_server())),
        markdown(samples.exposed_server()),
    ):
        assert "no packet was sent" not in told


def test_a_masked_copy_says_so() -> None:
    said = "Nonces, host names and serials are masked in this copy."
    scan = samples.exposed_server().model_copy(update={"redacted": True})
    assert said in Reader(html(scan)).words
    assert said in plain(shown(scan))
    assert f"- **Mind:** {said}" in markdown(scan)
    assert said not in Reader(html(samples.exposed_server())).words


def opinion(port: str, agreement: str, theirs: PortState = PortState.OPEN, because: str = "") -> Opinion:
    ours = PortState.OPEN if agreement == "same" else PortState.FILTERED
    values = {"host": "198.51.100.10", "port": port, "ours": ours, "theirs": theirs, "reason": "syn-ack"}
    return Opinion.model_validate(values | {"agreement": agreement, "because": because})


def second(*ports: Opinion, trouble: str | None = None) -> Scan:
    found = SecondOpinion(by="Nmap 7.93", ports=ports, trouble=trouble)
    return samples.exposed_server().model_copy(update={"second_opinion": found})


def test_a_second_opinion_is_counted_and_what_differs_is_told_with_its_reason() -> None:
    because = "It asked once; <i>the packet</i> may have been lost."
    scan = second(
        opinion("tcp/25", "same"),
        opinion("tcp/80", "compatible"),
        opinion("tcp/8080", "differs", because=because),
        opinion("udp/2088", "not-compared"),
    )
    said = "Nmap 7.93 looked right after this scan and agrees on 2 of 3 ports."
    words = Reader(html(scan)).words
    assert f"Second opinion {said} 1 port was not compared." in words
    assert f"tcp/8080 filtered open (syn-ack) {because}" in words
    assert "tcp/80 filtered" not in words
    told = " ".join(plain(shown(scan, width=200)).split())
    assert f"Second opinion: {said} 1 port was not compared. It differs on tcp/8080." in told
    assert "## Second opinion" in markdown(scan)
    assert re.search(r"\| tcp/8080 \| filtered \| open \(syn-ack\) \| It asked once; &lt;i&gt;", markdown(scan))


def test_trouble_of_the_other_scanner_is_told_and_nothing_where_there_was_none_asked() -> None:
    scan = second(trouble="it did not end within 60 s")
    said = "Nmap 7.93 had trouble: it did not end within 60 s."
    for told in (Reader(html(scan)).words, plain(shown(scan)), markdown(scan)):
        assert said in told
        assert "agrees on" not in told
    for told in (
        html(samples.exposed_server()),
        plain(shown(samples.exposed_server())),
        markdown(samples.exposed_server()),
    ):
        assert "Second opinion" not in told


def test_a_thousand_differences_stay_bounded_and_are_counted() -> None:
    scan = second(*(opinion(f"tcp/{number}", "differs", because="x" * 200) for number in range(1, 1001)))
    text = html(scan)
    assert "940 more ports differ; see the JSON of this scan." in text
    assert len(text.encode()) < 200_000
    assert "and 994 more." in plain(shown(scan, width=200))
