"""The view of one address: its doors, what answered, what it is, and how the practices stand there.

Text that came from outside is carried as it is: whoever shows it makes it safe (`text`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exposure_scan.model import Device, DeviceClass, Echo, Finding, Host, Port, Scan

from . import words
from .doubt import Fact, sureness, unsure, vouched, way_facts
from .words import Mark, PracticeText

# Voicemail, admin page, SIP: what the bulletin speaks of, so a reader looks for it even when it is shut.
_WATCHED = frozenset({"tcp/25", "tcp/143", "tcp/8080", "udp/5060", "tcp/5060", "udp/5061", "tcp/5061", "udp/2088"})
_MOST_DOORS = 36  # in one group of the picture
_MOST_ROWS = 60  # in the table of ports: a wide scan may find thousands behind a middlebox
_MOST_EVIDENCE = 12
_PLAIN_PORTS = 40  # from here on ports are told as ranges


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


@dataclass(frozen=True, slots=True)
class PortGroup:
    """The other ports, told together: which, and how they came to be counted so."""

    mark: Mark
    ports: str
    reason: str
    number: int


@dataclass(frozen=True, slots=True)
class Support:
    """A fingerprint that speaks for a device."""

    fingerprint: str
    says: str
    confidence: str
    field: str
    value: str
    heuristic: bool


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device in words."""

    name: str
    how: str
    declared: bool
    detail: str
    support: tuple[Support, ...]


@dataclass(frozen=True, slots=True)
class PracticeRow:
    """A practice as it stands on one host."""

    id: str
    mark: Mark
    title: str
    severity: str
    because: str
    remedy: str
    why: str
    part: str
    menu_path: str
    known: str
    evidence: str
    sure: str  # what would have to go wrong for it to be wrong; empty where nothing was measured
    unsure: bool
    waived: str


@dataclass(frozen=True, slots=True)
class HostView:
    """One address."""

    number: int
    address: str
    names: tuple[str, ...]
    doubt: str  # empty where the host is proven alive
    alive_by: str
    devices: tuple[DeviceView, ...]
    doors: tuple[DoorGroup, ...]
    gets_through: bool
    gets_through_tone: str
    echo: str
    tally: str
    way: tuple[Fact, ...]
    rows: tuple[PortRow, ...]
    more_rows: int
    others: tuple[PortGroup, ...]
    unmeasured: str
    practices: tuple[PracticeRow, ...]


def host_view(number: int, host: Host, scan: Scan, texts: Mapping[str, PracticeText]) -> HostView:
    """One address of a scan."""
    doors = {port.key: door_of(port, host, scan) for port in host.ports}
    groups = tuple(_door_groups(host, doors))
    told = {key for key, mark in doors.items() if mark in (words.OPEN, words.EXPECTED, words.UNCLEAR)}
    rows = [port for port in host.ports if port.key in told]
    rows += [port for port in host.ports if port.key in _WATCHED and port.key not in told]
    shown = rows[:_MOST_ROWS]
    keys = {port.key for port in shown}
    rest = [port for port in host.ports if port.key not in keys]
    unmeasured = [port for port in host.ports if doors[port.key] is words.UNMEASURED]
    answers = [group.mark for group in groups]
    through = [mark for mark in (words.OPEN, words.EXPECTED, words.UNCLEAR, words.SHUT) if mark in answers]
    order = list(words.STATUSES)
    findings = sorted((f for f in scan.findings if f.host == host.address), key=lambda f: order.index(f.status))
    return HostView(
        number=number,
        address=host.address,
        names=host.names,
        doubt=_doubt(host, scan),
        alive_by=host.alive.by,
        devices=tuple(device_view(device) for device in (host.device, *host.also)),
        doors=groups,
        gets_through=bool(through),
        gets_through_tone=through[0].tone if through else "quiet",
        echo={
            Echo.REPLIED: "It answered ping.",
            Echo.SILENT: "Ping got no answer.",
            Echo.UNMEASURED: "Ping was not measured.",
        }[host.echo],
        tally=_tally(list(doors.values())),
        way=way_facts(host),
        rows=tuple(_row(port, doors[port.key], host.address) for port in shown),
        more_rows=len(rows) - len(shown),
        others=tuple(_port_groups(rest, doors, host.address)),
        unmeasured=_ports_text(unmeasured),
        practices=tuple(_practice(finding, host, texts.get(finding.practice)) for finding in findings),
    )


def _doubt(host: Host, scan: Scan) -> str:
    if host.alive.proven:
        return ""
    if vouched(scan):
        return "there by a person's word; nothing answered"
    if scan.site.present is not None:
        return "nothing answered, and the person's word that it is there has expired"
    return "nothing proves that anybody is there"


def door_of(port: Port, host: Host, scan: Scan) -> Mark:
    """How a port of this scan looks from outside. Voicemail that was moved is expected to be open."""
    moved = {f"tcp/{number}" for number in scan.site.voicemail.values()}
    expected = port.key in scan.site.expect or port.key in moved
    return words.door(port, expected=expected, blurred=port.key in host.path.blurred)


def _door_groups(host: Host, doors: Mapping[str, Mark]) -> Iterable[DoorGroup]:
    ping = {Echo.REPLIED: words.OPEN, Echo.SILENT: words.SILENT, Echo.UNMEASURED: words.UNMEASURED}[host.echo]
    for mark in words.DOORS:
        ports = [port for port in host.ports if doors[port.key] is mark]
        labels = [f"{port.key} {port.service.upper()}" if port.service else port.key for port in ports]
        if len(ports) > _PLAIN_PORTS and mark not in (words.OPEN, words.EXPECTED):
            labels = _ranges(ports)
        if ping is mark:
            labels.append("ping")
        if labels:
            number = len(ports) + (ping is mark)
            yield DoorGroup(mark, number, tuple(labels[:_MOST_DOORS]), max(len(labels) - _MOST_DOORS, 0))


def _tally(marks: Sequence[Mark]) -> str:
    """How many ports were asked, and what came of it, in one sentence."""
    answered = sum(mark in (words.OPEN, words.EXPECTED) for mark in marks)
    parts = [f"{answered} answered"]
    for mark, word in (
        (words.SHUT, "refused"),
        (words.BLOCKED, "blocked on the way"),
        (words.SILENT, "stayed silent"),
        (words.UNCLEAR, "only seem open"),
        (words.UNMEASURED, "could not be measured"),
    ):
        if number := marks.count(mark):
            parts.append(f"{number} {word}")
    return f"{words.count(len(marks), 'port was', 'ports were')} asked: {', '.join(parts)}."


def reason_text(port: Port, address: str) -> str:
    """Why a port counts as it does, how often it was asked, and who said so if not the address itself."""
    text = words.REASONS.get(port.reason, port.reason)
    if port.reason == "no-response" and port.tries:
        text += f" after {words.count(port.tries, 'try', 'tries')}"
    if port.by is not None and port.by != address:
        text += f", said by {port.by}"
    return text


def _row(port: Port, mark: Mark, address: str) -> PortRow:
    tls: list[str] = []
    if port.tls is not None:
        tls.append(port.tls.version + (", certificate made by the device itself" if port.tls.self_signed else ""))
        if port.tls.subject:
            tls.append(f"certificate for {port.tls.subject}")
        if port.tls.not_after is not None:
            tls.append(f"valid until {words.day(port.tls.not_after)}")
    device = port.device
    return PortRow(
        key=port.key,
        mark=mark,
        reason=reason_text(port, address),
        service=(port.service or "").upper(),
        banner=port.banner or "",
        product=port.product or "",
        tls=tuple(tls),
        notes=port.notes,
        device="" if device is None else f"{words.DEVICES[device.class_]}, {words.confidence(device.confidence)}",
    )


def _port_groups(ports: Iterable[Port], doors: Mapping[str, Mark], address: str) -> Iterable[PortGroup]:
    groups: dict[tuple[str, str], list[Port]] = {}
    for port in ports:
        groups.setdefault((doors[port.key].word, reason_text(port, address)), []).append(port)
    order = [mark.word for mark in words.DOORS]
    for (_, reason), members in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        yield PortGroup(doors[members[0].key], _ports_text(members), reason, len(members))


def _ports_text(ports: Sequence[Port]) -> str:
    if len(ports) <= _PLAIN_PORTS:
        return ", ".join(port.key for port in ports)
    ranges = _ranges(ports)
    return ", ".join(ranges[:200]) + (f" and {len(ranges) - 200} more ranges" if len(ranges) > 200 else "")


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


def device_view(device: Device) -> DeviceView:
    """A device in words: what, how surely, and which fingerprints say so."""
    how = words.confidence(device.confidence)
    if device.declared:
        how = "declared by the operator; the scan did not show it"
    elif device.class_ is DeviceClass.UNKNOWN:
        how = "nothing that answered tells what it is"
    detail = ", ".join(
        text
        for text in (
            f"model {device.model}" if device.model else "",
            f"software {device.version}" if device.version else "",
        )
        if text
    )
    return DeviceView(
        name=words.DEVICES[device.class_],
        how=how,
        declared=device.declared,
        detail=detail,
        support=tuple(
            Support(
                one.fingerprint,
                words.DEVICES[one.says],
                words.confidence(one.confidence),
                one.field,
                one.value,
                one.heuristic,
            )
            for one in device.support
        ),
    )


def _practice(finding: Finding, host: Host, text: PracticeText | None) -> PracticeRow:
    evidence = ", ".join(finding.evidence[:_MOST_EVIDENCE])
    if len(finding.evidence) > _MOST_EVIDENCE:
        evidence += f" and {len(finding.evidence) - _MOST_EVIDENCE} more"
    waived = finding.waived
    return PracticeRow(
        id=finding.practice,
        mark=words.STATUSES[finding.status],
        title=finding.title,
        severity=words.SEVERITIES[finding.severity],
        because=finding.because,
        remedy=finding.remedy,
        why=text.why if text else "",
        part=text.part if text else "",
        menu_path=text.menu_path if text else "",
        known=words.KNOWN.get(text.known, "") if text else "",
        evidence=evidence,
        sure=sureness(finding, host),
        unsure=bool(unsure(finding)),
        waived=f"{waived.by} accepted this until {waived.until}: {waived.because}" if waived else "",
    )
