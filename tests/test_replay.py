"""Captures that others made, judged as our own scans are; nothing is sent."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_overheard import GREETING, REFUSED, REGISTER
from typer.testing import CliRunner

from exposure_scan import lab, scope, sweep
from exposure_scan.cli.others import replay_command
from exposure_scan.lab.packets import (
    ACK,
    ADMIN_PROHIBITED,
    FIN,
    ICMP,
    PORT_UNREACHABLE,
    RST,
    SYN,
    TIME_EXCEEDED,
    UNREACHABLE,
    Packet,
    Segment,
    icmp_error,
    tcp,
    udp,
    write,
)
from exposure_scan.model import DeviceClass, Echo, Port, PortState, Problem, Scan, Status, Verdict
from exposure_scan.plan import default_ports
from exposure_scan.report import load_scan
from exposure_scan.sweep.held import disagreements
from exposure_scan.sweep.replayed import Replayed, replayed

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
SITES = ("exposed-server", "remote-handset", "px-expander", "silent-site", "moved-voicemail")
HOST, SOMEBODY = "198.51.100.10", "198.51.100.250"
ROUTER = "198.51.100.1"


def ports(scan: Scan) -> dict[str, Port]:
    return {port.key: port for port in scan.hosts[0].ports}


def statuses(scan: Scan) -> dict[str, Status]:
    return {finding.practice: finding.status for finding in scan.findings}


# --- captures that are made here ------------------------------------------------------------------


@dataclass
class Tape:
    """Packets as they pass, a hundredth of a second between two."""

    path: Path
    records: list[bytes] = field(default_factory=list)
    now: float = 1_790_000_000.0

    def add(self, *packets: bytes) -> None:
        for packet in packets:
            self.now += 0.01
            stamp = divmod(round(self.now * 1e6), 10**6)
            self.records.append(struct.pack("<IIII", *stamp, len(packet), len(packet)) + packet)

    def stream(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        """A connection of `of` to `to`: what begins with < comes from the host."""
        self.add(tcp(Segment(near, port, 100, 0, SYN), of, to), tcp(Segment(port, near, 500, 101, SYN | ACK), to, of))
        self.said(port, *said, near=near, of=of, to=to)

    def said(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        ours, theirs = 101, 501
        for words in said:
            if words.startswith(b"<"):
                self.add(tcp(Segment(port, near, theirs, ours, ACK, 9, words[1:]), to, of))
                theirs += len(words) - 1
            else:
                self.add(tcp(Segment(near, port, ours, theirs, ACK, 9, words), of, to))
                ours += len(words)
        self.add(tcp(Segment(near, port, ours, theirs, FIN | ACK), of, to))

    def datagrams(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        for words in said:
            back = words.startswith(b"<")
            self.add(udp(port, near, words[1:], to, of) if back else udp(near, port, words, of, to))

    def ping(self, answered: bool, of: str = SOMEBODY, number: int = 1) -> None:
        for kind, ends in ((8, (of, HOST)), (0, (HOST, of)))[: 1 + answered]:
            self.add(write(Packet(*ends, ICMP, struct.pack("!BBHHH", kind, 0, 0, 7, number) + b"synthetic")))

    def written(self) -> Path:
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
        self.path.write_bytes(head + b"".join(self.records))
        return self.path

    def judged(self, **words: str) -> Scan:
        return replayed(self.written(), [HOST], **words).result.scan  # type: ignore[arg-type]


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(tmp_path / "others.pcap")


# --- our own scans, heard on the wire -------------------------------------------------------------


def heard(scan: Scan, file: Path) -> Replayed:
    site = scan.site
    words: scope.Words = {
        "device": site.device.removeprefix("allworx-") if site.device else None,
        "voicemail_ports": ",".join(f"{name}={port}" for name, port in site.voicemail.items()) or None,
    }
    return replayed(file, [host.address for host in scan.hosts], **words)


# What the wire alone does not show. Everything else comes out as in the scan itself.
ENCIPHERED = {"moved-voicemail": {"tcp/5061": "SIP inside TLS 1.3", "tcp/1143": "the certificate after STARTTLS"}}
RESTS_ON_IT = {"moved-voicemail": {"sip.not-reachable": (Status.NOT_MET, Status.CANNOT_TELL)}}  # tcp/5061


@pytest.mark.parametrize("site", SITES)
def test_a_capture_of_our_scan_gives_what_the_scan_gave(site: str) -> None:
    scan = load_scan((LAB / f"{site}.json").read_text())
    seen = heard(scan, LAB / f"{site}.pcap").result.scan
    assert seen.hosts[0].device.class_ == scan.hosts[0].device.class_
    assert (seen.hosts[0].echo, seen.hosts[0].alive.proven) == (scan.hosts[0].echo, scan.hosts[0].alive.proven)
    for key, ours in ports(scan).items():
        theirs = ports(seen)[key]
        assert (theirs.state, theirs.reason, theirs.by, theirs.tries) == (ours.state, ours.reason, ours.by, ours.tries)
        if key not in ENCIPHERED.get(site, {}):
            assert (theirs.service, theirs.banner, theirs.said) == (ours.service, ours.banner, ours.said), key
    assert ports(seen).keys() == ports(scan).keys()
    differing = {
        practice: (status, statuses(seen)[practice])
        for practice, status in statuses(scan).items()
        if statuses(seen)[practice] != status and status is not Status.DECLARED  # a capture declares nothing
    }
    assert differing == RESTS_ON_IT.get(site, {})


def test_of_enciphered_words_the_session_shows(tmp_path: Path) -> None:
    scan = load_scan((LAB / "moved-voicemail.json").read_text())
    ours, theirs = ports(scan), ports(heard(scan, LAB / "moved-voicemail.pcap").result.scan)
    for key in ENCIPHERED["moved-voicemail"]:
        tls = theirs[key].tls
        own = ours[key].tls
        assert tls is not None
        assert own is not None
        assert (tls.version, tls.cipher, tls.sha256) == (own.version, own.cipher, None)
    assert theirs["tcp/5061"].service is None
    assert theirs["tcp/1143"].service == "imap"


@pytest.mark.parametrize("site", SITES)
def test_what_was_replayed_verifies_from_its_own_evidence(site: str) -> None:
    seen = heard(load_scan((LAB / f"{site}.json").read_text()), LAB / f"{site}.pcap").result
    saved = load_scan(seen.scan.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []
    assert disagreements(saved, seen.capture, "bundle") == []
    assert saved.origin is not None
    assert (saved.origin.kind, saved.origin.name) == ("capture", f"{site}.pcap")


@contextmanager
def tcpdump(file: Path) -> Iterator[None]:
    """A capture of all interfaces, begun before the block and ended after its last packet."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    command = ["tcpdump", "-i", "any", "-n", "-U", "-Z", "root", "-w", "-", "net 198.51.100.0/24"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if b"listening on" in line:
                break
        else:
            pytest.skip("tcpdump may not capture here")
        said: list[bytes] = []
        all_there = threading.Event()

        def read(stream: int) -> None:
            while data := os.read(stream, 65536):
                said.append(data)
                if b"the last packet" in said[-1] or b"the last packet" in b"".join(said[-2:]):
                    all_there.set()

        reader = threading.Thread(target=read, args=(process.stdout.fileno(),))
        reader.start()
        try:
            yield
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
                marker.sendto(b"the last packet", ("198.51.100.250", 9))
            assert all_there.wait(5)
        finally:
            process.terminate()
            reader.join(5)
            process.wait(5)
        file.write_bytes(b"".join(said))


def test_tcpdump_beside_a_live_scan_gives_the_same_findings(practice_site: None, tmp_path: Path) -> None:
    orders = scope.read_sites_file(lab.sites_file()).orders
    wanted = [order for order in orders if order.site.name in ("exposed-server", "moved-voicemail")]

    async def scan() -> list[Scan]:
        return [result.scan async for _, result in sweep.scan_sites(wanted) if isinstance(result, sweep.Result)]

    with tcpdump(tmp_path / "live.pcap"):
        scans = asyncio.run(scan())
    assert len(scans) == 2
    for ours in scans:
        seen = heard(ours, tmp_path / "live.pcap")
        assert seen.result.capture is None  # of another form than the evidence's reader takes as it is
        theirs = seen.result.scan
        assert theirs.capture == "none"
        assert theirs.hosts[0].device.class_ == ours.hosts[0].device.class_
        assert {key: (port.state, port.reason) for key, port in ports(theirs).items()} == {
            key: (port.state, port.reason) for key, port in ports(ours).items()
        }
        for practice, status in statuses(ours).items():
            expected = RESTS_ON_IT.get(ours.site.name, {}).get(practice, (status, status))
            assert statuses(theirs)[practice] == expected[1] or status is Status.DECLARED, practice


def test_nmap_and_a_browser_show_what_they_asked_and_no_more(practice_site: None, tmp_path: Path) -> None:
    for tool in ("nmap", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    nmap = ["nmap", "-n", "-Pn", "-sS", "-p", "21-25,80,8080", "--max-retries", "1", "198.51.100.10"]
    with tcpdump(tmp_path / "nmap.pcap"):
        subprocess.run(nmap, check=True, capture_output=True, timeout=30)
        subprocess.run(["curl", "-s", "http://198.51.100.10/"], check=True, capture_output=True, timeout=10)
    seen = replayed(tmp_path / "nmap.pcap", [HOST]).result.scan
    states = {key: port.state for key, port in ports(seen).items() if port.reason != "not-in-the-capture"}
    assert states == {
        **{f"tcp/{port}": PortState.CLOSED for port in (21, 22, 23, 24)},
        **{f"tcp/{port}": PortState.OPEN for port in (25, 80, 8080)},
    }
    assert ports(seen)["tcp/25"].service is None  # nmap's SYN scan hears no greeting
    assert ports(seen)["tcp/80"].said["http.server"] == "IST OIS"
    assert seen.hosts[0].device.class_ is DeviceClass.SERVER
    assert statuses(seen)["sip.not-reachable"] is Status.CANNOT_TELL  # nobody asked


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


def test_a_file_that_ends_in_the_middle_is_read_up_to_there_and_told(tmp_path: Path) -> None:
    file = tmp_path / "cut.pcap"
    file.write_bytes((LAB / "exposed-server.pcap").read_bytes()[:5000])
    seen = replayed(file, [HOST])
    assert seen.notes == ("cut.pcap ends in the middle of a packet; what came after it is not known.",)
    assert seen.result.scan.verdict is Verdict.NO_GO


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


# --- the command ----------------------------------------------------------------------------------


def command(*words: str) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command()(replay_command)
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output, done.exception


def test_the_command_judges_and_writes_what_a_scan_writes(tmp_path: Path) -> None:
    file = str(LAB / "exposed-server.pcap")
    bundle, page = tmp_path / "evidence.zip", tmp_path / "report.html"
    code, text, _ = command(file, "--address", HOST, "--quiet", "--evidence", str(bundle), "--html", str(page))
    assert code == 1
    assert text.startswith("✗ NO-GO")
    assert bundle.stat().st_size > 1000
    assert "exposed-server.pcap" in page.read_text()
    code, document, _ = command(file, "--address", HOST, "--json", "-", "--device", "server")
    assert (code, load_scan(document).site.device) == (1, DeviceClass.SERVER)


@pytest.mark.parametrize(
    ("file", "address", "sentence"),
    [
        (LAB / "silent-site.pcap", HOST, f"{HOST} sends and receives nothing in silent-site.pcap; the addresses"),
        (LAB / "silent-site.json", HOST, "silent-site.json is no capture"),
        (LAB / "none.pcap", HOST, "none.pcap cannot be read (No such file or directory)"),
        (LAB, HOST, "lab cannot be read (Is a directory)"),
        (LAB / "silent-site.pcap", "pbx.example", "--address 'pbx.example' is no address"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(file: Path, address: str, sentence: str) -> None:
    with pytest.raises(Problem) as told:
        replayed(file, [address])
    assert told.value.sentences[0].startswith(sentence)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_capture_is_a_scan_or_a_problem(data: st.DataObject) -> None:
    whole = (LAB / "moved-voicemail.pcap").read_bytes()
    file = Path(os.environ["XDG_STATE_HOME"]) / "damaged.pcap"
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, 20000), st.integers(0, 255)), max_size=30)):
        if place < len(broken):
            broken[place] = byte
    file.write_bytes(broken)
    try:
        seen = replayed(file, ["198.51.100.50"]).result.scan
    except Problem:
        return
    saved = load_scan(seen.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []
