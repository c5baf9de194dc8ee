"""A scan held against its capture: what the record says must be in the packets, and nothing else.

The record and the capture are two witnesses: our own program, and the kernel. Where they disagree one of them was
changed, and each disagreement is named by the piece of evidence and what it lacks.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from exposure_scan.conversation import Event, events_of
from exposure_scan.model import Echo, Evidence, PortState, Scan
from exposure_scan.model.ranges import ranges_text
from exposure_scan.transport import Flow, Frames, hosts_of, read_flows, read_packets

from . import overhearing
from .knocks import read_ports
from .scanning import frames_text

_MOST_NAMED = 5  # ports of a wide sweep that are named one by one


@dataclass(slots=True)
class _Connection:
    """One connection, or one datagram socket, of a record: its bytes in the clear."""

    ends: str
    sent: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    tls: bool = False  # what follows in the packets is enciphered


def disagreements(scan: Scan, capture: bytes | None, name: str) -> list[str]:
    """What the scan's evidence and its capture tell otherwise, a sentence each; empty when they agree.

    Args:
        scan: the scan.
        capture: its packets, pcap or pcapng.
        name: the file's, for what is said of it.

    Raises:
        ValueError: the evidence is damaged, or the capture is none.
    """
    if capture is None:
        return [] if scan.capture == "none" else [f"The capture is missing from {name}."]
    packets = read_packets(io.BytesIO(capture), f"the capture in {name}")
    frames = Frames(read_flows(packets, hosts_of(scan.evidence)), scan.evidence)
    found: list[str] = []
    numbered = any(proof.frames for proof in scan.evidence)  # scans from before the numbers were kept have none
    for proof in scan.evidence:
        if proof.purpose == "sweep":
            if scan.capture == "wire":  # a transcript has no knocks
                found += _knocks(proof, frames)
        else:
            found += _conversation(proof, frames.flows(proof))
        now = frames_text(frames, proof)
        others = scan.origin is not None and proof.purpose == "sweep"  # flows that do not count lie between
        if numbered and now != proof.frames and not others:
            found.append(
                f"{proof.id}: its frames are saved as {proof.frames or 'none'}; the capture has {now or 'none'}."
            )
    if scan.origin is None:
        swept = {(proof.address, port) for proof in scan.evidence if proof.ports for port in read_ports(proof.ports)}
        flows = (
            flow
            for flow in frames.unclaimed()
            if not (flow.transport == "tcp" and flow.peer in swept)
            and (flow.requests or flow.transport != "icmp")  # a reply to nobody's ping is no question of ours
        )
        stray = sorted({number for flow in flows for number in flow.frames})
        if stray:
            found.append(f"Frames {ranges_text(stray)} of the capture belong to no piece of evidence.")
    return found


def _conversation(proof: Evidence, flows: Sequence[Flow]) -> Iterator[str]:
    events = events_of(proof)
    seen = {f"{flow.local[0]}|{flow.local[1]} {flow.peer[0]}|{flow.peer[1]}": flow for flow in flows}
    for connection in _connections(events):
        flow = seen.get(connection.ends) or (flows[0] if proof.kind == "icmp" and flows else None)
        if flow is None:
            if connection.sent or connection.received or proof.kind == "tcp":
                yield f"{proof.id}: {_port(proof)}: its packets are missing from the capture."
            continue
        yield from _bytes(proof, connection, flow)
    yield from _state(proof, events, flows)


def _connections(events: Iterable[Event]) -> Iterator[_Connection]:
    now: _Connection | None = None
    for event in events:
        if event.what == "connected":
            if now is not None:
                yield now
            now = _Connection(event.detail)
        elif now is None:
            continue
        elif event.what in ("secured", "not-secured"):
            now.tls = True
        elif event.what in ("sent", "received") and not now.tls:
            (now.sent if event.what == "sent" else now.received).append(event.data)
    if now is not None:
        yield now


def _bytes(proof: Evidence, connection: _Connection, flow: Flow) -> Iterator[str]:
    for what, said in (("sent", connection.sent), ("received", connection.received)):
        shown = [event.data for event in flow.events if event.what == what]
        if proof.kind == "tcp":
            told, kept = b"".join(said), b"".join(shown)
            exact = what == "sent" and not connection.tls  # the peer may speak on after we stopped listening
            agrees = kept == told if exact else kept.startswith(told)
            if proof.probe == overhearing.PROBE:  # cut, and with stars in the place of others' secrets
                agrees = overhearing.same(told, kept)
            short = len(kept) < len(told)
        else:
            rest = iter(shown)
            if proof.probe == overhearing.PROBE:
                agrees = all(any(overhearing.same(data, other) for other in rest) for data in said)
            else:
                agrees = all(data in rest for data in said)
            short = len(shown) < len(said)
        if agrees:
            continue
        what = f"{proof.id}: {_port(proof)}: what was {what}"
        if short:
            yield f"{what} is not all in the capture: packets are missing."
        else:
            yield f"{what} differs between the record and the capture: bytes were changed."


def _state(proof: Evidence, events: Sequence[Event], flows: Sequence[Flow]) -> Iterator[str]:
    """What a state rests on must be in the packets."""
    shown = {(event.what, event.detail) for flow in flows for event in flow.events}
    what = f"{proof.id}: {_port(proof)} is saved as {proof.state} ({proof.reason})"
    asked = any(event.what == "asking" for event in events)
    if proof.kind == "tcp" and proof.reason == "rst" and asked and ("not-connected", "rst") not in shown:
        yield f"{what}; the capture has no such answer."
    errors = {event.detail for event in events if event.what == "icmp"}
    if missing := sorted(errors - {detail for word, detail in shown if word == "icmp"}):
        yield f"{what}; the capture lacks the ICMP error {missing[0]}."
    silent = proof.state in (PortState.FILTERED, PortState.OPEN_FILTERED, Echo.SILENT) and proof.by is None
    last = max((event.ms for event in events), default=0.0)
    if silent and any(_answered(flow, proof, last) for flow in flows):
        yield f"{what}; the capture has an answer."
    if silent and asked and not flows:
        yield f"{what}; the capture has no packet that asked."


def _answered(flow: Flow, proof: Evidence, last: float) -> bool:
    """Whether the host answered while it was listened to."""
    shift = (flow.at - proof.at.timestamp()) * 1000
    word = "connected" if flow.transport == "tcp" else "received"
    asked = {event.data[4:] for event in flow.events if event.what == "sent"}  # a ping: behind type and checksum
    answers = (
        event
        for event in flow.events
        if event.detail == "rst" or (event.what == word and (flow.transport != "icmp" or event.data[4:] in asked))
    )
    return any(event.ms + shift < last for event in answers)


def _knocks(proof: Evidence, frames: Frames[Flow]) -> Iterator[str]:
    """A group of a wide sweep: each port must have been asked, and have answered as the group says."""
    if proof.state == PortState.UNMEASURED:
        return
    wanted = {"open": ("connected", None), "closed": ("not-connected", "rst")}.get(proof.state)
    lacking, answering = [], []
    for port in read_ports(proof.ports):
        flows = frames.flows(proof, (port,))
        events = [event for flow in flows for event in flow.events]
        if not flows:
            lacking.append(port)
        elif wanted and proof.reason in ("syn-ack", "rst"):
            if not any(event.what == wanted[0] and wanted[1] in (None, event.detail) for event in events):
                lacking.append(port)
        elif proof.by is None and any(event.what in ("connected", "not-connected") for event in events):
            answering.append(port)
    for ports, words in ((lacking, "is not in the capture"), (answering, "is answered in the capture")):
        if ports:
            named = ranges_text(ports[:_MOST_NAMED]) + ("…" if len(ports) > _MOST_NAMED else "")
            yield f"{proof.id}: {proof.state} ({proof.reason}) {words} for {len(ports)} TCP port(s): {named}."


def _port(proof: Evidence) -> str:
    return "ping" if proof.kind == "icmp" else f"{proof.kind}/{proof.port}"
