"""What others forge into a capture is told from the conversation by numbers that only both ends know."""

from __future__ import annotations

import io
from ipaddress import ip_address

import pytest

from exposure_scan.lab import packets
from exposure_scan.lab.packets import ACK, RST, SYN, Packet, Segment
from exposure_scan.transport import HEADER, read_flows, read_packets
from exposure_scan.transport.pcap import entry

NEAR, FAR = "198.51.100.250", "198.51.100.10"
OURS, THEIRS = 1000, 5000  # the sequence numbers of both SYNs


def ours(sequence: int, flags: int, data: bytes = b"") -> bytes:
    return packets.tcp(Segment(40000, 25, sequence, THEIRS + 1, flags, 1024, data), NEAR, FAR)


def theirs(sequence: int, acknowledged: int, flags: int, data: bytes = b"") -> bytes:
    return packets.tcp(Segment(25, 40000, sequence, acknowledged, flags, 1024, data), FAR, NEAR)


def refusal(quoted: bytes) -> bytes:
    return packets.write(Packet(FAR, NEAR, packets.ICMP, b"\3\3" + bytes(6) + quoted))


def events(*raw: bytes) -> list[tuple[str, bytes | str]]:
    file = io.BytesIO(HEADER + b"".join(entry(packet, number) for number, packet in enumerate(raw)))
    (flow,) = read_flows(read_packets(file, "synthetic"), {ip_address(FAR)})
    assert flow.frames == tuple(range(1, len(raw) + 1)), "a forged packet belongs to the flow that it is forged for"
    return [(event.what, event.data or (event.detail if event.what != "connected" else "")) for event in flow.events]


ASKED = ours(OURS, SYN)
STANDS = [theirs(THEIRS, OURS + 1, SYN | ACK), ours(OURS + 1, ACK)]
SPEAKS = theirs(THEIRS + 1, OURS + 1, ACK, b"220 ready\r\n")
HEARD = [("connected", ""), ("received", b"220 ready\r\n")]


@pytest.mark.parametrize(
    "forged",
    [
        theirs(0, 0, RST),
        theirs(0, OURS, RST | ACK),
        theirs(0, OURS + 2, RST | ACK),
        theirs(7, OURS + 2, SYN | ACK),
        theirs(7, OURS, SYN | ACK),
        refusal(ours(OURS + 77, SYN)[:28]),
        refusal(ASKED[:27]),
    ],
    ids=["blank rst", "rst before", "rst behind", "syn-ack behind", "syn-ack before", "icmp of another", "icmp cut"],
)
def test_what_does_not_know_our_syn_is_passed_over(forged: bytes) -> None:
    assert events(ASKED, forged, *STANDS, SPEAKS) == HEARD


def test_a_reset_from_nowhere_does_not_end_a_connection() -> None:
    assert events(ASKED, *STANDS, theirs(THEIRS + 2**30, 0, RST), SPEAKS) == HEARD


def test_the_truth_is_taken() -> None:
    assert events(ASKED, theirs(0, OURS + 1, RST | ACK)) == [("not-connected", "rst")]
    refused = [("icmp", f"type=3 code=3 from={FAR}"), ("not-connected", "icmp-port-unreachable")]
    assert events(ASKED, refusal(ASKED[:28])) == refused
    torn = [*HEARD, ("reset", "")]
    assert events(ASKED, *STANDS, SPEAKS, theirs(THEIRS + 12, 0, RST)) == torn


def test_an_error_with_words_that_nobody_said_is_passed_over_in_datagrams() -> None:
    asked = packets.udp(40000, 5060, b"words of ours", NEAR, FAR)
    answer = packets.udp(5060, 40000, b"an answer", FAR, NEAR)
    said = [("connected", ""), ("sent", b"words of ours")]
    assert events(asked, refusal(asked[:28] + b"words of others"), answer) == [*said, ("received", b"an answer")]
    assert events(asked, refusal(asked))[2:] == [("icmp", f"type=3 code=3 from={FAR}"), ("reset", "")]
