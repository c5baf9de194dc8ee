"""What others ask a host, heard in a capture: what it shows, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tapes import HOST, ROUTER, SOMEBODY, Tape, ports, statuses
from test_overheard import GREETING, REFUSED, REGISTER

from exposure_scan import sweep
from exposure_scan.lab.packets import (
    ACK,
    ADMIN_PROHIBITED,
    PORT_UNREACHABLE,
    RST,
    SYN,
    TIME_EXCEEDED,
    UNREACHABLE,
    Segment,
    icmp_error,
    tcp,
    udp,
)
from exposure_scan.model import Echo, PortState, Status, Verdict
from exposure_scan.plan import default_ports
from exposure_scan.report import load_scan
from exposure_scan.sweep.held import disagreements
from exposure_scan.sweep.replayed import replayed


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(tmp_path / "others.pcap")


# --- what others ask ------------------------------------------------------------------------------


def test_a_phone_whose_registration_is_refused_shows_that_sip_is_exposed(tape: Tape) -> None:
    tape.datagrams(5060, REGISTER, b"<" + REFUSED)
    seen = tape.judged()
    port = ports(seen)["udp/5060"]
    assert (port.state, port.reason, port.service, port.rtt_ms) == (PortState.OPEN, "udp-reply", "sip", 10.0)
    assert (seen.verdict, statuses(seen)["sip.not-reachable"]) == (Verdict.NO_GO, Status.NOT_MET)
    assert seen.authorization.by == "nobody: nothing was sent; read from others.pcap"
    assert (seen.evidence[0].probe, seen.evidence[1].frames) == ("overheard", "1-2")


def test_what_nobody_asked_is_not_measured_and_every_question_is_there(tape: Tape) -> None:
    tape.stream(25, b"<" + GREETING, b"EHLO x\r\n", b"<250 mail\r\n")
    seen = tape.judged()
    assert {*default_ports()} <= ports(seen).keys()
    assert {port.reason for key, port in ports(seen).items() if key != "tcp/25"} == {"not-in-the-capture"}
    assert {port.state for key, port in ports(seen).items() if key != "tcp/25"} == {PortState.UNMEASURED}
    assert seen.hosts[0].echo is Echo.UNMEASURED
    assert ports(seen)["tcp/25"].said["smtp.ehlo"] == "250 mail"


def test_what_the_host_calls_itself_is_no_open_port(tape: Tape) -> None:
    trunk, web = "198.51.100.77", "198.51.100.88"
    tape.datagrams(5060, b"<" + REGISTER, REFUSED, of=trunk, near=5060)
    tape.datagrams(40001, REFUSED, b"<" + REGISTER, of=trunk, near=5060)  # the capture began after its request
    tape.stream(80, b"GET / HTTP/1.1\r\n\r\n", b"<HTTP/1.1 200 OK\r\n\r\n", of=HOST, to=web)
    tape.stream(22, b"SSH-2.0-synthetic\r\n", b"<SSH-2.0-synthetic\r\n", of=HOST, to=web, near=50000)
    tape.datagrams(50001, b"<synthetic question", b"synthetic answer", of=web, near=9)
    seen = tape.judged()
    assert {port.state for port in seen.hosts[0].ports} == {PortState.UNMEASURED}
    assert not seen.hosts[0].alive.proven


def refuses_many(tape: Tape) -> None:
    """Enough answers that the path's loss is known to be small: three silent tries then settle a port."""
    for port in range(1001, 1021):
        tape.add(tcp(Segment(40000, port, 1, 0, SYN), SOMEBODY, HOST))
        tape.add(tcp(Segment(port, 40000, 0, 2, RST | ACK), HOST, SOMEBODY))


def test_each_answer_has_its_state_and_who_said_it(tape: Tape) -> None:
    syn = tcp(Segment(40001, 22, 1, 0, SYN), SOMEBODY, HOST)
    tape.add(syn, tcp(Segment(22, 40001, 0, 2, RST | ACK), HOST, SOMEBODY))
    for near, port, code, by in ((2, 123, PORT_UNREACHABLE, HOST), (3, 161, ADMIN_PROHIBITED, ROUTER)):
        asked = udp(near, port, b"synthetic", SOMEBODY, HOST)
        tape.add(asked, icmp_error(asked, UNREACHABLE, code, by))
    asked = tcp(Segment(40004, 443, 1, 0, SYN), SOMEBODY, HOST)
    tape.add(asked, icmp_error(asked, UNREACHABLE, PORT_UNREACHABLE, ROUTER))
    for _ in range(3):
        tape.add(udp(5, 500, b"synthetic", SOMEBODY, HOST), tcp(Segment(40006, 8443, 1, 0, SYN), SOMEBODY, HOST))
    tape.add(tcp(Segment(40007, 993, 1, 0, SYN), SOMEBODY, HOST))
    refuses_many(tape)
    tape.ping(answered=True)
    seen = ports(scan := tape.judged())
    told = {key: (port.state, port.reason, port.by, port.tries) for key, port in seen.items()}
    assert told["tcp/22"] == (PortState.CLOSED, "rst", HOST, 1)
    assert told["udp/123"] == (PortState.CLOSED, "icmp-port-unreachable", HOST, 1)
    assert told["udp/161"] == (PortState.FILTERED, "icmp-admin-prohibited", ROUTER, 1)
    assert told["tcp/443"] == (PortState.FILTERED, "icmp-port-unreachable", ROUTER, 1)
    assert told["udp/500"] == (PortState.OPEN_FILTERED, "no-response", None, 3)
    assert told["tcp/8443"] == (PortState.FILTERED, "no-response", None, 3)
    assert told["tcp/993"] == (PortState.UNMEASURED, "too-few-tries", None, 1)
    assert scan.hosts[0].echo is Echo.REPLIED
    assert scan.hosts[0].alive.by == "it answered ping"


def test_a_silence_after_the_last_sign_of_life_settles_nothing(tape: Tape) -> None:
    refuses_many(tape)
    for _ in range(4):
        tape.add(tcp(Segment(40006, 8080, 1, 0, SYN), SOMEBODY, HOST))
    assert (ports(tape.judged())["tcp/8080"].reason, ports(tape.judged())["tcp/8080"].tries) == ("too-few-tries", 0)
    tape.ping(answered=True, number=2)
    assert (ports(tape.judged())["tcp/8080"].state, ports(tape.judged())["tcp/8080"].tries) == (PortState.FILTERED, 4)


def test_many_questions_that_were_all_answered_are_no_loss(tape: Tape) -> None:
    for number in range(9):
        tape.ping(answered=True, number=number)
    tape.datagrams(5060, *(REGISTER, b"<" + REFUSED) * 9)
    path = tape.judged().hosts[0].path
    assert (path.loss, path.samples) == (0.0, 2)


def test_a_ping_that_was_lost_once_is_not_silence(tape: Tape) -> None:
    tape.ping(answered=False)
    assert tape.judged().hosts[0].echo is Echo.UNMEASURED
    tape.ping(answered=False, number=2)
    tape.ping(answered=False, number=3)
    assert tape.judged().hosts[0].echo is Echo.SILENT


def test_packets_that_were_to_expire_on_the_way_ask_nothing_of_the_host(tape: Tape) -> None:
    for hop in range(3):
        asked = udp(40000, 33434 + hop, b"synthetic", SOMEBODY, HOST)
        tape.add(asked, icmp_error(asked, TIME_EXCEEDED, 0, ROUTER))
    tape.datagrams(33440, b"synthetic")
    assert ports(tape.judged()).keys() == {*default_ports()}


def test_a_capture_that_begins_in_the_middle_shows_a_server_only_by_its_words(tape: Tape) -> None:
    tape.said(25, b"EHLO x\r\n", b"<250 mail\r\n")
    tape.said(143, b"<* OK IMAP4rev1 ready\r\n", near=40001)
    tape.said(5060, REGISTER, b"<" + REFUSED, near=40002)
    seen = ports(tape.judged())
    assert (seen["tcp/143"].state, seen["tcp/143"].service) == (PortState.OPEN, "imap")
    assert "begins in the middle" in seen["tcp/143"].notes[-1]
    assert seen["tcp/25"].state is PortState.UNMEASURED  # "250 mail" may be anything
    assert seen["tcp/5060"].state is PortState.UNMEASURED  # in SIP both sides answer


def test_the_most_telling_of_many_conversations_is_kept_with_their_number(tape: Tape) -> None:
    for number in range(20):
        tape.stream(
            25, b"<" + GREETING, *((b"EHLO x\r\n", b"<250 mail\r\n") if number == 17 else ()), near=41000 + number
        )
    seen = tape.judged()
    port = ports(seen)["tcp/25"]
    assert (len(port.evidence), port.said["smtp.ehlo"]) == (8, "250 mail")
    assert port.notes == ("The capture holds 20 conversations with this port; the 8 most telling are kept.",)
    saved = load_scan(seen.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []


def test_a_view_from_inside_only_is_none_from_outside(tape: Tape) -> None:
    tape.stream(8080, b"GET / HTTP/1.1\r\n\r\n", b"<HTTP/1.1 200 OK\r\n\r\n", of="192.168.1.9")
    assert not tape.judged().vantage.outside
    tape.stream(25, b"<" + GREETING)  # and somebody from outside: now what the inside sees is left out
    both = replayed(tape.written(), [HOST])
    seen = both.result.scan
    assert seen.vantage.outside
    assert both.notes == ("Partners at private addresses are left out: what they see is no view from outside.",)
    assert (ports(seen)["tcp/8080"].state, ports(seen)["tcp/25"].state) == (PortState.UNMEASURED, PortState.OPEN)


def test_a_wide_scan_by_others_is_told_together(tape: Tape) -> None:
    for port in range(1, 65536):
        tape.add(tcp(Segment(50000, port, 1, 0, SYN), SOMEBODY, HOST))
        flags = SYN | ACK if port == 2525 else RST | ACK
        tape.add(tcp(Segment(port, 50000, 9, 2, flags), HOST, SOMEBODY))
    seen = tape.judged()
    host = seen.hosts[0]
    assert ports(seen)["tcp/2525"].state is PortState.OPEN
    planned = sum(key.startswith("tcp/") for key in default_ports())
    assert [(group.state, group.reason, group.number) for group in host.swept] == [
        (PortState.CLOSED, "rst", 65535 - planned - 1)
    ]
    saved = load_scan(seen.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []


def test_the_evidence_agrees_with_the_file_though_secrets_are_left_out(tape: Tape) -> None:
    tape.stream(
        143, b"<* OK ready\r\n", b"1 LOGIN owner hunter2\r\n", b"<1 OK\r\n", b"2 SELECT INBOX\r\n", b"<2 OK\r\n"
    )
    tape.datagrams(5060, REGISTER.replace(b"CSeq", b'Authorization: Digest response="5ec"\r\nCSeq'), b"<" + REFUSED)
    tape.ping(answered=True)
    tape.ping(answered=True, of="198.51.100.249")  # carries the same
    seen = replayed(tape.written(), [HOST]).result
    saved = load_scan(seen.scan.to_json())
    assert not [proof for proof in saved.evidence if "hunter2" in proof.sent or "5ec" in proof.sent]
    assert (ports(saved)["tcp/143"].service, ports(saved)["udp/5060"].service) == ("imap", "sip")
    assert disagreements(saved, seen.capture, "bundle") == []
    tape.records[-4] = tape.records[-4][:-1] + b"!"  # a byte of the SIP answer is changed
    assert len(disagreements(saved, tape.written().read_bytes(), "bundle")) > 0
