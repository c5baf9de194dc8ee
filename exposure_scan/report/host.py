"""The view of one address: its doors, what answered, what it is, and how the practices stand there.

Text that came from outside is carried as it is: whoever shows it makes it safe (`text`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from exposure_scan.model import Echo, Finding, Host, Scan

from . import words
from .device import DeviceView, Refs, device_view, refs
from .doubt import Fact, sureness, unsure, vouched, way_facts
from .ports import (
    DoorGroup,
    PortGroup,
    PortRow,
    door_groups,
    door_of,
    door_of_swept,
    port_groups,
    port_row,
    ports_text,
    swept_text,
    tally,
)
from .proof import by_id
from .words import Mark, PracticeText

# Voicemail, admin page, SIP: what the bulletin speaks of, so a reader looks for it even when it is shut.
_WATCHED = frozenset({"tcp/25", "tcp/143", "tcp/8080", "udp/5060", "tcp/5060", "udp/5061", "tcp/5061", "udp/2088"})
_MOST_ROWS = 60  # in the table of ports: a wide scan may find thousands behind a middlebox


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
    evidence: Refs
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
    alive_evidence: Refs
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


def host_view(
    number: int, host: Host, scan: Scan, texts: Mapping[str, PracticeText], shown_ids: Container[str] = ()
) -> HostView:
    """One address of a scan; `shown_ids` are the ids of the evidence that the page holds."""
    doors = {port.key: door_of(port, host, scan) for port in host.ports}
    groups = tuple(door_groups(host, doors))
    told = {key for key, mark in doors.items() if mark in (words.OPEN, words.EXPECTED, words.UNCLEAR)}
    rows = [port for port in host.ports if port.key in told]
    rows += [port for port in host.ports if port.key in _WATCHED and port.key not in told]
    shown = rows[:_MOST_ROWS]
    keys = {port.key for port in shown}
    rest = [port for port in host.ports if port.key not in keys]
    unmeasured = [port for port in host.ports if doors[port.key] is words.UNMEASURED]
    unswept = [group for group in host.swept if door_of_swept(group) is words.UNMEASURED]
    unknown = [ports_text(unmeasured)] * bool(unmeasured) + [swept_text(group.ports) for group in unswept]
    kept = by_id(scan)
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
        alive_evidence=refs(host.alive.evidence, shown_ids),
        devices=tuple(device_view(device, shown_ids) for device in (host.device, *host.also)),
        doors=groups,
        gets_through=bool(through),
        gets_through_tone=through[0].tone if through else "quiet",
        echo={
            Echo.REPLIED: "It answered ping.",
            Echo.SILENT: "Ping got no answer.",
            Echo.UNMEASURED: "Ping was not measured.",
        }[host.echo],
        tally=tally(host, doors),
        way=way_facts(host),
        rows=tuple(port_row(port, doors[port.key], host.address, kept, shown_ids) for port in shown),
        more_rows=len(rows) - len(shown),
        others=tuple(port_groups(rest, host.swept, doors, host.address)),
        unmeasured="; ".join(unknown),
        practices=tuple(_practice(finding, host, texts.get(finding.practice), shown_ids) for finding in findings),
    )


def _doubt(host: Host, scan: Scan) -> str:
    if host.alive.proven:
        return ""
    if vouched(scan):
        return "there by a person's word; nothing answered"
    if scan.site.present is not None:
        return "nothing answered, and the person's word that it is there has expired"
    return "nothing proves that anybody is there"


def _practice(finding: Finding, host: Host, text: PracticeText | None, shown: Container[str]) -> PracticeRow:
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
        evidence=refs(finding.evidence, shown),
        sure=sureness(finding, host),
        unsure=bool(unsure(finding)),
        waived=f"{waived.by} accepted this until {waived.until}: {waived.because}" if waived else "",
    )
