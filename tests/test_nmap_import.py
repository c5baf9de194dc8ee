"""What Nmap wrote down, judged as a scan of our own: truly, or refused with a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nmap_files import (
    ADDRESS,
    HEAD,
    PLANNED_TCP,
    PLANNED_UDP,
    REAL,
    START,
    WHOLE,
    all_refused,
    document,
    host,
    port,
    read,
    rest,
    scaninfo,
    script,
    service,
)

from exposure_scan import nmap
from exposure_scan.conversation import Caller
from exposure_scan.model import DeviceClass, Echo, Host, Port, PortState, Problem, Scan, Status, Verdict
from exposure_scan.report import load_scan
from exposure_scan.sweep import derive

CALLER = Caller("exposure-scan/0", "nobody")
ROUTER = "198.51.100.1"


def only(scan: Scan) -> Host:
    (found,) = scan.hosts
    return found


def port_of(data: bytes, key: str) -> Port:
    return next(one for one in only(read(data).scan).ports if one.key == key)


def status(scan: Scan, practice: str) -> Status:
    return next(finding.status for finding in scan.findings if finding.practice == practice)


# --- what a whole file gives ----------------------------------------------------------------------


def test_a_real_file_with_version_detection_gives_the_verdict_with_what_was_said() -> None:
    scan = read((REAL / "exposed-server.xml").read_bytes()).scan
    assert scan.verdict is Verdict.NO_GO
    assert only(scan).device.class_ is DeviceClass.SERVER
    services = {one.key: one.service for one in only(scan).ports if one.state is PortState.OPEN}
    assert services == {
        "udp/5060": "sip",
        "tcp/5060": "sip",
        "tcp/8080": "http",
        "tcp/25": "smtp",
        "tcp/143": "imap",
        "tcp/80": "http",
        "tcp/110": "pop3",
    }
    said = {field: text for one in only(scan).ports for field, text in one.said.items()}
    assert said["smtp.greeting"] == "220 pbx.exposed-server.invalid InSciTek OIS Ready here ESMTP"
    greeting = "+OK POP3 Server pbx.exposed-server.invalid (InSciTek OIS) ready <1.1@pbx.exposed-server.invalid>"
    assert said["pop3.greeting"] == greeting  # Nmap's script breaks the line for a terminal
    assert said["imap.greeting"] == "* OK IMAP4rev1 ready"
    assert said["http.server"] == "IST OIS"
    assert next(one for one in only(scan).ports if one.key == "tcp/80").said["http.title"] == "Allworx Hosted Web Site"
    assert "http.title" not in next(one for one in only(scan).ports if one.key == "tcp/8080").said
    assert next(one for one in only(scan).ports if one.key == "udp/5060").banner == "SIP/2.0 200 OK"
    assert status(scan, "sip.not-reachable") is Status.NOT_MET
    assert scan.origin is not None
    assert (scan.origin.kind, scan.origin.by[:10]) == ("nmap", "Nmap 7.93:")
    assert (scan.capture, scan.vantage.checked) == ("none", False)
    assert "nothing was sent" in scan.authorization.by
    assert int(scan.started.timestamp()) == START


def test_a_certificate_in_the_file_is_read_as_one_from_the_wire() -> None:
    scan = read((REAL / "moved-voicemail.xml").read_bytes()).scan
    tls = next(one.tls for one in only(scan).ports if one.key == "tcp/5061")
    assert tls is not None
    assert (tls.subject, tls.self_signed) == ("CN=pbx.moved-voicemail.invalid", True)
    assert tls.sha256
    # It is open and nobody said a word that Nmap knew: what Nmap only looked up by number is no service.
    assert next(one.service for one in only(scan).ports if one.key == "tcp/5061") is None


@pytest.mark.parametrize("name", ["exposed-server.xml", "moved-voicemail.xml", "whole"])
def test_the_same_findings_come_out_of_the_kept_evidence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = WHOLE if name == "whole" else (REAL / name).read_bytes()
    scan = read(data).scan
    assert load_scan(scan.to_json()) == scan
    assert derive.differences(scan, derive.rederive(scan, CALLER)) == []
    index = next(i for i, proof in enumerate(scan.evidence) if 'state="open"' in proof.received)
    proofs = list(scan.evidence)
    proofs[index] = proofs[index].model_copy(update={"received": proofs[index].received.replace("open", "closed", 1)})
    forged = scan.model_copy(update={"evidence": tuple(proofs)})
    assert derive.differences(forged, derive.rederive(forged, CALLER))
    proofs[index] = proofs[index].model_copy(update={"received": "no record"})
    with pytest.raises(ValueError, match=r"no line of a record"):
        derive.rederive(scan.model_copy(update={"evidence": tuple(proofs)}), CALLER)


def test_refusals_of_the_host_itself_can_carry_a_go_and_silence_cannot() -> None:
    assert read(document(all_refused())).scan.verdict is Verdict.GO
    silent = all_refused().replace("5060-5061", "5061").replace("143,", "")
    quiet = silent.replace("\n</ports>", port("tcp/143", "filtered", "no-response") + "</ports>")
    told = read(document(quiet))
    assert "Not measured are 1 that were silent" in told.notes[-1]
    scan = told.scan
    assert scan.verdict is Verdict.INCONCLUSIVE
    found = {one.key: (one.state, one.reason) for one in only(scan).ports}
    assert found["tcp/143"] == (PortState.UNMEASURED, "too-few-tries")
    assert found["udp/5060"] == (PortState.UNMEASURED, "not-in-the-file")


def test_what_the_file_does_not_tell_is_not_measured_and_ping_neither() -> None:
    found = only(read(document(host([port("tcp/25", "closed", "reset")]))).scan)
    told = {one.key: one.state for one in found.ports}
    assert told.pop("tcp/25") is PortState.CLOSED
    assert set(told.values()) == {PortState.UNMEASURED}
    assert found.echo is Echo.UNMEASURED
    assert only(read(document(all_refused())).scan).echo is Echo.REPLIED


@pytest.mark.parametrize("reason", ["user-set", "arp-response", "localhost-response", "no-response"])
def test_that_nmap_was_told_to_believe_in_a_host_proves_nothing(reason: str) -> None:
    silent = host([port("tcp/25", "filtered", "no-response")], reason=reason)
    scan = read(document(silent)).scan
    assert not only(scan).alive.proven
    assert scan.verdict is Verdict.INCONCLUSIVE


def test_a_service_looked_up_by_its_number_is_no_service() -> None:
    found = port_of(document(host([port("tcp/25", "open", "syn-ack", service("smtp", "table"))])), "tcp/25")
    assert (found.state, found.service, found.banner) == (PortState.OPEN, None, None)


def test_sip_counts_only_where_nmap_had_a_sip_reply() -> None:
    valid = service("sip", extrainfo="SIP end point; Status: 200 OK")
    scan = read(document(host([port("udp/5060", "open", "udp-response", valid)]))).scan
    assert status(scan, "sip.not-reachable") is Status.NOT_MET
    for other in (service("sip", "table"), service("sip", product="Kamailio sipd"), ""):
        scan = read(document(host([port("udp/5060", "open", "udp-response", other)]))).scan
        assert status(scan, "sip.not-reachable") is Status.CANNOT_TELL, other


def test_a_raw_sip_reply_gives_the_words_of_the_device() -> None:
    fingerprint = (
        r'SF-Port5060-UDP:V=7.93%I=7%r(SIPOptions,3A,"SIP/2\.0\x20200\x20OK\r\nServer:\x20Synthetic'
        r'\x20phone\r\nUser-Agent:\x20S\r\n\r\n");'
    )
    inside = service("sip", servicefp=fingerprint)
    found = port_of(document(host([port("udp/5060", "open", "udp-response", inside)])), "udp/5060")
    assert found.banner == "SIP/2.0 200 OK, Server: Synthetic phone"
    assert found.said == {"sip.server": "Synthetic phone", "sip.user-agent": "S"}


def test_half_a_greeting_is_no_fingerprint_field_and_nmap_s_product_neither() -> None:
    inside = service("smtp", product="Synthetic smtpd", version="1") + script("banner", "220 pbx.invalid E...")
    found = port_of(document(host([port("tcp/25", "open", "syn-ack", inside)])), "tcp/25")
    assert (found.said, found.banner) == ({}, "Nmap calls it: Synthetic smtpd 1")
    assert found.product is None


def test_a_wrapped_port_has_said_nothing() -> None:
    found = port_of(document(host([port("tcp/25", "open", "syn-ack", service("tcpwrapped"))])), "tcp/25")
    assert (found.service, found.banner) == (None, None)
    assert "tcpwrapped" in found.notes[0]


REASONS = [
    ("tcp/25", "closed", "reset", "", PortState.CLOSED, "rst", ADDRESS),
    ("tcp/25", "closed", "conn-refused", "", PortState.CLOSED, "rst", ADDRESS),
    ("tcp/25", "open", "conn-accept", "", PortState.OPEN, "syn-ack", ADDRESS),
    ("udp/53", "closed", "port-unreach", "", PortState.CLOSED, "icmp-port-unreachable", ADDRESS),
    ("udp/53", "closed", "port-unreach", ROUTER, PortState.FILTERED, "icmp-port-unreachable", ROUTER),
    ("tcp/25", "filtered", "port-unreach", "", PortState.FILTERED, "icmp-port-unreachable", ADDRESS),
    ("tcp/25", "filtered", "admin-prohibited", ROUTER, PortState.FILTERED, "icmp-admin-prohibited", ROUTER),
    ("tcp/25", "filtered", "host-prohibited", ROUTER, PortState.FILTERED, "icmp-host-prohibited", ROUTER),
    ("tcp/25", "filtered", "net-prohibited", ROUTER, PortState.FILTERED, "icmp-net-prohibited", ROUTER),
    ("tcp/25", "filtered", "host-unreach", ROUTER, PortState.FILTERED, "icmp-host-unreachable", ROUTER),
    ("tcp/25", "filtered", "net-unreach", ROUTER, PortState.FILTERED, "icmp-net-unreachable", ROUTER),
    ("tcp/25", "filtered", "time-exceeded", ROUTER, PortState.FILTERED, "icmp-time-exceeded", ROUTER),
    ("udp/53", "open", "udp-response", "", PortState.OPEN, "udp-reply", ADDRESS),
    # Nobody saw these: other kinds of scan conclude them, or this machine's system forbade the question.
    ("tcp/25", "unfiltered", "reset", "", PortState.UNMEASURED, "nmap-unfiltered-reset", None),
    ("tcp/25", "open", "reset", "", PortState.UNMEASURED, "nmap-open-reset", None),
    ("tcp/25", "open", "ipid-change", "", PortState.UNMEASURED, "nmap-open-ipid-change", None),
    ("tcp/25", "filtered", "no-route", "", PortState.UNMEASURED, "nmap-filtered-no-route", None),
    ("tcp/25", "closed|filtered", "no-response", "", PortState.UNMEASURED, "too-few-tries", None),
    ("tcp/25", "open|filtered", "no-response", "", PortState.UNMEASURED, "too-few-tries", None),
]


@pytest.mark.parametrize(("key", "theirs", "reason", "ip", "state", "ours", "by"), REASONS)
def test_nmap_s_reasons_become_ours_and_a_router_s_word_is_a_router_s(
    key: str, theirs: str, reason: str, ip: str, state: PortState, ours: str, by: str | None
) -> None:
    more = {"reason_ip": ip} if ip else {}
    found = port_of(document(host([port(key, theirs, reason, **more)])), key)
    assert (found.state, found.reason, found.by) == (state, ours, by)


def test_a_syn_ack_with_another_time_to_live_is_told() -> None:
    ports = [port(f"tcp/{number}", "open", "syn-ack", reason_ttl=60) for number in (25, 80, 110)]
    found = port_of(document(host([*ports, port("tcp/8080", "open", "syn-ack", reason_ttl=251)])), "tcp/8080")
    assert any("TTL 251" in note for note in found.notes)


# --- ports that are not listed --------------------------------------------------------------------


def states(data: bytes) -> dict[str, PortState]:
    return {one.key: one.state for one in only(read(data).scan).ports}


def test_counted_ports_are_found_by_what_nmap_was_told_to_scan() -> None:
    """Older versions of Nmap count the rest without naming it."""
    extra = '<extraports state="closed" count="3"><extrareasons reason="resets" count="3"/></extraports>'
    extra = extra.replace("resets", "reset")
    listed = port("tcp/25", "open", "syn-ack")
    found = states(document(host([extra, listed]), info=scaninfo("22-23,25,80")))
    assert [found[f"tcp/{number}"] for number in (22, 23, 80)] == [PortState.CLOSED] * 3
    told = read(document(host([extra.replace("3", "2"), listed]), info=scaninfo("22-23,25,80")))
    found = {one.key: one.state for one in only(told.scan).ports}
    assert [found[f"tcp/{number}"] for number in (22, 23, 80)] == [PortState.UNMEASURED] * 3
    assert any("only counted" in note for note in told.notes)


def test_two_records_of_one_address_are_one_and_the_stronger_word_wins() -> None:
    silent = host([port("tcp/25", "filtered", "no-response"), port("tcp/80", "closed", "reset")])
    speaking = host([port("tcp/25", "open", "syn-ack"), rest("filtered", ("tcp", "no-response", "80"))])
    for both in ((silent, speaking), (speaking, silent)):
        found = states(document(*both))
        assert (found["tcp/25"], found["tcp/80"]) == (PortState.OPEN, PortState.CLOSED)


def test_ports_beside_the_plan_count_where_they_are_open_and_a_part_is_no_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = rest("closed", ("tcp", "reset", "1-2524,2526-65534"))
    opened = port("tcp/2525", "open", "syn-ack", service("smtp") + script("banner", "220 a ESMTP"))
    scan = read(document(host([closed, opened]))).scan
    assert {one.key: one.service for one in only(scan).ports if one.state is PortState.OPEN} == {"tcp/2525": "smtp"}
    assert only(scan).sweep is None
    whole = read(document(host([closed.replace("65534", "65535"), opened]))).scan
    assert only(whole).sweep is not None
    assert sum(group.number for group in only(whole).swept) > 65_000
    assert derive.differences(whole, derive.rederive(whole, CALLER)) == []


# --- which site -----------------------------------------------------------------------------------


def test_of_several_addresses_one_has_to_be_chosen() -> None:
    data = document(all_refused(), all_refused("198.51.100.11"))
    with pytest.raises(Problem, match=r"2 addresses \(198.51.100.10, 198.51.100.11\): one site at a time"):
        read(data)
    assert only(read(data, "198.51.100.11").scan).address == "198.51.100.11"
    assert len(read(data, ADDRESS, "198.51.100.11").scan.hosts) == 2


def test_an_address_that_is_not_in_the_file_is_inconclusive_and_is_told() -> None:
    told = read(document(all_refused()), "198.51.100.12")
    assert told.scan.verdict is Verdict.INCONCLUSIVE
    assert "tells nothing of 198.51.100.12" in told.notes[0]


def test_a_private_address_is_no_outside_view() -> None:
    scan = read(document(all_refused("10.0.0.5"))).scan
    assert scan.verdict is Verdict.INCONCLUSIVE
    assert not scan.vantage.outside


def test_what_the_operator_says_counts_as_in_a_scan() -> None:
    inside = service("sip", extrainfo="SIP end point; Status: 200 OK")
    data = document(host([port("udp/5060", "open", "udp-response", inside)]))
    assert status(read(data, expect="udp/5060", device="server").scan, "sip.not-reachable") is not Status.NOT_MET
    with pytest.raises(Problem, match="--expect"):
        read(data, expect="nonsense")


# --- files that are none --------------------------------------------------------------------------


def refused(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        nmap.read_nmap(BytesIO(data), "file.xml")
    assert len(caught.value.sentences) == 1
    return caught.value.sentences[0]


def test_a_file_that_is_cut_anywhere_is_refused_as_such() -> None:
    whole = (REAL / "exposed-server.xml").read_bytes().rstrip()
    for at in range(50, len(whole), 50):
        assert "the file ends in the middle: Nmap was stopped before it was done" in refused(whole[:at]), at
    assert "is empty" in refused(b"")


BOMBS = {
    "billion laughs": '<!DOCTYPE nmaprun [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
    "quadratic blowup": f'<!DOCTYPE nmaprun [<!ENTITY a "{"a" * 50_000}">]>',
    "external entity": '<!DOCTYPE nmaprun [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    "parameter entity": '<!DOCTYPE nmaprun [<!ENTITY % a SYSTEM "http://198.51.100.9/x.dtd"> %a;]>',
}


@pytest.mark.parametrize("name", BOMBS)
def test_entities_are_never_expanded_nor_fetched(name: str) -> None:
    head = f'<?xml version="1.0"?>\n{BOMBS[name]}\n'
    assert "declares entities" in refused(document(host([port("tcp/25", "open", "&b;")]), head=head))


def test_files_of_others_are_refused_by_name() -> None:
    assert "it begins with 'html'" in refused(b"<html><body>no</body></html>")
    assert "'masscan' wrote it" in refused(document(host(), scanner="masscan"))
    assert "no XML of Nmap" in refused(b"# Nmap 7.93 scan initiated\nHost: 198.51.100.10 () Status: Up\n")
    assert "no XML of Nmap" in refused(b'<?xml version="1.0" encoding="klingon"?><nmaprun/>')


def test_files_without_measure_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [host(address=f"198.18.{number // 256}.{number % 256}") for number in range(257)]
    assert "one site at a time; give --address" in refused(document(*hosts))
    found = nmap.read_nmap(BytesIO(document(*hosts)), "file.xml", ["198.18.1.0"])
    assert list(found.hosts) == ["198.18.1.0"]
    deep = HEAD + '<nmaprun scanner="nmap" start="1">' + "<table>" * 200_000
    assert "nested deeper" in refused(deep.encode())
    endless = HEAD.encode() + b'<nmaprun scanner="nmap" start="1"><x y="' + b">" * (9 * 1024 * 1024)
    assert "no XML of Nmap" in refused(endless)
    backwards = document(host([rest("closed", ("tcp", "reset", "1-5")).replace('"1-5"', '"5-1"')]))
    assert "is damaged" in refused(backwards)
    monkeypatch.setattr(nmap.xml, "LIMIT", 1000)
    assert "is larger than" in refused(WHOLE)


def test_a_run_that_ended_with_an_error_is_told() -> None:
    told = read(document(all_refused(), end='exit="error" errormsg="synthetic"'))
    assert any("ended with an error (synthetic)" in note for note in told.notes)
    unfinished = document(all_refused()).replace(b"<runstats>", b"<other>").replace(b"</runstats>", b"</other>")
    assert "Nmap was stopped" in refused(unfinished)


HOSTILE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@given(st.sampled_from(["open", "closed", "filtered"]), HOSTILE, HOSTILE, HOSTILE)
def test_the_record_keeps_every_word_and_says_the_same_twice(state: str, reason: str, name: str, output: str) -> None:
    told = nmap.NmapService(name, "probed", 10, product=output, servicefp=reason)
    found = nmap.NmapPort("tcp", 25, state, reason, service=told, scripts=(("banner", output),), title=name)
    text = nmap.record(found)
    rows = dict(nmap.said.read_record(text))
    assert rows["state"].get("reason", "") == reason
    assert rows["service"].get("product", "") == output
    assert rows["script"].get("output", "") == output
    assert nmap.seen("tcp", ADDRESS, text) == nmap.seen("tcp", ADDRESS, nmap.record(found))


# --- the command, and the real Nmap ---------------------------------------------------------------


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exposure_scan", "import-nmap", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_verdict_and_ends_by_it(tmp_path: Path) -> None:
    said = command(REAL / "exposed-server.xml", "--json", tmp_path / "scan.json", "--html", tmp_path / "report.html")
    assert said.returncode == 1, said.stderr
    assert "NO-GO" in said.stdout
    assert json.loads((tmp_path / "scan.json").read_text())["verdict"] == "no-go"
    assert "Nmap" in (tmp_path / "report.html").read_text()
    said = command(tmp_path / "nothing.xml")
    assert (said.returncode, said.stdout) == (2, "")
    assert "cannot be read" in said.stderr
    (tmp_path / "cut.xml").write_bytes(WHOLE[:700])
    said = command(tmp_path / "cut.xml")
    assert said.returncode == 2
    assert "Nmap was stopped" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
def test_what_the_real_nmap_writes_of_the_practice_site_is_read(practice_site: None, tmp_path: Path) -> None:
    file = tmp_path / "lab.xml"
    ports = f"T:{PLANNED_TCP},U:{PLANNED_UDP}"
    subprocess.run(
        ["nmap", "-n", "-sS", "-sU", "-p", ports, "-oX", file, ADDRESS, "198.51.100.50"],
        check=True,
        capture_output=True,
    )
    scan = read(file.read_bytes(), ADDRESS).scan
    found = {one.key: one.state for one in only(scan).ports}
    assert found["tcp/8080"] is PortState.OPEN
    assert found["tcp/443"] is PortState.CLOSED
    assert PortState.UNMEASURED not in {state for key, state in found.items() if key != "udp/5060"}
    assert scan.verdict is Verdict.NO_GO
