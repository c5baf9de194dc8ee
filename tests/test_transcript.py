"""A capture that is rebuilt from a record must show what the record says."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from ipaddress import ip_address

from exposure_scan.conversation import Event, Exchange, Observation
from exposure_scan.model import PortState, Question
from exposure_scan.transport import HEADER, read_flows, read_packets, rebuild

NEAR, FAR = "198.51.100.250|40000", "198.51.100.10|25"


def test_what_was_read_after_a_word_could_not_be_sent_is_in_the_packets() -> None:
    """The peer has torn the connection down, and what it said before still lay there."""
    events = (
        Event(0, "asking", detail=f"{NEAR} {FAR}"),
        Event(1, "connected", detail=f"{NEAR} {FAR}"),
        Event(2, "received", b"220 first"),
        Event(3, "reset"),  # of our own word
        Event(4, "received", b" and second\r\n"),
        Event(5, "limit"),
    )
    exchange = Exchange(
        Question("tcp", 25, "greeting"),
        PortState.OPEN,
        "syn-ack",
        "198.51.100.10",
        1,
        1.0,
        Observation(),
        datetime(2026, 11, 24, tzinfo=UTC),
        events,
    )
    capture = io.BytesIO(HEADER + b"".join(rebuild([exchange])))
    (flow,) = read_flows(read_packets(capture, "synthetic"), {ip_address("198.51.100.10")})
    assert b"".join(event.data for event in flow.events if event.what == "received") == b"220 first and second\r\n"
    assert flow.events[-1].what == "reset"
