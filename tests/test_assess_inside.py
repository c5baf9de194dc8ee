"""What shows the inside of a site: how much it weighs, and that the reason can be checked. All ports are synthetic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from conversations import hold, phone, reply

from exposure_scan.assess import assess_host
from exposure_scan.model import Alive, Device, DeviceClass, Echo, Finding, Host, Port, PortState, Site, Status

ON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LAN = ("server.behind-firewall-or-wan-port", "server.lan-port-not-public", "server.nat-firewall")
FORWARD = "server.no-forward-to-lan-port"
OTHER = Device(class_=DeviceClass.OTHER, confidence=0.9)
FAMILY = Device(class_=DeviceClass.ALLWORX, confidence=0.9)


def port(key: str, service: str | None, **more: Any) -> Port:
    transport, number = key.split("/")
    return Port(
        transport="udp" if transport == "udp" else "tcp",
        port=int(number),
        state=PortState.OPEN,
        reason="synthetic",
        service=service,
        evidence=(f"e-{key}",),
        **more,
    )


TFTP = port("udp/69", "tftp", banner="TFTP error 1: File not found")
RESOLVER = port("udp/53", "dns", said={"dns.ra": "1"}, banner="DNS NXDOMAIN, recursion offered")
REFUSING = port("udp/53", "dns", said={"dns.ra": "0"}, banner="DNS REFUSED, recursion not offered")
TIME = port("udp/123", "ntp", banner="NTP version 4, stratum 2")
AGENT = port("udp/161", "snmp", banner="SNMPv3, enterprise 9")
PAGE = port("tcp/8080", "http", device=FAMILY, banner="HTTP/1.0 403 Forbidden, Server: IST OIS")
SIP = port("udp/5060", "sip", said={"sip.private": "10.0.0.5 (Contact)"}, banner="SIP/2.0 200 OK")


def judge(*seen: Port, address: str = "198.51.100.10", **operator: Any) -> dict[str, Finding]:
    host = Host(
        address=address,
        alive=Alive(proven=True, by="it answered ping"),
        echo=Echo.REPLIED,
        device=Device(class_=DeviceClass.SERVER, confidence=0.9),
        ports=seen,
    )
    found = assess_host(host, Site(name="Synthetic site", targets=(address,), **operator), ON)
    return {finding.practice: finding for finding in found}


def broken(findings: dict[str, Finding]) -> set[str]:
    return {id_ for id_ in (*LAN, FORWARD) if findings[id_].status is Status.NOT_MET}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((TFTP,), set(LAN)),
        ((TFTP, SIP), {*LAN, FORWARD}),
        ((PAGE, SIP), {FORWARD}),
        ((PAGE, RESOLVER), set(LAN)),
        ((PAGE, RESOLVER, SIP), {*LAN, FORWARD}),
        ((PAGE, REFUSING, TIME, AGENT), set()),
        ((RESOLVER, TIME, AGENT), set()),
        ((RESOLVER, TIME, AGENT, SIP), set()),
        ((SIP,), set()),
        ((TIME,), set()),
        ((), set()),
    ],
)
def test_what_breaks_which_practice(seen: tuple[Port, ...], expected: set[str]) -> None:
    assert broken(judge(*seen)) == expected


def test_a_breach_names_service_address_field_and_what_to_check() -> None:
    findings = judge(TFTP, SIP)
    for id_ in LAN:
        because = findings[id_].because
        assert because == findings[LAN[0]].because, "one reason, said once in the verdict"
        assert 'udp/69 said "TFTP error 1: File not found"' in because
        assert "udp/5060 shows the private address 10.0.0.5 (Contact), so a router is in front." in because
        assert "Network > Configuration > Network Mode" in because
        assert findings[id_].evidence == ("e-udp/69", "e-udp/5060")
    forward = findings[FORWARD]
    assert forward.because == (
        "udp/5060 shows the private address 10.0.0.5 (Contact). "
        'A service of a local network answers: udp/69 said "TFTP error 1: File not found". '
        "Check in the router's list of forwarded ports whether any leads to the server's LAN port."
    )
    assert forward.evidence == ("e-udp/5060", "e-udp/69")
    assert "Internet line is in the LAN port" in judge(TFTP)[LAN[0]].because, (
        "no router shows, so the cable comes first"
    )


def test_a_hint_says_where_to_look_and_is_no_breach() -> None:
    finding = judge(TIME, AGENT)[LAN[0]]
    assert finding.status is Status.UNDECLARED
    assert finding.because.startswith("No breach was seen from outside, which does not show that there is none.")
    assert "These may be a firewall's own: udp/123 (ntp), udp/161 (snmp). If one is the server's" in finding.because
    assert finding.because.endswith("Nobody has declared it.")
    assert finding.evidence == ("e-udp/123", "e-udp/161")
    page = judge(PAGE)[LAN[1]]
    assert page.status is Status.UNDECLARED
    assert "Allow admin configuration on WAN interface" in page.because
    assert "Network > Configuration > modify" in page.because
    assert "udp/53 (dns for anybody)" in judge(RESOLVER)[LAN[0]].because
    assert "udp/53 (dns)" in judge(REFUSING)[LAN[0]].because
    forward = judge(SIP)[FORWARD]
    assert forward.status is Status.UNDECLARED
    assert "10.0.0.5 (Contact), so a router is in front and passes SIP on." in forward.because
    assert "router's list of forwarded ports" in forward.because
    assert forward.evidence == ("e-udp/5060",)
    lan_side = judge(TFTP)[FORWARD]
    assert "A service of a local network answers: udp/69" in lan_side.because
    assert judge()[FORWARD].evidence == ()


def test_a_breach_is_short_enough_to_be_read_whole() -> None:
    """The terminal cuts a sentence at 300 characters; what to check stands at its end."""
    findings = judge(TFTP, PAGE, SIP)
    for id_ in (*LAN, FORWARD):
        assert findings[id_].status is Status.NOT_MET
        assert len(findings[id_].because) <= 300
    assert 'answers: udp/69 said "TFTP error 1: File not found", beside the admin page on tcp/8080.' in (
        findings[LAN[0]].because
    )


@pytest.mark.parametrize("service", [RESOLVER, TIME, AGENT])
def test_what_the_operator_expects_or_a_foreign_product_serves_is_no_hint(service: Port) -> None:
    assert service.key in judge(service)[LAN[0]].because
    for finding in (
        judge(service, expect=(service.key,))[LAN[0]],
        judge(service.model_copy(update={"device": OTHER}))[LAN[0]],
    ):
        assert (service.key in finding.because, finding.evidence) == (False, ())


@pytest.mark.parametrize("device", [DeviceClass.HANDSET, DeviceClass.PX])
def test_a_firewall_in_front_of_a_phone_breaks_no_servers_practice(device: DeviceClass) -> None:
    host = Host(
        address="198.51.100.20",
        alive=Alive(proven=True, by="it answered ping"),
        echo=Echo.SILENT,
        device=Device(class_=device, confidence=0.9),
        ports=(RESOLVER, TIME, AGENT, TFTP),
    )
    findings = assess_host(host, Site(name="Synthetic site", targets=(host.address,)), ON)
    stand = {finding.practice: finding.status for finding in findings}
    assert {stand[id_] for id_ in (*LAN, FORWARD)} == {Status.NOT_APPLICABLE}


def test_foreign_sip_and_ipv6_tell_nothing_of_a_forwarding() -> None:
    assert broken(judge(TFTP, SIP.model_copy(update={"device": OTHER}))) == set(LAN)
    assert broken(judge(TFTP, SIP, address="2001:db8::10")) == set(LAN)


def test_an_expected_lan_service_is_still_a_breach_and_says_so() -> None:
    finding = judge(TFTP, expect=("udp/69",))[LAN[0]]
    assert finding.status is Status.NOT_MET
    assert "a waiver is" in finding.because


def test_from_the_bytes_of_an_answer_to_the_finding() -> None:
    """A SIP answer with a private Contact, an ALG's changed branch beside it, and the admin page: a forwarding."""

    def answer(request: bytes) -> bytes:
        whole = reply(request, more="Contact: <sip:pbx@192.168.2.3:5060>\r\n")
        return whole.replace(b"branch=z9hG4bK", b"branch=z9hG4bKalg")

    seen = hold("sip-udp", phone(answer), port=5060).observation
    sip = port("udp/5060", seen.service, said=dict(seen.said), banner=seen.banner, notes=seen.notes)
    findings = judge(sip, PAGE)
    assert findings["sip.not-reachable"].status is Status.NOT_MET, "SIP that an ALG rewrote is SIP that answers"
    assert "192.168.2.3 (Contact)" in findings[FORWARD].because
    assert broken(findings) == {FORWARD}
