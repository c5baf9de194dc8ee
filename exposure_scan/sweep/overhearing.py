"""One flow of a capture as an exchange with its evidence, and the same exchange out of its evidence again.

Who asked was not us, so there is no conversation of ours to repeat: what the host speaks comes from
`protocols.overheard`, and the state from the events alone, on the first reading and on every later one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from exposure_scan import plan
from exposure_scan.conversation import Event, Exchange, Observation, endpoint_text, events_of
from exposure_scan.model import Echo, Evidence, PortState, Question
from exposure_scan.protocols.overheard import PROBE as PROBE
from exposure_scan.protocols.overheard import overheard
from exposure_scan.transport import Flow, read_icmp
from exposure_scan.transport.journal import NO_RESPONSE, RST, SYN_ACK, Answer, judge_icmp

NOT_IN_THE_CAPTURE = "not-in-the-capture"
TOO_FEW = "too-few-tries"
_TRACEROUTE = range(33434, 33535)  # ports that its packets go to

_MOST_BYTES = 65536  # of one flow, both ways together
_MOST_EVENTS = 400
_MIDDLE = "The capture begins in the middle of this connection."
_KEPT = re.compile(r"([1-9][0-9]{0,8}) of ([1-9][0-9]{0,8})")
_LOGIN = re.compile(rb"(?im)^(?:(?!EHLO|HELO)\S{1,60} +(?:LOGIN|AUTHENTICATE)|AUTH|USER|PASS|APOP)\b(.*)")
_SECRET = re.compile(rb"(?im)^(?:(?:proxy-)?authorization|cookie|x-[a-z-]*token):([^\r\n]*)")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_MAIL = re.compile(rb"220|\* |\+OK")


@dataclass(frozen=True, slots=True)
class Heard:
    """What one flow shows: what the port is, and what it says."""

    answer: Answer
    observation: Observation


# --- what is kept of a flow ----------------------------------------------------------------------


def kept(flow: Flow) -> tuple[Event, ...]:
    """The events that become evidence: who asked, and what was said, bounded."""
    if flow.transport != "tcp" or not flow.requests:
        return discreet(flow.events)
    ends = f"{endpoint_text(flow.local)} {endpoint_text(flow.peer)}"
    return (Event(0.0, "asking", detail=ends), *discreet(flow.events))


def discreet(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events, bounded, and without the secrets of those who talked.

    Of a mail or file server's dialogue nothing is kept after the answer to a login; of a web request its head.
    """
    found: list[Event] = []
    size = 0
    greeted = login = False
    for event in events[:_MOST_EVENTS]:
        if event.what == "sent" and login:
            break
        data = event.data[: _MOST_BYTES - size]
        if event.what == "received":
            greeted = greeted or _MAIL.match(data) is not None
        elif event.what == "sent":
            login = greeted and _LOGIN.search(data) is not None
            data = _masked(data, greeted)
        size += len(data)
        found.append(event._replace(data=data))
        if size >= _MOST_BYTES:
            break
    return tuple(found)


def _masked(data: bytes, greeted: bool) -> bytes:
    """What was sent, with stars in the place of secrets."""
    if greeted:
        return _LOGIN.sub(_stars, data)
    end = _HEAD_END.search(data)
    if end is None:
        return _SECRET.sub(_stars, data)
    body = data[end.end() :] if b"HTTP/1." not in data[: end.start()] else b"*" * len(data[end.end() :])
    return _SECRET.sub(_stars, data[: end.end()]) + body


def _stars(match: re.Match[bytes]) -> bytes:
    return match[0][: match.start(1) - match.start()] + b"*" * len(match[1])


# --- what it shows -------------------------------------------------------------------------------


def heard(question: Question, address: str, events: Sequence[Event], silence: Answer) -> Heard:
    """What the events show of the port; `silence` is what it is if nobody said anything."""
    spoke = any(event.what == "received" for event in events)
    seen = overheard(question.transport, events) if spoke else Observation()
    shown = _refusal(address, events)
    if question.transport == "icmp":
        if seen.valid:
            return Heard(Answer(Echo.REPLIED, "echo-reply", address), seen)
        unmeasured = shown is not None and shown.state is PortState.UNMEASURED
        return Heard(Answer(Echo.UNMEASURED, shown.reason) if shown and unmeasured else silence, seen)
    if question.transport == "udp":
        if seen.answered:
            return Heard(Answer(PortState.OPEN, "udp-reply", address), seen)
        return Heard(shown or silence, seen)
    first = next((event for event in events if event.what in ("connected", "not-connected")), None)
    if not any(event.what == "asking" for event in events):  # nobody saw who began
        # In SIP each side answers the other: answers alone show no server there.
        if seen.service in (None, "sip") and seen.tls is None:
            return Heard(silence, seen)
        return Heard(Answer(PortState.OPEN, SYN_ACK, address), replace(seen, notes=(*seen.notes, _MIDDLE)))
    if first is not None and first.what == "connected":
        return Heard(Answer(PortState.OPEN, SYN_ACK, address), seen)
    if first is not None and first.detail == RST:
        return Heard(Answer(PortState.CLOSED, RST, address), seen)
    return Heard(shown or silence, seen)


def _refusal(address: str, events: Sequence[Event]) -> Answer | None:
    errors = [read_icmp(event.detail) for event in events if event.what == "icmp"]
    connected = next((event.detail for event in events if event.what == "connected"), "")
    return judge_icmp(errors, ip_address(address), connected.partition("|")[0] or None) if errors else None


def silence(transport: str, tries: int) -> Answer:
    """What nobody's answer to so many tries is. Ping is asked once and again as everything is: thrice at least."""
    if transport == "icmp":
        return Answer(Echo.SILENT, NO_RESPONSE) if tries >= 3 else Answer(Echo.UNMEASURED, TOO_FEW)
    return Answer(PortState.FILTERED if transport == "tcp" else PortState.OPEN_FILTERED, NO_RESPONSE)


def question_of(transport: str, port: int) -> Question:
    """The question that somebody else asked."""
    if f"{transport}/{port}" == str(plan.CANARY):
        return replace(plan.CANARY, probe=PROBE)
    return Question(transport, port, PROBE)  # type: ignore[arg-type]


def same(told: bytes, kept_: bytes) -> bool:
    """Whether evidence, with its stars, tells the beginning of what the capture holds."""
    pairs = zip(told, kept_, strict=False)
    return len(told) <= len(kept_) and all(one == other or one == ord("*") for one, other in pairs)


# --- what a flow shows beside -----------------------------------------------------------------------


def is_of_the_way(flow: Flow, answer: Answer) -> bool:
    """A packet that was to expire on the way, as traceroute's: it asked nothing of the host."""
    silent = answer.by is None and answer.state in (PortState.OPEN_FILTERED, Echo.SILENT, Echo.UNMEASURED)
    errors = (read_icmp(event.detail).reason for event in flow.events if event.what == "icmp")
    expired = "icmp-time-exceeded" in errors
    if flow.transport == "icmp":
        return silent and expired
    return flow.transport == "udp" and (
        answer.reason == "icmp-time-exceeded" or (silent and flow.peer[1] in _TRACEROUTE)
    )


def tries_of(flow: Flow) -> int | None:
    """How often somebody asked until the first answer; None where there was none."""
    sent = 0
    for event in flow.events:
        if event.what == "sent":
            sent += 1
        elif event.what == "received" or (event.what in ("connected", "not-connected") and flow.transport == "tcp"):
            return flow.requests if flow.transport == "tcp" else sent
    return None


def rtt_of(flow: Flow) -> float | None:
    """Milliseconds until the first answer, where it can be to one try only (Karn's algorithm)."""
    sent: list[float] = []
    for event in flow.events:
        if event.what == "sent":
            sent.append(event.ms)
        elif event.what in ("connected", "not-connected") and flow.transport == "tcp":
            return event.ms if flow.requests == 1 and event.detail.startswith(("rst", flow.local[0])) else None
        elif event.what == "received":
            return event.ms - sent[0] if len(sent) == 1 and flow.transport != "tcp" else None
    return None


# --- out of the evidence again -------------------------------------------------------------------


def again(proof: Evidence) -> Exchange:
    """The exchange that the evidence keeps: its words and its state come from the events.

    Raises:
        ValueError: the evidence is damaged.
    """
    events = events_of(proof)
    question = question_of(proof.kind, proof.port)
    saved = Answer(Echo(proof.state) if proof.kind == "icmp" else PortState(proof.state), proof.reason, proof.by)
    if saved.state in (PortState.OPEN, PortState.CLOSED, Echo.REPLIED) or (saved.by is not None):
        unmeasured = Echo.UNMEASURED if proof.kind == "icmp" else PortState.UNMEASURED
        saved = Answer(unmeasured, "the record shows no answer")
    told = heard(question, proof.address, events, saved)
    return exchange(question, told, proof, tuple(events))


def exchange(question: Question, told: Heard, proof: Evidence, events: tuple[Event, ...]) -> Exchange:
    """The exchange, with a word on the flows of which no evidence was kept."""
    seen = told.observation
    if (left := _KEPT.fullmatch(proof.token)) is not None:
        note = f"The capture holds {left[2]} conversations with this port; the {left[1]} most telling are kept."
        seen = replace(seen, notes=(*seen.notes, note))
    answer = told.answer
    return Exchange(question, answer.state, answer.reason, answer.by, proof.tries, proof.rtt_ms, seen, proof.at, events)
