"""The view of a host's ports: doors, rows, and groups of those that came to the same.

Text that came from outside is carried as it is: whoever shows it makes it safe (`text`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from exposure_scan.model import DeviceClass, Echo, Evidence, Host, Port, Scan, Swept, Tls

from . import words
from .device import Refs, foreign, refs
from .words import Mark

_MOST_DOORS = 36  # in one group of the picture
_MOST_NAMES = 8  # of a certificate
_MOST_RANGES = 200
PLAIN_PORTS = 40  # from here on ports are told as ranges


@dataclass(frozen=True, slots=True)
class DoorGroup:
    """Doors in the same state; `labels` is cut and may hold ranges, `number` counts all."""

    mark: Mark
    number: int
    labels: tuple[str, ...]
    more: int  # labels left out


@dataclass(frozen=True, slots=True)
class PortRow:
    """A port that answered or matters. `banner`, `tls`, `product` and `notes` are the network's words."""

    key: str
    mark: Mark
    reason: str
    service: str
    banner: str
    product: str
    tls: tuple[str, ...]
    notes: tuple[str, ...]
    device: str
    evidence: Refs


@dataclass(frozen=True, slots=True)
class PortGroup:
    """The other ports, told together: which, and how they came to be counted so. `many`: too many to count by eye."""

    mark: Mark
    ports: str
    reason: str
    number: int
    many: bool


# --- doors ---------------------------------------------------------------------------------------


def door_of(port: Port, host: Host, scan: Scan) -> Mark:
    """How a port of this scan looks from outside. Voicemail that was moved is expected to be open."""
    moved = {f"tcp/{number}" for number in scan.site.voicemail.values()}
    expected = port.key in scan.site.expect or port.key in moved
    return words.door(port.state, port.reason, expected=expected, blurred=port.key in host.path.blurred)


def door_of_swept(group: Swept) -> Mark:
    """How the ports of a sweep's group look. One that took a connection and was not asked on shows nothing."""
    return words.door(group.state, group.reason, expected=False, blurred=True)


def door_groups(host: Host, doors: Mapping[str, Mark]) -> Iterable[DoorGroup]:
    """The picture of the doors, the most urgent first; ping is one of them."""
    ping = {Echo.REPLIED: words.OPEN, Echo.SILENT: words.SILENT, Echo.UNMEASURED: words.UNMEASURED}[host.echo]
    for mark in words.DOORS:
        ports = [port for port in host.ports if doors[port.key] is mark]
        labels = [_label(port) for port in ports]
        if len(ports) > PLAIN_PORTS and mark not in (words.OPEN, words.EXPECTED):
            labels = _ranges(ports)
        if ping is mark:
            labels.append("ping")
        left = max(len(labels) - _MOST_DOORS, 0)
        labels = labels[:_MOST_DOORS]
        if swept := sum(group.number for group in host.swept if door_of_swept(group) is mark):
            labels.append(f"{swept:,} {'more ' if labels else ''}TCP {'port' if swept == 1 else 'ports'}")
        if labels:
            yield DoorGroup(mark, len(ports) + (ping is mark) + swept, tuple(labels), left)


def _label(port: Port) -> str:
    label = f"{port.key} {port.service.upper()}" if port.service else port.key
    other = foreign(port, "your phone system")
    return f"{label}: {other}" if other else label


def tally(host: Host, doors: Mapping[str, Mark]) -> str:
    """How many ports were asked, and what came of it, in one sentence."""
    return _tally(Counter(doors.values()) + _swept_marks(host), "ports were")


def swept_tally(host: Host) -> str:
    """The same of the sweep alone; empty where there was none."""
    return f"In the sweep, {_tally(_swept_marks(host), 'more TCP ports were')}" if host.swept else ""


def _swept_marks(host: Host) -> Counter[Mark]:
    found: Counter[Mark] = Counter()
    for group in host.swept:
        found[door_of_swept(group)] += group.number
    return found


def _tally(marks: Counter[Mark], many: str) -> str:
    answered = marks[words.OPEN] + marks[words.EXPECTED]
    parts = [f"{answered:,} answered"]
    for mark, word in (
        (words.SHUT, "refused"),
        (words.BLOCKED, "blocked on the way"),
        (words.SILENT, "stayed silent"),
        (words.UNCLEAR, "only seem open"),
        (words.UNMEASURED, "could not be measured"),
    ):
        if number := marks[mark]:
            parts.append(f"{number:,} {word}")
    return f"{words.count(marks.total(), many.replace('ports were', 'port was'), many)} asked: {', '.join(parts)}."


# --- rows ----------------------------------------------------------------------------------------


def reason_text(seen: Port | Swept | Evidence, address: str) -> str:
    """Why a port counts as it does, how often it was asked, and who said so if not the address itself."""
    text = words.REASONS.get(seen.reason, seen.reason)
    if seen.reason == "no-response" and seen.tries:
        text += f" after {words.count(seen.tries, 'try', 'tries')}"
    if seen.by is not None and seen.by != address:
        text += f", said by {seen.by}"
    return text


def port_row(
    port: Port, mark: Mark, address: str, proofs: Mapping[str, Evidence], shown: Container[str] = ()
) -> PortRow:
    """A port of the table; `proofs` is the evidence of the scan, `shown` the ids that the page holds."""
    device = foreign(port, "your phone system")
    if port.device is not None:
        name = device or words.DEVICES[port.device.class_]
        unknown = port.device.class_ is DeviceClass.UNKNOWN
        device = name if unknown else f"{name}, {words.confidence(port.device.confidence)}"
    return PortRow(
        key=port.key,
        mark=mark,
        reason=reason_text(port, address),
        service=(port.service or "").upper(),
        banner=port.banner or "",
        product=port.product or "",
        tls=tuple(tls_lines(port.tls)) if port.tls else (),
        notes=(*port.notes, *tls_refusal(port, proofs)),
        device=device,
        evidence=refs(port.evidence, shown),
    )


def tls_lines(tls: Tls) -> Iterable[str]:
    """All that is known of a session and its certificate, a line each."""
    yield f"Encrypted with {tls.version}{f', {tls.cipher}' if tls.cipher else ''}"
    if tls.subject:
        yield f"Certificate for {tls.subject}"
    if tls.self_signed:
        yield "Made by the device itself (self-signed)"
    elif tls.issuer:
        yield f"Issued by {tls.issuer}"
    if tls.names:
        more = len(tls.names) - _MOST_NAMES
        yield f"Names: {', '.join(tls.names[:_MOST_NAMES])}{f' and {more} more' if more > 0 else ''}"
    if tls.not_before is not None and tls.not_after is not None:
        yield f"Valid from {words.day(tls.not_before)} until {words.day(tls.not_after)}"
    elif tls.not_after is not None:
        yield f"Valid until {words.day(tls.not_after)}"


def tls_refusal(port: Port, proofs: Mapping[str, Evidence]) -> tuple[str, ...]:
    """That the port speaks TLS in a way that OpenSSL here refuses, where the evidence shows it."""
    if port.tls is not None:
        return ()
    steps = (step for id_ in port.evidence if id_ in proofs for step in proofs[id_].steps)
    reasons = dict.fromkeys(step.detail for step in steps if step.what == "not-secured")
    told = [(words.TLS_REFUSALS[reason], reason) for reason in reasons if reason in words.TLS_REFUSALS]
    return tuple(f"{said} ({reason}). No certificate was read." for said, reason in told)


# --- groups --------------------------------------------------------------------------------------


def port_groups(
    ports: Iterable[Port], swept: Iterable[Swept], doors: Mapping[str, Mark], address: str
) -> Iterable[PortGroup]:
    """Ports that came to the same, together; those of a sweep after the others."""
    groups: dict[tuple[str, str], list[Port]] = {}
    for port in ports:
        groups.setdefault((doors[port.key].word, reason_text(port, address)), []).append(port)
    found = []
    for (_, reason), members in groups.items():
        many = len(members) > PLAIN_PORTS
        found.append(PortGroup(doors[members[0].key], ports_text(members), reason, len(members), many))
    for group in swept:
        mark = door_of_swept(group)
        found.append(PortGroup(mark, swept_text(group.ports), reason_text(group, address), group.number, many=True))
    return sorted(found, key=lambda group: words.DOORS.index(group.mark))


def ports_text(ports: Sequence[Port]) -> str:
    """The ports, as ranges where they are many."""
    if len(ports) <= PLAIN_PORTS:
        return ", ".join(port.key for port in ports)
    return _cut(_ranges(ports))


def swept_text(ports: str) -> str:
    """``tcp ports 1-20, 26-52`` for the ranges of a sweep."""
    ranges = ports.split(",", _MOST_RANGES + 1)
    if len(ranges) <= _MOST_RANGES + 1:
        return f"tcp ports {_cut(ranges)}"
    return f"tcp ports {', '.join(ranges[:_MOST_RANGES])} and {ranges[-1].count(',') + 2:,} more ranges"


def _cut(ranges: Sequence[str]) -> str:
    more = len(ranges) - _MOST_RANGES
    return ", ".join(ranges[:_MOST_RANGES]) + (f" and {more:,} more ranges" if more > 0 else "")


def _ranges(ports: Iterable[Port]) -> list[str]:
    """``tcp/1-24`` for neighbours that share a transport."""
    runs: list[list[int]] = []
    names: list[str] = []
    for transport, number in sorted((port.transport, port.port) for port in ports):
        if names and names[-1] == transport and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            names.append(transport)
            runs.append([number, number])
    return [f"{name}/{a}" if a == b else f"{name}/{a}-{b}" for name, (a, b) in zip(names, runs, strict=True)]
