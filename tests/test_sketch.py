"""Flows in a hurry are the flows that the careful reader finds: the same ends, the same frames."""

from __future__ import annotations

import io
import struct
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.lab import packets
from exposure_scan.lab.packets import ACK, RST, SYN, Segment, icmp_error
from exposure_scan.model import Address
from exposure_scan.transport import read_flows, read_packets, sketched_flows
from exposure_scan.transport.pcap import HEADER, entry
from exposure_scan.transport.sketch import Sketch, Sketched

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
HOSTS = ("198.51.100.10", "198.51.100.40", "2001:db8::10")
OURS, ROUTER = "198.51.100.250", "198.51.100.1"


def seen(flows: list[Sketch]) -> Counter[tuple[object, ...]]:
    return Counter((flow.transport, flow.local, flow.peer, flow.frames, round(flow.at, 6)) for flow in flows)


def both(entries: list[bytes], hosts: set[Address]) -> tuple[list[Sketch], list[Sketch]]:
    whole = io.BytesIO(HEADER + b"".join(entries))
    return list(read_flows(read_packets(whole, "a test"), hosts)), sketched_flows(entries, hosts)


@pytest.mark.parametrize("file", sorted(LAB.glob("*.pcap")), ids=lambda file: file.stem)
def test_of_the_practice_sites_it_finds_the_same(file: Path) -> None:
    whole, entries, at = file.read_bytes(), [], len(HEADER)
    while at < len(whole):
        end = at + 16 + struct.unpack_from("<I", whole, at + 8)[0]
        entries.append(whole[at:end])
        at = end
    hosts = {ip_address(flow) for flow in HOSTS} | {ip_address(f"198.51.100.{number}") for number in range(10, 60, 10)}
    careful, hasty = both(entries, hosts)
    assert careful
    assert seen(careful) == seen(hasty)


def test_silence_is_not_read_packet_by_packet() -> None:
    syn = packets.tcp(Segment(40000, 25, 7, 0, SYN), OURS, HOSTS[1])
    datagram = packets.udp(40000, 5060, b"a word", OURS, HOSTS[1])
    _, hasty = both([entry(raw, number) for number, raw in enumerate((syn, datagram, syn, datagram))], _addresses())
    assert all(isinstance(flow, Sketched) for flow in hasty)
    assert {flow.frames for flow in hasty} == {(1, 3), (2, 4)}


def test_what_was_answered_is_not_read_either() -> None:
    host = HOSTS[1]
    syn = packets.tcp(Segment(40000, 25, 7, 0, SYN), OURS, host)
    accepted = packets.tcp(Segment(25, 40000, 9, 8, SYN | ACK), host, OURS)
    asked = packets.udp(40000, 5060, b"a word", OURS, host)
    reply, error = packets.udp(5060, 40000, b"another", host, OURS), icmp_error(asked, 3, 3, ROUTER)
    passed = (syn, accepted, asked, reply, error)
    _, hasty = both([entry(raw, number) for number, raw in enumerate(passed)], _addresses())
    assert all(isinstance(flow, Sketched) for flow in hasty)
    assert {flow.frames for flow in hasty} == {(1, 2), (3, 4, 5)}


def _addresses() -> set[Address]:
    return {ip_address(host) for host in HOSTS}


_ends = st.sampled_from([(OURS, HOSTS[0]), (OURS, HOSTS[1]), (HOSTS[0], OURS), (HOSTS[1], OURS), (HOSTS[0], HOSTS[1])])
_ports = st.sampled_from([(40000, 25), (40001, 25), (25, 40000), (25, 40001)])
_flags = st.sampled_from([SYN, SYN | ACK, RST, RST | ACK, ACK])


@st.composite
def _packet(draw: st.DrawFn) -> bytes:
    (source, destination), (near, far) = draw(_ends), draw(_ports)
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "error", "fragment", "short", "junk"]))
    segment = packets.tcp(Segment(near, far, draw(st.sampled_from([7, 8])), 0, draw(_flags)), source, destination)
    datagram = packets.udp(near, far, draw(st.sampled_from([b"", b"a word"])), source, destination)
    if kind == "error":
        about = draw(st.sampled_from([segment, datagram]))
        return icmp_error(about, 3, 3, draw(st.sampled_from([ROUTER, destination])))
    if kind == "fragment":
        return datagram[:6] + draw(st.sampled_from([b"\x20\x00", b"\x00\x01"])) + datagram[8:]
    if kind == "short":
        return draw(st.sampled_from([segment, datagram]))[: draw(st.integers(20, 39))]
    if kind == "junk":
        return draw(st.binary(min_size=1, max_size=60))
    return segment if kind == "tcp" else datagram


@given(st.lists(_packet(), max_size=12))
def test_of_whatever_passed_it_finds_the_same(passed: list[bytes]) -> None:
    careful, hasty = both([entry(raw, number * 1000) for number, raw in enumerate(passed)], _addresses())
    assert seen(careful) == seen(hasty)
