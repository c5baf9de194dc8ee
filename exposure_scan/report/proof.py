"""The evidence that a page shows: what the shown claims cite, the weightiest first, and bounded.

What is left out stands in the JSON under the same number. Text that came from outside is carried as it
is: whoever shows it makes it safe (`text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from exposure_scan.model import Evidence, Host, PortState, Scan, Status, Support
from exposure_scan.model.ranges import joined_ranges, read_ranges

from . import words
from .device import MOST_SUPPORTS
from .ports import reason_text, swept_text

_MOST = 24  # for each address
_MOST_TEXT = 14_000  # characters of sent and received for each address
_LONGEST = 400  # characters of what was sent, and of what was received
_BEFORE, _AFTER = 30, 170  # characters around what a claim rests on, where it lies behind them
_MOST_RANGES = 6  # of frames
_ID = re.compile(r"e[0-9]{1,9}")  # what the scanner writes; anything else in a saved scan becomes no anchor
_ORDER = (
    Status.NOT_MET,
    Status.CANNOT_TELL,
    Status.MET,
    Status.DECLARED,
    Status.UNDECLARED,
    Status.NOT_APPLICABLE,
)


@dataclass(frozen=True, slots=True)
class Capture:
    """What is told of a capture: its file in evidence.zip, how it came about, and what its frame numbers mean."""

    file: str
    made: str
    numbers: str


CAPTURES: Mapping[str, Capture] = MappingProxyType(
    {
        "wire": Capture(
            "capture.pcap", "seen on the wire", "The frame numbers are those of capture.pcap in evidence.zip."
        ),
        "transcript": Capture(
            "transcript.pcap",
            "rebuilt from the record (transcript)",
            "The frame numbers are those of transcript.pcap in evidence.zip. It was rebuilt from what the sockets "
            "said and saw: headers and times of the handshake are not observed.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One conversation as the page shows it. Empty `sent` and `received`: nothing went that way."""

    id: str
    port: str
    probe: str
    at: str
    state: str
    notes: tuple[str, ...]
    sent: str
    received: str
    address: str
    frames: str  # "frames 40-58" of the capture; empty where there is none


@dataclass(frozen=True, slots=True)
class Proofs:
    """The evidence of a page, in the order of asking, and how many cited pieces were left out."""

    shown: tuple[Proof, ...]
    more: int
    numbers: str  # what the frame numbers mean; empty where none is shown

    @property
    def ids(self) -> frozenset[str]:
        """The ids that can be linked."""
        return frozenset(proof.id for proof in self.shown)


def proofs(scan: Scan) -> Proofs:
    """What a page shows of the evidence of a scan."""
    kept = by_id(scan)
    shown: dict[str, None] = {}
    more = 0
    for host in scan.hosts:
        room, text = _MOST, _MOST_TEXT
        for id_ in dict.fromkeys(_cited(host, scan)):
            if id_ not in kept or id_ in shown:
                continue
            size = min(len(kept[id_].sent), _LONGEST) + min(len(kept[id_].received), _LONGEST)
            if not _ID.fullmatch(id_) or room < 1 or text < size:
                more += 1
                continue
            shown[id_] = None
            room, text = room - 1, text - size
    values = _values(scan)
    found = tuple(_proof(proof, values.get(id_, ()), scan) for id_, proof in kept.items() if id_ in shown)
    numbers = CAPTURES[scan.capture].numbers if any(proof.frames for proof in found) else ""
    return Proofs(found, more, numbers)


def by_id(scan: Scan) -> Mapping[str, Evidence]:
    """The evidence by its id; the first where a damaged scan has one twice."""
    found: dict[str, Evidence] = {}
    for proof in scan.evidence:
        found.setdefault(proof.id, proof)
    return found


def _supports(host: Host) -> Iterable[Support]:
    for device in (host.device, *host.also):
        yield from device.support[:MOST_SUPPORTS]
        yield from device.against[:MOST_SUPPORTS]


def _cited(host: Host, scan: Scan) -> Iterable[str]:
    """What the claims about a host cite, the weightiest claim first."""
    for support in _supports(host):
        yield from support.evidence
    yield from host.alive.evidence
    weights = list(words.SEVERITIES)
    found = [finding for finding in scan.findings if finding.host == host.address]
    for finding in sorted(found, key=lambda one: (_ORDER.index(one.status), weights.index(one.severity))):
        yield from finding.evidence
    for port in host.ports:
        if port.device is not None or port.state is PortState.OPEN:
            yield from port.evidence


def _values(scan: Scan) -> Mapping[str, tuple[str, ...]]:
    """What fingerprints found in each piece of evidence."""
    found: dict[str, tuple[str, ...]] = {}
    for host in scan.hosts:
        for support in _supports(host):
            for id_ in support.evidence:
                found[id_] = (*found.get(id_, ()), support.value)
    return found


def _proof(proof: Evidence, values: tuple[str, ...], scan: Scan) -> Proof:
    port = "ping" if proof.kind == "icmp" else f"{proof.kind}/{proof.port}"
    state = words.PROOF_STATES.get(proof.state, proof.state)
    return Proof(
        id=proof.id,
        port=swept_text(proof.ports) if proof.ports else port,
        probe=words.PROBES.get(proof.probe, proof.probe) + words.PURPOSES.get(proof.purpose, ""),
        at=words.instant(proof.at),
        state=f"{state}: {reason_text(proof, proof.address)}" if proof.reason else state,
        notes=tuple(_notes(proof)),
        sent=_cut(proof.sent, ()),
        received=_cut(proof.received, values),
        address=proof.address,
        frames=frames_of((proof,), scan),
    )


def frames_of(pieces: Iterable[Evidence], scan: Scan) -> str:
    """``frames 12-18, 40``: where the pieces stand in the capture; empty where there is none.

    Numbers that are damaged count as none, and many ranges are cut and counted.
    """
    found: list[range] = []
    for piece in pieces if scan.capture in CAPTURES else ():
        try:
            found += read_ranges(piece.frames)
        except ValueError:
            continue
    frames = joined_ranges(found)
    return f"{'frame' if sum(map(len, frames)) == 1 else 'frames'} {_ranges(frames)}" if frames else ""


def _ranges(frames: Sequence[range]) -> str:
    dash = "\N{EN DASH}"
    shown = [str(one.start) if len(one) == 1 else f"{one.start}{dash}{one.stop - 1}" for one in frames[:_MOST_RANGES]]
    more = len(frames) - _MOST_RANGES
    return ", ".join(shown) + (f" and {words.count(more, 'more range', 'more ranges')}" if more > 0 else "")


def _notes(proof: Evidence) -> Iterable[str]:
    for step in proof.steps:
        if step.what == "secured":
            version = step.detail.split(" ", 1)[0]
            yield f"secured with {version}: what follows is the plain text inside"
        elif step.what == "not-secured":
            yield f"TLS did not come about: {step.detail}"


def _cut(text: str, values: tuple[str, ...]) -> str:
    """The beginning, and the places of `values` where they lie behind it."""
    if len(text) <= _LONGEST:
        return text
    pieces, end = [text[:_LONGEST]], _LONGEST
    for at in sorted(text.find(value[:60].rstrip()) for value in values if value.strip()):
        if at + 20 > end:
            start = max(at - _BEFORE, end)
            end = min(at + _AFTER, len(text))
            pieces.append(text[start:end])
    left = len(text) - sum(map(len, pieces))
    return " … ".join(pieces) + (f" … ({left:,} characters more)" if left else "")
