"""The evidence in a terminal: who said what and when, whatever the other side sends, with and without colours."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
import samples
import samples_evidence
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from exposure_scan.conversation import Event, Exchange, Observation
from exposure_scan.model import Evidence, Finding, Origin, PortState, Question, Scan, Status
from exposure_scan.report.cited import chosen, contents
from exposure_scan.report.dialogue import dialogue

HOST, NEAR = "198.51.100.60", "198.51.100.250"
ENDS = f"{NEAR}|40123 {HOST}|25"
MARKS = "→←·"


def piece(*events: Event, kind: str = "tcp", port: int = 25, **more: object) -> Evidence:
    """A piece of evidence as a scan writes it."""
    question = Question("tcp", port, "greeting")
    exchange = Exchange(question, PortState.OPEN, "syn-ack", HOST, 1, 9.5, Observation(), samples.AT, tuple(events))
    made = exchange.evidence("e12", HOST, "00")
    return made.model_copy(update={"kind": kind} | more)


def scan_of(*pieces: Evidence, **more: object) -> Scan:
    return samples_evidence.disputed_device().model_copy(update={"evidence": pieces} | more)


def told(*pieces: Evidence, width: int = 100, colour: bool = False, scan: Scan | None = None) -> str:
    """The conversations as they stand in a terminal."""
    return drawn(dialogue(scan or scan_of(*pieces), (), pieces), width=width, colour=colour)


def drawn(what: object, *, width: int = 100, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, no_color=not colour, highlight=False, _environ={}
    )
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines())


def body(text: str) -> list[str]:
    """The lines of the conversation, behind the heading."""
    return [line for line in text.splitlines() if line.startswith(("  +", " " * 11))]


TALK = (
    Event(0.0, "asking", detail=ENDS),
    Event(12.0, "connected", detail=ENDS),
    Event(30.0, "received", b"220 pbx.synthetic.invalid ready\r\n"),
    Event(41.0, "sent", b"EHLO exposure-scan.invalid\r\n"),
    Event(52.0, "received", b"250-pbx.synthetic.invalid\r\n250 8BITMIME\r\n"),
    Event(2052.0, "silent"),
    Event(2060.0, "closed"),
)


def test_a_talk_is_told_line_by_line_with_its_times_and_whose_words_they_are() -> None:
    text = told(piece(*TALK, frames="40-58"), scan=scan_of(capture="wire"))
    assert text.splitlines() == [
        "→ the scanner   ← the other side   · what happened",
        "",
        "e12  tcp/25  2026-11-03 14:05:00.000 UTC  open (syn-ack)  frames 40–58 of capture.pcap",  # noqa: RUF001 - ranges
        "     listened for a mail or other greeting",
        "  +0.000 s · asking from port 40123 of 198.51.100.250",
        "  +0.012 s · connected, from port 40123 of 198.51.100.250",
        "  +0.030 s ← 220 pbx.synthetic.invalid ready",
        "  +0.041 s → EHLO exposure-scan.invalid",
        "  +0.052 s ← 250-pbx.synthetic.invalid",
        "           ← 250 8BITMIME",
        "  +2.052 s · nothing for 2.0 s",
        "  +2.060 s · closed by the other side",
    ]


@pytest.mark.parametrize(
    ("capture", "frames", "shown"),
    [
        ("transcript", "7", "frame 7 of transcript.pcap"),
        ("wire", "12-18,70040", "frames 12–18, 70040 of capture.pcap"),  # noqa: RUF001 - ranges
        ("none", "7", None),
        ("wire", "", None),
        ("wire", "18-12", None),
        ("wire", "1,2; rm", None),
        ("wire", "1-99999999999999999999", None),
    ],
)
def test_the_frames_are_those_of_the_capture_that_there_is(capture: str, frames: str, shown: str | None) -> None:
    text = told(piece(*TALK, frames=frames), scan=scan_of(capture=capture), width=200)
    assert (shown in text) if shown else ("frame" not in text)


@pytest.mark.parametrize("width", [80, 200])
def test_the_longest_lines_fit_and_go_on_below_without_a_mark(width: int) -> None:
    data = b"220 " + b"x" * 300 + b" \xe2\x86\x90 " + b"y" * 200 + b"\r\n"
    text = told(piece(Event(1, "received", data), Event(2, "sent", b"QUIT\r\n")), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    lines = body(text)
    assert [line[11] for line in lines if line[11] != " "] == ["←", "→"]
    assert "".join(line[13:] for line in lines[:-1]).replace(" ", "") == (
        "220" + "x" * 300 + "\\xe2\\x86\\x90" + "y" * 200
    )


def test_it_says_the_same_with_and_without_colours() -> None:
    assert told(piece(*TALK), colour=True) == told(piece(*TALK))


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (Event(1, "icmp", detail="type=3 code=13 from=198.51.100.1"), "tcp",
         "router 198.51.100.1 says: administratively prohibited (ICMP type 3, code 13)"),
        (Event(1, "icmp", detail=f"type=3 code=3 from={HOST}"), "udp",
         f"{HOST} itself says: port unreachable (ICMP type 3, code 3)"),
        (Event(1, "icmp", detail="type=1 code=1 from=2001:db8::1"), "udp",
         "router 2001:db8::1 says: administratively prohibited (ICMP type 1, code 1)"),
        (Event(1, "icmp", detail="type=3 code=99 from=198.51.100.1"), "udp",
         "router 198.51.100.1 says: an error (ICMP type 3, code 99)"),
        (Event(1, "icmp", detail="something else"), "udp", "an ICMP error came: something else"),
        (Event(1, "not-connected", detail="rst"), "tcp", "no connection: refused"),
        (Event(1, "not-connected", detail="no-response"), "tcp", "no connection: no answer after 1 try"),
        (Event(1, "reset"), "tcp", "reset: the other side tore it down"),
        (Event(1, "reset"), "udp", "that ended the question"),
        (Event(1, "limit"), "tcp", "too much: the scanner stopped reading"),
        (Event(1, "secured", detail="TLSv1.3 TLS_AES_256_GCM_SHA384 3082"), "tcp",
         "secured with TLSv1.3 (TLS_AES_256_GCM_SHA384): what follows is the plain text inside"),
        (Event(1, "not-secured", detail="WRONG_VERSION_NUMBER"), "tcp", "TLS did not come about: WRONG_VERSION_NUMBER"),
        (Event(1, "elsewhere", detail="198.51.100.61|5061"), "udp",
         "an answer came from port 5061 of 198.51.100.61, which was not asked"),
        (Event(1, "connected", detail=f"{NEAR}|4 {HOST}|0"), "icmp", f"asking from {NEAR}"),
        (Event(40, "silent"), "udp", "nothing for 40 ms"),
    ],
)  # fmt: skip
def test_what_happened_beside_the_words_is_said_in_words(event: Event, kind: str, words: str) -> None:
    assert body(told(piece(event, kind=kind)))[-1][11:] == f"· {words}"


def test_binary_data_is_shown_in_hex_beside_its_readable_part() -> None:
    data = bytes(range(0x30, 0x3A)) + b"\x00\x01\xff\xfe\x7f\n" + b"tail"
    lines = body(told(piece(Event(1, "received", data)), width=80))
    assert lines == [
        "  +0.001 s ← 0000  3031 3233 3435 3637 3839 0001 fffe 7f0a  0123456789......",
        "           ← 0010  7461 696c                                tail",
    ]


def test_long_data_is_cut_and_what_is_left_out_is_counted() -> None:
    text = told(piece(Event(1, "received", b"\x00" * 12_290), port=161))
    assert "… 12,034 bytes more; all of it stands in scan.json" in text
    lines = told(piece(Event(1, "received", b"a line\r\n" * 100)))
    assert lines.count("← a line") == 40
    assert "· … 480 bytes more; all of it stands in scan.json" in lines
    one = told(piece(Event(1, "received", b"A" * 5_000)))
    assert one.count("A") == 600
    assert "… 4,400 bytes more" in one


def test_a_thousand_events_are_cut_and_counted() -> None:
    text = told(piece(*(Event(number, "received", b"x\r\n") for number in range(1_000))))
    assert text.count("← x") == 200
    assert "· … 800 events more; all of them stand in scan.json" in text


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b"one\n", "its line ends in a bare LF"),
        (b"one\ntwo\n", "all its lines end in a bare LF"),
        (b"one\r\ntwo\n", "1 line of it ends in a bare LF"),
        (b"one\ntwo\nthree\r\n", "2 lines of it end in a bare LF"),
        (b"one\r\ntwo\r\n", None),
        (b"one\r\ntwo", None),
    ],
)
def test_a_line_that_does_not_end_as_the_protocols_want_it_is_told(data: bytes, note: str | None) -> None:
    text = told(piece(Event(1, "received", data)))
    assert (f"· {note}" in text) if note else ("bare LF" not in text)


def test_a_carriage_return_alone_moves_nothing() -> None:
    assert body(told(piece(Event(1, "received", b"220 safe\r250 forged\r\n")))) == [
        "  +0.001 s ← 220 safe\\r250 forged"
    ]


def test_the_same_question_again_is_one_line() -> None:
    events = (Event(0, "sent", b"OPTIONS x\r\n"), Event(500, "silent"), Event(501, "sent", b"OPTIONS x\r\n"))
    assert body(told(piece(*events, kind="udp"))) == [
        "  +0.000 s → OPTIONS x",
        "  +0.500 s · nothing for 0.5 s",
        "  +0.501 s · sent once more: the same 11 bytes",
    ]


def test_evidence_without_events_says_why_there_is_nothing() -> None:
    bare = piece(state="unmeasured", reason="vantage-blind")
    told_so = "nothing was sent and nothing came: the scanner's network does not let the question out"
    assert f"· {told_so}" in told(bare)
    read = scan_of(bare, origin=Origin(kind="nmap", name="office.xml", sha256="ab" * 32))
    assert "· nothing of it was kept: it was read from office.xml" in told(bare, scan=read)


def test_a_group_of_a_sweep_is_one_line() -> None:
    group = piece(port=0, ports="1-20,26-52", probe="knock", purpose="sweep", state="closed", reason="rst", tries=2)
    text = told(group, scan=scan_of(capture="wire"), width=160)
    assert "e12  tcp ports 1-20, 26-52  " in text
    assert body(text) == ["           · a connection to each of 47 ports, 2 tries each, without a word: refused"]


def test_a_damaged_record_is_told_and_what_it_holds_is_shown() -> None:
    bad = piece(*TALK).model_copy(update={"received": "220 short\\r\\n"})
    text = told(bad)
    assert "· the record is damaged: its bytes and its steps do not fit together" in text
    assert "← 220 short" in text
    assert "0000  e298 8e" in told(piece(*TALK).model_copy(update={"received": "\N{BLACK TELEPHONE}"}))


@given(
    st.lists(
        st.tuples(st.sampled_from(["sent", "received", "icmp", "not-secured"]), st.binary(max_size=90)), max_size=6
    )
)
def test_nothing_that_is_received_can_steer_the_terminal_or_forge_a_mark(said: list[tuple[str, bytes]]) -> None:
    events = [
        Event(number, what, data if what in ("sent", "received") else b"", data.decode("latin-1"))  # type: ignore[arg-type]
        for number, (what, data) in enumerate(said)
    ]
    text = told(piece(*events), width=80)
    assert not {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co")}
    ours = sum(text.count(mark) for mark in "→←")
    assert ours == 2 + sum(line[11:12] in ("→", "←") for line in body(text))


def test_markup_of_rich_is_text_like_any_other() -> None:
    assert "← 220 [red]x[/red] :smile: [link=a]" in told(
        piece(Event(1, "received", b"220 [red]x[/red] :smile: [link=a]\r\n"))
    )


# --- which evidence -------------------------------------------------------------------------------


def finding(status: Status, *ids: str) -> Finding:
    first = samples_evidence.disputed_device().findings[0]
    return first.model_copy(update={"practice": "sip.not-reachable", "status": status, "evidence": ids})


def test_a_practice_brings_the_evidence_that_its_findings_cite_and_an_id_brings_one_piece() -> None:
    scan = samples_evidence.disputed_device()
    findings, pieces = chosen(scan, "sip.not-reachable")
    assert [(one.status, one.host) for one in findings] == [(Status.NOT_MET, HOST)]
    assert [one.id for one in pieces] == ["e3"]
    assert [one.id for one in chosen(scan, "e4")[1]] == ["e4"]
    assert chosen(scan, "e404") == ((), ())


@pytest.mark.parametrize(("status", "ids"), [(Status.CANNOT_TELL, ["e1", "e2"]), (Status.NOT_MET, ["e1"])])
def test_a_finding_that_was_left_open_shows_every_attempt_at_its_ports(status: Status, ids: list[str]) -> None:
    pieces = (
        piece(id="e1"), piece(id="e2", purpose="again"), piece(id="e3", port=26), piece(id="e4", address=NEAR)
    )  # fmt: skip
    scan = scan_of(*pieces, findings=(finding(status, "e1"),))
    assert [one.id for one in chosen(scan, "sip.not-reachable")[1]] == ids


def test_a_finding_is_told_before_its_evidence() -> None:
    scan = samples_evidence.disputed_device()
    text = drawn(dialogue(scan, *chosen(scan, "sip.not-reachable")))
    assert text.startswith("✗ Not met: sip.not-reachable at 198.51.100.60\n")
    assert text.index("e3  udp/5060") > 0
    masked = drawn(dialogue(scan.model_copy(update={"redacted": True}), *chosen(scan, "sip.not-reachable")))
    assert "Nonces, host names and serials are masked in this copy." in masked


def test_the_contents_name_each_finding_with_its_evidence_and_frames() -> None:
    pieces = tuple(piece(id=f"e{number}", frames=f"{number * 10}-{number * 10 + 4}") for number in (1, 2, 3, 5))
    scan = scan_of(*pieces, findings=(finding(Status.NOT_MET, "e5", "e1", "e2", "e3"),), capture="wire")
    rows = drawn(contents(scan), width=120).splitlines()
    assert re.split(r" {2,}", rows[0]) == ["Finding", "Status", "Evidence", "Frames"]
    assert re.split(r" {2,}", rows[2]) == [
        "sip.not-reachable", "✗ Not met", "e1–e3, e5", "10–14, 20–24, 30–34, 50–54",  # noqa: RUF001 - ranges
    ]  # fmt: skip
    none = drawn(contents(scan.model_copy(update={"capture": "none"})))
    assert "Frames" not in none
    assert drawn(contents(scan.model_copy(update={"findings": ()}))) == "No finding of this scan rests on evidence."


@pytest.mark.parametrize("practice", ["server.behind-firewall-or-wan-port"])
def test_the_contents_fit_eighty_columns_and_break_no_name(practice: str) -> None:
    pieces = tuple(piece(id=f"e{number}", frames=str(number * 2)) for number in range(1, 60, 2))
    cited = finding(Status.NOT_APPLICABLE, *(one.id for one in pieces)).model_copy(update={"practice": practice})
    text = drawn(contents(scan_of(*pieces, findings=(cited,), capture="wire")), width=80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert practice in text
    assert "and 22" in text
