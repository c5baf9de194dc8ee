"""The committed captures, fed to the conversations: the wire alone gives what the scan saw."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from peers import read_events

from exposure_scan.conversation import Caller, Event, replay
from exposure_scan.model import Evidence, Port, Scan
from exposure_scan.protocols import conversation
from exposure_scan.report import load_scan

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
SITES = ("exposed-server", "remote-handset", "px-expander", "silent-site", "moved-voicemail")


def saved(site: str) -> Scan:
    return load_scan((LAB / f"{site}.json").read_text())


def flows(proof: Evidence) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Our and the peer's end of each connection that the evidence tells of."""
    ends = [step.detail.split(" ") for step in proof.steps if step.what == "connected"]
    return [tuple((end.split("|")[0], int(end.split("|")[1])) for end in pair) for pair in ends]  # type: ignore[misc]


def on_the_wire(site: str, proof: Evidence) -> list[Event]:
    return [
        event
        for local, peer in flows(proof)
        for event in read_events(LAB / f"{site}.pcap", kind=proof.kind, local=local, peer=peer)
    ]


def in_the_clear(events: list[Event]) -> list[Event]:
    """The events up to our ClientHello (RFC 8446, section 4): what follows says nothing without the keys."""
    hello = (number for number, event in enumerate(events) if event.data.startswith(b"\x16\x03\x01"))
    return events[: next(hello, len(events))]


def answered() -> Iterator[tuple[str, Evidence, Port]]:
    for site in SITES:
        scan = saved(site)
        ports = {(host.address, port.key): port for host in scan.hosts for port in host.ports}
        for proof in scan.evidence:
            port = ports.get((proof.address, f"{proof.kind}/{proof.port}"))
            if port is not None and port.state == "open":
                yield site, proof, port


@pytest.mark.parametrize(
    ("site", "proof", "port"), list(answered()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_packets_alone_give_what_the_scan_saw(site: str, proof: Evidence, port: Port) -> None:
    scan = saved(site)
    caller = Caller(f"exposure-scan/{scan.scanner.version}", scan.partner["mail"])
    events = in_the_clear(on_the_wire(site, proof))
    seen = replay(conversation(proof.probe, proof.token, caller), events, datagrams=proof.kind != "tcp")
    assert events[0].what == "connected"
    if port.tls is None:
        assert (seen.service, seen.banner, dict(seen.said)) == (port.service, port.banner, port.said)
    elif not proof.probe.startswith("tls"):  # STARTTLS: the greeting before it
        assert (seen.service, seen.banner) == (port.service, port.banner)


@pytest.mark.parametrize("site", SITES)
def test_what_is_shut_or_silent_on_the_wire_is_so_in_the_scan(site: str) -> None:
    scan = saved(site)
    shut = 0
    for proof in scan.evidence:
        ports = {port.key: port for port in scan.hosts[0].ports}
        port = ports.get(f"{proof.kind}/{proof.port}")
        if port is None or port.state == "open" or not flows(proof):
            continue
        shut += 1
        events = on_the_wire(site, proof)
        assert not [event for event in events if event.what == "received"]
        assert (port.state == "closed") == any(event.what == "icmp" for event in events)
    assert shut  # UDP sockets have an end of ours even where nothing answered


def test_the_silent_site_sent_no_packet() -> None:
    from scapy.layers.inet import IP
    from scapy.utils import rdpcap

    packets = rdpcap(str(LAB / "silent-site.pcap"))
    assert len(packets) > 50
    assert {str(ip_address(packet[IP].dst)) for packet in packets} == {"198.51.100.40"}
