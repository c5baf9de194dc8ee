"""Scans of hosts that mean harm: each ends, is bounded, and the rest of the host is judged rightly.

Every trap stands at two addresses: one serves an exposed SIP service besides, which must be a NO-GO, and one
does not, which must never be a GO that nobody measured. All are scanned by the raw engine and by ordinary sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hostile_hosts import (
    FLOODS,
    PACKETS,
    STREAMS,
    Place,
    asking,
    elsewhere,
    findings,
    heard,
    nobody_came,
    places,
    ports,
    scan_all,
)

from exposure_scan import sweep
from exposure_scan.lab import hostile_certificates, traps
from exposure_scan.model import Echo, PortState, Scan, Status, Verdict
from exposure_scan.report import load_scan
from exposure_scan.sweep import Result

Results = dict[tuple[str, bool], Result]
Figure = Callable[[str, int], None]

SIP = "sip.not-reachable"
MOST_HEARD = 262_144  # bytes for one question: four connections or tries, and as much as each of them may bring
MOST_KEPT = 4 * 1024 * 1024  # bytes of a scan's JSON
MOST_CAPTURED = 16 * 1024 * 1024  # bytes: three floods of ten thousand datagrams, where the kernel lets us see them all

# What the hostile ports are found to be: open, with this service. Of those in braces either, as time decides.
WEB, MAIL, NONE = "http", "smtp", None
FOUND: dict[str, dict[str, str | frozenset[str | None] | None]] = {
    "endless": dict.fromkeys(("tcp/25", "tcp/143", "tcp/443", "tcp/8080"), NONE),
    "endless-lines": {"tcp/25": NONE, "tcp/110": "pop3", "tcp/5060": NONE, "tcp/8080": WEB},
    "endless-chunks": {"tcp/80": WEB, "tcp/8080": WEB},
    "continue-flood": {"tcp/80": WEB, "tcp/8080": WEB},
    "drip": {"tcp/25": frozenset({MAIL, NONE}), "tcp/443": NONE, "tcp/5060": NONE, "tcp/8080": frozenset({WEB, NONE})},
    "half-open": dict.fromkeys(("tcp/25", "tcp/443", "tcp/8080"), NONE),
    "never-read": dict.fromkeys(("tcp/25", "tcp/443", "tcp/8080"), NONE),
    "reset-at-once": dict.fromkeys(("tcp/25", "tcp/443", "tcp/8080"), NONE),
    "reset-after-greeting": {"tcp/25": MAIL, "tcp/110": "pop3", "tcp/143": "imap"},
    "reset-in-line": dict.fromkeys(("tcp/25", "tcp/5060", "tcp/8080"), NONE),
    "reset-inside-tls": dict.fromkeys(("tcp/443", "tcp/5061"), NONE),
    "reset-after-starttls": {"tcp/25": MAIL, "tcp/110": "pop3", "tcp/143": "imap"},
    "starttls-stuck": {"tcp/25": MAIL, "tcp/143": "imap"},
    "starttls-drips": {"tcp/25": MAIL, "tcp/110": "pop3"},
    "starttls-injected": {"tcp/25": MAIL, "tcp/110": "pop3", "tcp/143": "imap"},
    "long-line": {"tcp/25": NONE, "tcp/5060": NONE, "tcp/8080": WEB},
    "many-fields": {"tcp/5060": NONE, "tcp/8080": WEB},
    "no-utf8": {"tcp/25": MAIL, "tcp/143": "imap", "tcp/5060": "sip", "tcp/8080": WEB},
    "nuls": {"tcp/25": MAIL, "tcp/110": NONE, "tcp/5060": "sip", "tcp/8080": WEB},
    "bomb": {"tcp/80": WEB, "tcp/8080": WEB},
    "redirect": {"tcp/80": WEB, "tcp/443": WEB, "tcp/8080": WEB},
    "tickets": {"tcp/443": NONE},
    "calm": {},
    "sip-of-others": {"tcp/5060": NONE},
    "sip-huge-body": {"tcp/5060": "sip"},
    **{f"certificate-{kind}": {"tcp/443": WEB} for kind in hostile_certificates.KINDS},
    "certificate-too-many-names": {"tcp/443": NONE},  # more than OpenSSL takes: the handshake ends
}
# Traps in datagrams: state and service of udp/5060, and whether SIP was seen by it.
PHONES: dict[str, tuple[str, str | None]] = {
    "udp-flood": ("open", None),
    "sip-wrong-branch": ("open", "sip"),  # the Call-ID is ours, and nobody else knows it
    "sip-wrong-call-id": ("open", "sip"),
    "sip-wrong-both": ("open", None),
    "sip-trying": ("open", "sip"),
    "sip-large": ("open", "sip"),
    "sip-hundredfold": ("open", "sip"),
    "sip-another-port": ("unmeasured", None),
    "sip-another-address": ("unmeasured", None),
}
# Forgeries that must come to nothing: without SIP these hosts are truly closed, and GO is the truth.
NOTHING = frozenset(PACKETS) - PHONES.keys() - {"spy", "framed"}
# Nothing but a declared port 443, which no practice closes.
DECLARED = {"tickets", *(f"certificate-{kind}" for kind in hostile_certificates.KINDS)}
TRUTHFUL = NOTHING | DECLARED | {"calm", "framed"}


def holds_ports(place: Place, scan: Scan) -> None:
    """The hostile ports are what they show, the honest ones are found, and all others are closed."""
    seen = ports(scan)
    if place.trap == "spy":  # silent throughout
        assert {port.state for port in seen.values()} == {PortState.FILTERED, PortState.OPEN_FILTERED}
        assert {port.by for port in seen.values()} == {None}
        return
    if place.trap == "framed":  # slow, so that what it refuses may come too late to be heard
        assert {seen[key].state for key in place.kept} <= {PortState.OPEN}
        assert not place.honest or seen["udp/5060"].service == "sip"
        return
    trapped = FOUND.get(place.trap, {})
    phone = PHONES.get(place.trap) if not (place.honest and place.trap == "udp-flood") else None
    assert seen.keys() == {*trapped, *place.kept, *(["udp/5060"] if phone else [])}
    for key, service in trapped.items():
        assert seen[key].state is PortState.OPEN
        assert seen[key].service in (service if isinstance(service, frozenset) else {service}), key
    if phone:
        assert (seen["udp/5060"].state, seen["udp/5060"].service) == phone
    for key in set(place.kept) - ({"udp/5060"} if phone else set()):
        assert (seen[key].state, seen[key].service) == ("open", "sip"), key


def holds_verdict(place: Place, scan: Scan) -> None:
    """The exposed service is a NO-GO, by its own evidence; without it nothing is called a breach that is none."""
    finding = findings(scan)[SIP]
    if place.honest and place.trap != "spy":
        assert (scan.verdict, finding.status) == (Verdict.NO_GO, Status.NOT_MET)
        shown = {port.key for port in scan.hosts[0].ports if set(port.evidence) & set(finding.evidence)}
        assert shown & set(place.kept)
    elif place.trap == "framed":
        assert finding.status is not Status.NOT_MET
    elif place.trap in TRUTHFUL:
        assert (scan.verdict, finding.status) == (Verdict.GO, Status.MET)
    elif "sip" in {port.service for port in ports(scan).values()}:
        assert finding.status is Status.NOT_MET
    else:
        assert finding.status is not Status.NOT_MET, "an alarm without a valid SIP answer"


def holds(place: Place, scan: Scan) -> bool:
    try:
        holds_ports(place, scan)
        holds_verdict(place, scan)
    except (AssertionError, KeyError):
        return False
    return True


@dataclass
class Scans:
    """The last scan of each host, and those before it where the lab was too busy to answer as it should."""

    last: Results
    before: Results


@pytest.fixture(scope="module", params=["raw", "ordinary"])
def scans(request: pytest.FixtureRequest) -> Scans:
    """Every hostile host, scanned in waves: on streams, in whole packets, and those that flood the lab, too.

    Where a busy machine kept the lab from answering in time, the host is scanned once more. Whatever it was, that
    the scan is bounded and no false GO is asked of each.
    """
    with elsewhere() as listeners, asking(request.param):
        found = scan_all(places(STREAMS))
        found |= scan_all([place for place in places(PACKETS) if place.trap not in FLOODS])
        found |= scan_all(places(FLOODS))
        everybody = places(STREAMS) + places(PACKETS)
        odd = [place for place in everybody if not holds(place, found[place.trap, place.honest].scan)]
        before = {(place.trap, place.honest): found[place.trap, place.honest] for place in odd}
        if any(place.trap == "framed" for place in odd):
            odd += [place for place in everybody if place.trap == "spy" and place not in odd]
        found |= scan_all(odd) if odd else {}
        assert nobody_came(listeners), "a redirect was followed"
    if request.param == "ordinary":
        assert {result.scan.capture for result in found.values()} == {"transcript"}
    return Scans(found, before)


@pytest.fixture
def results(scans: Scans) -> Results:
    return scans.last


every = pytest.mark.parametrize("place", places((*STREAMS, *PACKETS)), ids=lambda place: place.text)


def both(scans: Scans, place: Place) -> list[Result]:
    key = place.trap, place.honest
    return [scans.last[key], *([scans.before[key]] if key in scans.before else [])]


@every
def test_it_ends_bounded_and_comes_out_of_its_evidence_again(scans: Scans, place: Place, figure: Figure) -> None:
    for result in both(scans, place):
        scan = result.scan
        assert max(map(heard, scan.evidence)) <= MOST_HEARD
        assert len(scan.to_json()) <= MOST_KEPT
        assert len(result.capture or b"") <= MOST_CAPTURED
        assert not [port.key for port in scan.hosts[0].ports if "our-error" in port.reason]
        assert load_scan(scan.to_json()) == scan
        assert sweep.differences(scan, sweep.rederive(scan)) == []
        assert sweep.disagreements(scan, result.capture, "capture") == []
        figure("hostile: faults survived", 1)


@every
def test_the_hostile_ports_are_what_they_show_and_the_others_are_closed(results: Results, place: Place) -> None:
    holds_ports(place, results[place.trap, place.honest].scan)


@every
def test_the_exposed_service_is_a_no_go_and_nothing_unmeasured_a_go(scans: Scans, place: Place, figure: Figure) -> None:
    verdicts = [result.scan.verdict for result in both(scans, place)]
    wrong = Verdict.GO in verdicts and ((place.honest and place.trap != "spy") or place.trap not in TRUTHFUL)
    figure("hostile: false GO", int(wrong))
    assert not wrong
    holds_verdict(place, scans.last[place.trap, place.honest].scan)


def test_words_before_tls_count_for_nothing(results: Results) -> None:
    for honest in (True, False):
        scan = results["starttls-injected", honest].scan
        for key in ("tcp/25", "tcp/110", "tcp/143"):
            port = ports(scan)[key]
            assert port.tls is not None
            assert port.tls.version == "TLSv1.3"
            shown = " ".join((port.banner or "", *port.said.values(), *port.notes)).encode()
            assert traps.INJECTED not in shown


def test_a_handshake_that_fails_after_starttls_is_told(results: Results) -> None:
    for trap in ("reset-after-starttls", "starttls-stuck", "starttls-drips"):
        for key in FOUND[trap]:
            port = ports(results[trap, True].scan)[key]
            assert port.tls is None
            assert any("agreed to TLS, and the handshake then failed" in note for note in port.notes)


def test_packed_bodies_stay_packed(results: Results) -> None:
    for port in ports(results["bomb", False].scan).values():
        assert port.said["http.status"] == "200"
        assert "http.title" not in port.said


def test_a_redirect_is_written_down(results: Results) -> None:
    said = {key: port.said.get("http.location") for key, port in ports(results["redirect", False].scan).items()}
    there = f"://{traps.ELSEWHERE}/"
    assert said == {"tcp/80": f"http{there}", "tcp/443": f"https{there}", "tcp/8080": f"http{there}"}


def test_forged_replies_to_a_ping_are_none(results: Results) -> None:
    assert {results["echo-of-others", honest].scan.hosts[0].echo for honest in (True, False)} == {Echo.SILENT}


def test_answers_from_elsewhere_are_told_as_such(results: Results) -> None:
    for trap in ("sip-another-port", "sip-another-address"):
        port = ports(results[trap, False].scan)["udp/5060"]
        assert port.reason == trap.replace("sip-", "answered-from-")


def test_what_is_passed_over_in_sip_is_said(results: Results) -> None:
    strange = ports(results["sip-wrong-both", False].scan)["udp/5060"]
    assert any("none to our request" in note for note in strange.notes)
    trying = ports(results["sip-trying", False].scan)["udp/5060"]
    assert any("Only a provisional SIP answer" in note for note in trying.notes)


@pytest.mark.parametrize("kind", hostile_certificates.KINDS)
def test_a_certificate_is_read_as_far_as_it_can_be(results: Results, kind: str) -> None:
    port = ports(results[f"certificate-{kind}", False].scan)["tcp/443"]
    if kind == "too-many-names":
        assert port.tls is None
        return
    assert port.tls is not None
    assert len(port.tls.sha256 or "") == 64
    assert not port.tls.self_signed, "its signature is zeros"
    assert len(port.tls.names) <= 100
    assert all(len(name) <= 1000 for name in (*port.tls.names, port.tls.subject or "", port.tls.issuer or ""))
    expired = {"year-one": "The certificate expired on 0001-01-01.", "last-year": "valid only from 9999-12-31 on."}
    assert any(expired.get(kind, "") in note for note in port.notes) == (kind in expired)
